"""CMU-MOSEI's clips: values, splits and folds are checked, and what is left out is counted."""

import math
from dataclasses import replace

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.mosei.clips import MoseiClip, check_splits, tidy, with_folds


def clip(video="v", number=0, split="train", text="so it goes", sentiment=1.0, **more):
    return MoseiClip(video, str(number), split, text, sentiment, **more)


def test_values_beyond_the_scale_are_clamped_and_counted():
    wild = clip(sentiment=5.0, emotions=(4.0, 0, 0, -1.0, 3.0, math.nan), start_s=-0.4875)
    corpus = tidy([wild], "here")
    assert corpus.clips[0].sentiment == 3
    assert corpus.clips[0].emotions[:5] == (3, 0, 0, 0, 3)
    assert math.isnan(corpus.clips[0].emotions[5])
    assert corpus.clips[0].start_s == 0
    assert corpus.notes == {
        "sentiment values beyond ±3, clamped": 1,
        "emotion values beyond 0 to 3, clamped": 2,
        "negative start times, set to 0": 1,
    }


def test_clips_without_text_or_label_are_left_out_and_counted():
    corpus = tidy([clip(), clip(number=1, text=" \n"), clip(number=2, sentiment=math.nan)], "here")
    assert [c.clip_id for c in corpus.clips] == ["0"]
    assert sorted(corpus.notes.values()) == [1, 1]


def test_nothing_left_is_an_error_that_says_why():
    with pytest.raises(SpeechkdError, match="clips without text, left out: 1"):
        tidy([clip(text="")], "here")


def test_a_video_in_two_splits_is_an_error():
    corpus = tidy([clip(), clip(number=1, split="test")], "here")
    with pytest.raises(SpeechkdError, match=r"here: video v is both in train and in test"):
        check_splits(corpus.clips, "here")


def test_a_clip_listed_twice_is_an_error():
    with pytest.raises(SpeechkdError, match=r"v\[0\] among them"):
        tidy([clip(), clip()], "here")


def test_folds_are_by_video_and_strays_are_counted():
    corpus = tidy([clip("a"), clip("b"), clip("c")], "here")
    folded = with_folds(corpus, {"a": "test", "b": "valid", "z": "train"}, "folds.json")
    assert [c.split for c in folded.clips] == ["test", "valid", ""]
    assert folded.counts() == {"train": 0, "valid": 1, "test": 1, "none": 1}
    assert folded.notes["clips of videos in no fold"] == 1
    assert folded.notes["videos in the folds that have no clip"] == 1


def test_folds_of_another_corpus_are_refused():
    with pytest.raises(SpeechkdError, match=r"folds.json names none of the 1 videos in here"):
        with_folds(tidy([clip("a")], "here"), {"z": "train"}, "folds.json")


def test_the_digest_changes_with_each_thing_that_matters():
    first = tidy([clip()], "here")
    assert tidy([clip()], "elsewhere").sha256 == first.sha256
    for changed in ("video_id", "clip_id", "text"):
        assert tidy([replace(clip(), **{changed: "other"})], "here").sha256 != first.sha256
    assert tidy([clip(split="test")], "here").sha256 != first.sha256
    assert tidy([clip(sentiment=1.5)], "here").sha256 != first.sha256
