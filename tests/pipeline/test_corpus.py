import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cache import TeacherCache
from pipeline.corpus import (
    Batches,
    Masking,
    available_bytes,
    read_corpus,
    split_by_recording,
)
from pipeline.errors import SpeechkdError
from pipeline.seeds import generator
from pipeline.tokenization import train_wordpiece
from tests.made_up import make_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> TeacherCache:
    return make_cache(tmp_path_factory.mktemp("corpus") / "cache", [40, 300, 20])


@pytest.fixture(scope="module")
def tokenizer(cache):
    return train_wordpiece(cache.samples().texts, 200, lowercase=True, max_tokens=32)


def read(cache, tokenizer, **changes):
    options = {"max_tokens": 32, "held_out_share": 0.1, "seed": 0, **changes}
    return read_corpus(cache, tokenizer, **options)


def make_batches(cache, tokenizer, **changes):
    corpus = read(cache, tokenizer)
    masking = Masking.of(tokenizer, 0.15, torch.device("cpu"))
    return Batches(corpus, masking, **{"clips_per_batch": 24, "seed": 3, **changes})


def test_every_clip_has_its_own_text_and_vector(cache, tokenizer):
    corpus = read(cache, tokenizer)
    samples, vectors = cache.samples(), cache.vectors()
    assert len(corpus) == len(samples) == 360
    np.testing.assert_array_equal(corpus.row_C, samples.rows)
    np.testing.assert_array_equal(corpus.vector_CE, vectors)
    packed = corpus.tokens_of(torch.arange(360))
    for clip, ids in enumerate(packed.ids_N.split(packed.lengths_B.tolist())):
        assert ids.tolist() == tokenizer(samples.texts[clip])["input_ids"]
    some = torch.tensor([359, 0, 77])
    wanted = [i for c in some for i in tokenizer(samples.texts[c])["input_ids"]]
    assert corpus.tokens_of(some).ids_N.tolist() == wanted


def test_same_recording_same_number(cache, tokenizer):
    corpus, names = read(cache, tokenizer), cache.samples().recordings
    numbers = corpus.recording_C.tolist()
    assert len(set(zip(names, numbers, strict=True))) == len(set(names)) == len(set(numbers))


def test_long_texts_are_cut_and_counted(cache, tokenizer):
    corpus = read(cache, tokenizer, max_tokens=8)
    lengths = [len(tokenizer(text)["input_ids"]) for text in cache.samples().texts]
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
    own_CE, other_CE = real.teacher_of(every), shuffled.teacher_of(every)
    assert not (own_CE == other_CE).all(1).any()
    assert own_CE.sort(0).values.equal(other_CE.sort(0).values)
    assert other_CE.equal(read(cache, tokenizer, control="shuffled").teacher_of(every))


def test_vectors_that_would_fill_the_memory_are_mapped(cache, tokenizer, tmp_path, monkeypatch):
    plain = read(cache, tokenizer, spill=tmp_path / "a" / "vectors.npy")
    assert plain.where == "in memory"
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("pipeline.corpus.available_bytes", lambda: 1000)
    mapped = read(cache, tokenizer, spill=tmp_path / "a" / "vectors.npy")
    assert mapped.where == f"memory-mapped in {tmp_path / 'a' / 'vectors.npy'}"
    assert mapped.vector_CE.equal(plain.vector_CE)


def test_available_memory_is_that_of_this_machine():
    assert 2**27 < available_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_random_control_has_the_same_mean_and_spread(cache, tokenizer):
    corpus = read(cache, tokenizer, control="random")
    assert corpus.vector_CE.dtype == torch.float32
    np.testing.assert_allclose(corpus.vector_CE.mean(0), corpus.statistics.mean_E, atol=0.25)
    np.testing.assert_allclose(corpus.vector_CE.std(0), corpus.statistics.std_E, rtol=0.2)
    real = read(cache, tokenizer)
    correlation = np.corrcoef(real.vector_CE.flatten(), corpus.vector_CE.flatten())[0, 1]
    assert abs(correlation) < 0.1


def test_unfinished_cache_is_refused(tmp_path, tokenizer):
    cache = make_cache(tmp_path / "cache", [5, 5])
    cache.folder.path.joinpath("receipts/000001.json").unlink()
    with pytest.raises(SpeechkdError, match="1 of 2 shards are not finished"):
        read(TeacherCache.open(tmp_path / "cache"), tokenizer)


