"""Each word has its own vector, or exactly the one that a control gives it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.cache.sequences import SequenceReader
from pipeline.corpus.batches import Batches
from pipeline.corpus.corpus import read_corpus
from pipeline.corpus.masking import Masking
from pipeline.corpus.word_corpus import read_words
from pipeline.corpus.word_vectors import read_rows
from tests.helpers.caches import make_sequence_cache, wordpiece
from tests.helpers.word_caches import make_word_cache

CLIPS = [
    ("the cat sat far away", None, "11011"), ("a dog ran", None, "111"), ("red lamps", None, "11"),
    ("the blue dog sat under it", None, "111111"), ("cat", None, "1"), ("far away", None, "00"),
]  # fmt: skip


def load(cache, **changes):
    tokenizer = wordpiece(cache)
    corpus = read_corpus(
        cache, tokenizer, max_tokens=32, held_out_share=0.0, seed=0, with_vectors=False
    )
    options = {"max_tokens": 32, "seed": 0, **changes}
    return corpus, tokenizer, read_words(cache, corpus, cache, tokenizer, **options).words


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_word_cache(tmp_path_factory.mktemp("words") / "cache", CLIPS)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    return make_sequence_cache(folder / "cache", [60, 40], "words", most_rows=40)


def stored(cache):
    """Every row by its number, read with Zarr alone."""
    import zarr

    return zarr.open_group(str(cache.folder.path), mode="r")["rows"]


def rows_of(cache, vectors_WE):
    """The row of the cache that each vector is."""
    rows = np.asarray(stored(cache)[:], np.float32)
    return [int(np.flatnonzero((rows == v.numpy()).all(1))[0]) for v in vectors_WE]


def test_a_word_has_its_own_vector_and_its_own_tokens(small):
    corpus, tokenizer, words = load(small)
    clips = torch.tensor([3, 0, 5, 2])
    word_W, place_W = words.of(clips)
    assert place_W.tolist() == [0] * 6 + [1] * 4 + [3] * 2, "an untrusted word is nobody's"
    table = words.table
    assert rows_of(small, words.vectors(word_W)) == table.row_V[word_W].tolist()
    packed = corpus.tokens_of(clips)
    spoken = [CLIPS[c][0].split() for c in clips.tolist()]
    taught = [[w for w, mark in zip(s, CLIPS[c][2], strict=True) if mark == "1"]
              for s, c in zip(spoken, clips.tolist(), strict=True)]  # fmt: skip
    for word, place, text in zip(word_W, place_W, sum(taught, []), strict=True):  # noqa: RUF017
        first = int(packed.starts_B[place] + table.first_V[word])
        ids = packed.ids_N[first : first + int(table.tokens_V[word])].tolist()
        assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_shuffled_words_are_those_of_another_clip_each_clips_taken_once(large):
    _, _, words = load(large, control="shuffled")
    every = torch.arange(100)
    word_W, place_W = words.of(every)
    clip_of_row = np.searchsorted(
        SequenceReader(large).clips.row, rows_of(large, words.vectors(word_W)), side="right"
    ) - 1  # fmt: skip
    givers = {}
    for place, giver in zip(place_W.tolist(), clip_of_row.tolist(), strict=True):
        assert givers.setdefault(place, giver) == giver != place
    assert sorted(givers.values()) == list(range(100))


def test_words_exchanged_within_a_clip_stay_in_it_and_none_keeps_its_own(large):
    _, _, words = load(large, control="shuffled-words")
    every = torch.arange(100)
    word_W, place_W = words.of(every)
    given = torch.tensor(rows_of(large, words.vectors(word_W)))
    mine = words.table.row_V[word_W]
    assert not (given == mine).any()
    for clip in place_W.unique():
        here = place_W == clip
        assert sorted(given[here].tolist()) == sorted(mine[here].tolist()), "the mean is the same"
    few = words.of(torch.tensor([41, 7]))[0]
    again = words.vectors(few)
    whole = dict(zip(word_W.tolist(), words.vectors(word_W), strict=True))
    assert all(v.equal(whole[w]) for w, v in zip(few.tolist(), again, strict=True))


def test_a_word_alone_in_its_clip_has_nobody_to_exchange_with(small):
    _, _, words = load(small, control="shuffled-words")
    assert words.counts(torch.arange(6)).tolist() == [4, 3, 2, 6, 0, 0]
    _, _, real = load(small)
    assert real.counts(torch.arange(6)).tolist() == [4, 3, 2, 6, 1, 0]


def test_random_vectors_have_the_mean_and_spread_of_the_words(large):
    _, _, words = load(large, control="random")
    vectors = words.vectors(words.of(torch.arange(100))[0]).double()
    statistics = large.statistics()
    np.testing.assert_allclose(
        vectors.mean(0).numpy(),
        statistics.mean_E,
        atol=5 * max(statistics.std_E) / len(vectors) ** 0.5,
    )
    np.testing.assert_allclose(vectors.std(0).numpy(), statistics.std_E, rtol=0.15)


@pytest.mark.parametrize("take", ["within-speaker", "within-word"])
def test_what_a_group_has_in_common_is_taken_away(large, take):
    _, _, words = load(large, take=take)
    clips = SequenceReader(large).clips
    word_W, place_W = words.of(torch.arange(100))
    raw = np.asarray(stored(large)[:], np.float64)[words.table.row_V[word_W]]
    group = (
        [clips.speaker[p] for p in place_W.tolist()]
        if take == "within-speaker"
        else [w["text"] for c in clips.words for w in c]
    )
    wanted = np.stack(
        [raw[i] - raw[[g == group[i] for g in group]].mean(0) for i in range(len(raw))]
    )
    np.testing.assert_allclose(words.vectors(word_W), wanted, atol=1e-3)
    np.testing.assert_allclose(words.statistics.std_E, wanted.std(0), rtol=1e-3)
    assert not words.statistics.mean_E.any()


def test_a_shuffled_word_loses_the_mean_of_the_speaker_that_it_came_from(large):
    """The other way round who said it would be told by what is left."""
    _, _, own = load(large, take="within-speaker")
    _, _, other = load(large, take="within-speaker", control="shuffled")
    every = torch.arange(100)
    mine = {tuple(v.tolist()) for v in own.vectors(own.of(every)[0])}
    assert all(tuple(v.tolist()) in mine for v in other.vectors(other.of(every)[0]))


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_rows_are_read_once_each_in_any_order(tmp_path, dtype):
    cache = make_sequence_cache(tmp_path / "cache", [9], "words", most_rows=40, dtype=dtype)
    reader = SequenceReader(cache)
    whole = reader.values(np.arange(9)).float()
    order = torch.randint(0, len(whole), (200,), generator=torch.Generator().manual_seed(0))
    asked = []
    real = reader.read
    reader.read = lambda first, rows: (asked.append(int(np.sum(rows))), real(first, rows))[1]
    assert read_rows(reader, order).equal(whole[order])
    assert asked == [len(set(order.tolist()))]


def batches(cache, **changes):
    corpus, tokenizer, words = load(cache)
    options = {"clips_per_batch": 12, "seed": 1, "words": words, **changes}
    return Batches(corpus, Masking.of(tokenizer, 0.15), **options)


def test_a_batch_holds_the_words_of_its_clips_with_types_rows_and_recordings(large):
    made = batches(large, extra_words=15)
    batch = made.epoch(0)(1)
    words, table = batch.words, made.words.table
    word_W, place_W = made.words.of(batch.clip_B)
    assert words.total == len(word_W) == len(words.own.word_w)
    assert words.whole.row_B.equal(table.row_V[word_W])
    assert words.whole.recording_B.equal(made.corpus.recording_C[batch.clip_B][place_W])
    assert words.whole.type_B.equal(table.type_V[word_W])
    assert words.whole.corpus_clips == int(made.words.counts(made.corpus.train).sum())
    assert words.own.first_w.equal(batch.packed.starts_B[place_W] + table.first_V[word_W])
    rivals = words.whole.rivals_BB()
    for i, j in ((0, 1), (0, len(word_W) - 1), (3, 40)):
        same = (
            words.whole.recording_B[i] == words.whole.recording_B[j]
            or words.whole.type_B[i] == words.whole.type_B[j]
        )
        assert bool(rivals[i, j]) == (not same)
    assert batches(large, same_type_negatives=True).epoch(0)(1).words.whole.type_B is None
    assert len(words.whole.negative_KE) == 15
    assert rows_of(large, words.whole.negative_KE) == words.whole.negative_row_K.tolist()


def test_drawn_words_are_each_as_likely(large):
    made = batches(large)
    ends = made.words.counts(made.corpus.train).cumsum(0)
    number_K, clip_K = made.words.draw(made.corpus.train, ends, 40 * int(ends[-1]), 3, "test")
    seen = torch.bincount(number_K, minlength=int(ends[-1]))
    assert 10 < int(seen.min()) <= int(seen.max()) < 90
    assert made.words.table.clip_V[number_K].equal(clip_K), "all clips are trained on here"


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_of_the_words_make_up_the_whole(large, processes):
    whole = batches(large).epoch(1)(0)
    shares = [batches(large, process=p, processes=processes).epoch(1)(0) for p in range(processes)]
    seen = []
    for share in shares:
        assert share.words.total == whole.words.total
        assert share.words.whole.teacher_BE.equal(whole.words.whole.teacher_BE)
        own = share.words.own
        seen += own.word_w.tolist()
        for place, word in enumerate(own.word_w.tolist()):
            there = whole.words.own.first_w[word]
            assert share.packed.ids_N[own.first_w[place]] == whole.packed.ids_N[there]
            mine = own.token_T[own.owner_T == place]
            theirs = whole.words.own.token_T[whole.words.own.owner_T == word]
            assert share.packed.ids_N[mine].equal(whole.packed.ids_N[theirs])
    assert sorted(seen) == list(range(whole.words.total))


def test_words_of_a_clip_of_unknown_recording_are_no_rivals(tmp_path):
    cache = make_word_cache(tmp_path / "cache", CLIPS[:4], recordings=[None] * 4)
    made = batches(cache, clips_per_batch=4, same_type_negatives=True)
    batch = made.epoch(0)(0)
    clip_W = batch.words.sentences.clip_W
    assert batch.words.whole.rivals_BB().equal(clip_W[:, None] != clip_W)


def test_a_batch_goes_to_a_device_as_a_whole(large):
    meta = torch.device("meta")
    batch = batches(large, extra_words=5).epoch(0)(0)
    moved = replace(batches(large, extra_words=5), device=meta).epoch(0)(0)
    for name in ("own", "whole", "sentences"):
        for field, value in vars(getattr(batch.words, name)).items():
            if isinstance(value, torch.Tensor):
                there = getattr(getattr(moved.words, name), field)
                assert (there.device, there.shape) == (meta, value.shape)


def test_training_holds_no_words_in_memory(large):
    _, _, words = load(large)
    assert words.reader.clips.words == []
    assert words.reader.clips.key == SequenceReader(large).clips.key
