"""Every clip keeps its own text and vector, and no recording is on both sides of the split."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cache.store import TeacherCache
from pipeline.corpus.corpus import (
    read_corpus,
    split_by_recording,
)
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.memory import Room
from tests.helpers.caches import make_cache, samples_of, vectors_of, wordpiece


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> TeacherCache:
    return make_cache(tmp_path_factory.mktemp("corpus") / "cache", [40, 300, 20])


@pytest.fixture(scope="module")
def tokenizer(cache):
    return wordpiece(cache)


def read(cache, tokenizer, **changes):
    options = {"max_tokens": 32, "held_out_share": 0.1, "seed": 0, **changes}
    return read_corpus(cache, tokenizer, **options)


def test_every_clip_has_its_own_text_and_vector(cache, tokenizer):
    corpus = read(cache, tokenizer)
    samples, vectors = samples_of(cache), vectors_of(cache)
    assert len(corpus) == len(samples) == 360
    np.testing.assert_array_equal(corpus.row_C, samples.rows)
    np.testing.assert_array_equal(corpus.vectors.of(torch.arange(360)), vectors)
    packed = corpus.tokens_of(torch.arange(360))
    for clip, ids in enumerate(packed.ids_N.split(packed.lengths_B.tolist())):
        assert ids.tolist() == tokenizer(samples.texts[clip])["input_ids"]
    some = torch.tensor([359, 0, 77])
    wanted = [i for c in some for i in tokenizer(samples.texts[c])["input_ids"]]
    assert corpus.tokens_of(some).ids_N.tolist() == wanted


def test_same_recording_same_number(cache, tokenizer):
    corpus, names = read(cache, tokenizer), samples_of(cache).recordings
    numbers = corpus.recording_C.tolist()
    assert len(set(zip(names, numbers, strict=True))) == len(set(names)) == len(set(numbers))


def test_long_texts_are_cut_and_counted(cache, tokenizer):
    corpus = read(cache, tokenizer, max_tokens=8)
    lengths = [len(tokenizer(text)["input_ids"]) for text in samples_of(cache).texts]
    assert corpus.truncated == sum(n > 8 for n in lengths) > 0
    assert corpus.lengths_C.tolist() == [min(n, 8) for n in lengths]
    packed = corpus.tokens_of(torch.arange(len(corpus)))
    ends = packed.ids_N[packed.lengths_B.cumsum(0) - 1]
    assert (ends == tokenizer.sep_token_id).all(), "the closing token stays"


def test_ids_beyond_int16_survive(cache, tokenizer):
    corpus = read(cache, tokenizer)
    wide = replace(
        corpus, ids_N=torch.tensor([65_535, 40_000, 5]).to(torch.uint16).view(torch.int16)
    )
    wide = replace(wide, starts_C=torch.tensor([0]), lengths_C=torch.tensor([3]))
    assert wide.tokens_of(torch.tensor([0])).ids_N.tolist() == [65_535, 40_000, 5]


def test_a_recording_is_never_on_both_sides(cache, tokenizer):
    corpus = read(cache, tokenizer)
    train, held_out = corpus.train, corpus.held_out
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(360))
    assert 36 <= len(held_out) < 36 + 4, "recordings have four clips"
    assert not set(corpus.recording_C[train].tolist()) & set(corpus.recording_C[held_out].tolist())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-1, 6), min_size=2, max_size=40),
    st.floats(0, 0.5),
    st.integers(0, 3),
)
def test_split_holds_its_promises(recordings, share, seed):
    recording_C = torch.tensor(recordings)
    train, held_out = split_by_recording(recording_C, share, seed)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(len(recordings)))
    assert len(held_out) <= len(recordings) / 2
    known = {r for r in recordings if r >= 0}
    sides = [{r for r in recording_C[side].tolist() if r >= 0} for side in (train, held_out)]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == known
    if share == 0:
        assert len(held_out) == 0


def test_shuffled_control_gives_every_clip_another_ones_vector(cache, tokenizer):
    real, shuffled = read(cache, tokenizer), read(cache, tokenizer, control="shuffled")
    every = torch.arange(360)
    own_CE, other_CE = real.vectors.of(every), shuffled.vectors.of(every)
    assert not (own_CE == other_CE).all(1).any()
    assert own_CE.sort(0).values.equal(other_CE.sort(0).values)
    assert other_CE.equal(read(cache, tokenizer, control="shuffled").vectors.of(every))


@pytest.mark.parametrize("control", ["real", "shuffled", "random"])
def test_where_things_are_changes_nothing(cache, tokenizer, control):
    loaded = read(cache, tokenizer, control=control)
    mapped = read(cache, tokenizer, control=control, room=Room(0, 0))
    assert "mapped" in mapped.where
    assert "mapped" not in loaded.where
    every = torch.arange(360)
    assert mapped.vectors.of(every).equal(loaded.vectors.of(every))
    assert mapped.tokens_of(every).ids_N.equal(loaded.tokens_of(every).ids_N)
    for name in ("starts_C", "lengths_C", "row_C", "recording_C", "train", "held_out"):
        assert getattr(mapped, name).equal(getattr(loaded, name))


def test_tokens_come_before_vectors_where_room_is_short(cache, tokenizer):
    tokens = int(read(cache, tokenizer).lengths_C.sum()) * 2 + 360 * 5 * 8
    short = read(cache, tokenizer, room=Room(0, tokens + 100))
    assert re.fullmatch(r"tokens \S+ GB in memory, vectors \S+ GB memory-mapped .*", short.where)


def test_training_without_a_teacher_reads_no_vectors(tmp_path, tokenizer):
    cache = make_cache(tmp_path / "cache", [20])
    corpus = read(cache, tokenizer, with_vectors=False)
    assert corpus.vectors.of(torch.arange(5)).shape == (5, 0)
    assert not list((tmp_path / "cache.prepared").glob("vectors*"))


def test_unfinished_cache_is_refused(tmp_path, tokenizer):
    cache = make_cache(tmp_path / "cache", [5, 5])
    cache.folder.path.joinpath("receipts/000001.json").unlink()
    with pytest.raises(SpeechkdError, match="1 of 2 shards are not finished"):
        read(TeacherCache.open(tmp_path / "cache"), tokenizer)


@pytest.mark.parametrize("control", ["real", "shuffled", "random"])
def test_vectors_go_onto_a_device_and_tokens_stay(cache, tokenizer, control):
    """`meta` stands for a device, as far as places go."""
    meta = torch.device("meta")
    room = Room(10**9, 10**9)
    corpus = read(cache, tokenizer, control=control, device=meta, room=room)
    assert corpus.where.startswith("tokens 0.00 GB in memory, vectors ")
    assert ("on meta" in corpus.where) == (control != "random")
    for name in ("ids_N", "starts_C", "lengths_C", "row_C", "recording_C", "train", "held_out"):
        assert getattr(corpus, name).device.type == "cpu", name
    assert corpus.vectors.of(torch.tensor([3, 1])).device == meta
    no_room = read(cache, tokenizer, control=control, device=meta, room=Room(100, 10**9))
    assert "on meta" not in no_room.where
    assert no_room.vectors.of(torch.tensor([3, 1])).device == meta