def test_an_epoch_takes_each_clip_once_in_an_order_of_its_own(cache, tokenizer):
    batches = make_batches(cache, tokenizer)
    train = batches.corpus.train
    assert batches.per_epoch == len(train) // 24
    orders = [batches.order(epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == train.tolist()
    assert not orders[0].equal(orders[1])
    assert not orders[1].equal(orders[2])
    seen = torch.cat([batches.epoch(1)(place).clip_B for place in range(batches.per_epoch)])
    assert seen.equal(orders[1][: len(seen)])


def test_a_batch_depends_on_seed_epoch_and_place_only(cache, tokenizer):
    def parts(batch):
        return [batch.clip_B, batch.shown_N, batch.chosen_K, batch.negative_row_K]

    batches = make_batches(cache, tokenizer, extra_negatives=9)
    torch.manual_seed(1)
    first = parts(batches.epoch(2)(5))
    torch.manual_seed(2)
    for place in (0, 1):
        batches.epoch(0)(place)
    again = parts(make_batches(cache, tokenizer, extra_negatives=9).epoch(2)(5))
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    for other in (
        make_batches(cache, tokenizer, extra_negatives=9, seed=4).epoch(2)(5),
        batches.epoch(3)(5),
        batches.epoch(2)(6),
    ):
        assert not any(a.equal(b) for a, b in zip(first, parts(other), strict=True))


def test_masks_are_berts(cache, tokenizer):
    """15 % of ordinary tokens exactly; of these 80 % masked, 10 % replaced, 10 % left."""
    batches = make_batches(cache, tokenizer)
    masking = batches.masking
    packed = batches.corpus.tokens_of(torch.arange(360))
    ids_N = packed.ids_N.repeat(20)
    chosen_K, shown_N = masking.choose(ids_N, generator(0, "test"))
    special_N = torch.isin(ids_N, torch.tensor(tokenizer.all_special_ids))
    assert len(chosen_K) == round(0.15 * int((~special_N).sum()))
    assert len(chosen_K.unique()) == len(chosen_K)
    assert not special_N[chosen_K].any()
    untouched_N = torch.ones_like(special_N)
    untouched_N[chosen_K] = False
    assert shown_N[untouched_N].equal(ids_N[untouched_N])
    shown_K, true_K = shown_N[chosen_K], ids_N[chosen_K]
    masked = (shown_K == tokenizer.mask_token_id).float().mean()
    kept = (shown_K == true_K).float().mean()
    spread = 3 * (0.25 / len(chosen_K)) ** 0.5
    assert abs(masked - 0.8 - 0.1 / len(tokenizer)) < spread
    assert abs(kept - 0.1 - 0.1 / len(tokenizer)) < spread


def test_at_least_one_token_is_predicted(cache, tokenizer):
    masking = Masking.of(tokenizer, 0.01, torch.device("cpu"))
    chosen_K, _ = masking.choose(torch.tensor([2, 9, 10, 3]), generator(0, "test"))
    assert len(chosen_K) == 1
    assert chosen_K[0] in (1, 2)


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_of_a_batch_make_up_the_whole(cache, tokenizer, processes):
    whole = make_batches(cache, tokenizer).epoch(1)(2)
    shares = [
        make_batches(cache, tokenizer, process=p, processes=processes).epoch(1)(2)
        for p in range(processes)
    ]
    predicted = []
    for share in shares:
        assert share.clip_B.equal(whole.clip_B)
        assert share.chosen_total == whole.chosen_total
        for clip in share.clip_N.unique():
            mine, all_of_it = share.clip_N == clip, whole.clip_N == clip
            assert share.packed.ids_N[mine].equal(whole.packed.ids_N[all_of_it])
            assert share.shown_N[mine].equal(whole.shown_N[all_of_it])
            assert share.packed.offset_N[mine].equal(whole.packed.offset_N[all_of_it])
        predicted += [(int(share.clip_N[k]), int(share.packed.offset_N[k])) for k in share.chosen_K]
    assert sum(len(s.clip_N) for s in shares) == len(whole.clip_N)
    assert sorted(predicted) == sorted(
        (int(whole.clip_N[k]), int(whole.packed.offset_N[k])) for k in whole.chosen_K
    )


def test_validation_batches_are_the_same_each_time_and_leave_no_process_without_a_clip(
    cache, tokenizer
):
    batches = make_batches(cache, tokenizer, clips_per_batch=12)
    clips = batches.corpus.held_out
    parts = batches.held_out()
    assert len(parts) == len(clips) // 12 > 1
    assert torch.cat(parts).equal(clips[: 12 * len(parts)])
    few = replace(batches.corpus, held_out=clips[:3])
    for processes, wanted in ((1, 1), (3, 1), (4, 0)):
        shared = replace(batches, corpus=few, processes=processes)
        assert len(shared.held_out()) == wanted
    assert replace(batches, corpus=replace(few, held_out=clips[:0])).held_out() == []
