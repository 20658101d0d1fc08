"""Words that are asked of have a trusted time and a token of each encoder; others are counted."""

import numpy as np
import pytest

from pipeline.corpus.word_spans import owners
from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.hearing.clips import read_clips
from pipeline.tasks.hearing.words import Spoken, asked_words, read_spoken, word_vectors
from tests.helpers.hearing import speech, word_cache


def spoken(text, words=None, trusted=None, row=0):
    words = words or text.split()
    start = np.arange(len(words)) / 2
    trusted = np.array(trusted or [1] * len(words), bool)
    return Spoken(words, start, start + 0.4, trusted, row, owners(text, words))


def test_each_reason_is_counted():
    clips = [
        spoken("Well, well said", trusted=[1, 0, 1], row=10),
        spoken("one two", ["one", "three"], row=13),
        spoken("so – so", row=15),
    ]
    words = asked_words(clips, [[{0, 1, 2}, {0, 1}, {0, 1, 2}], [{0, 2}, {0, 1}, {0}]], "CACHE")
    assert words.texts == ["Well,", "said", "so"]
    assert words.clip_W.tolist() == [0, 0, 2]
    assert words.number_W.tolist() == [0, 2, 0]
    assert words.row_W.tolist() == [10, 12, 15]
    assert words.type_W.tolist() == [0, 1, 2]
    assert np.isnan(words.pause_W).all()  # the word before the second has no time to trust
    for part in (
        "3 words of 8",
        "2 of clips whose words",
        "1 without a trusted",
        "2 that some enc",
    ):
        assert part in words.omissions


def test_words_alone_without_a_time_or_a_token_are_refused():
    with pytest.raises(SpeechkdError, match=r"none of the 2 words .* 2 without a trusted time"):
        asked_words([spoken("one two", trusted=[0, 0])], [[{0, 1}]], "CACHE")
    with pytest.raises(SpeechkdError, match="no token of"):
        asked_words([spoken("one two")], [[set()]], "CACHE")


def test_words_and_vectors_are_those_of_the_clips_in_any_order(tmp_path):
    one = speech(30)
    cache = word_cache(tmp_path / "words", one)
    order = [25, 3, 17]
    clips = [read_clips(cache)[place] for place in order]
    told = read_spoken(cache, clips)
    assert [" ".join(clip.texts) for clip in told] == [one.texts[place] for place in order]
    words = asked_words(told, [[set(range(20))] * 3], "CACHE")
    vectors = np.concatenate([one.words[place] for place in order])
    np.testing.assert_allclose(word_vectors(cache, words), vectors, atol=2e-3)  # float16 in it
    np.testing.assert_allclose(words.end_W - words.start_W, 0.3)
