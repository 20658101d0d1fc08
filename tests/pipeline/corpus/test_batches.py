"""Batches follow from seed, epoch and step alone, and hold each clip once per epoch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.corpus.batches import Batches
from pipeline.corpus.corpus import Corpus, read_corpus
from pipeline.corpus.masking import Masking
from tests.helpers.caches import make_cache, wordpiece


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    cache = make_cache(tmp_path_factory.mktemp("corpus") / "cache", [40, 300, 20])
    tokenizer = wordpiece(cache)
    return read_corpus(cache, tokenizer, max_tokens=32, held_out_share=0.1, seed=0), tokenizer


def make_batches(corpus, **changes):
    corpus, tokenizer = corpus
    masking = Masking.of(tokenizer, 0.15)
    return Batches(corpus, masking, **{"clips_per_batch": 24, "seed": 3, **changes})


def test_an_epoch_takes_each_clip_once_in_an_order_of_its_own(corpus):
    batches = make_batches(corpus)
    train = batches.corpus.train
    assert batches.per_epoch == len(train) // 24
    orders = [batches.order(epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == train.tolist()
    assert not orders[0].equal(orders[1])
    assert not orders[1].equal(orders[2])
    seen = torch.cat([batches.epoch(1)(place).clip_B for place in range(batches.per_epoch)])
    assert seen.equal(orders[1][: len(seen)])


def test_a_batch_depends_on_seed_epoch_and_place_only(corpus):
    def parts(batch):
        return [batch.clip_B, batch.masked_N, batch.chosen_K, batch.whole.negative_row_K]

    batches = make_batches(corpus, extra_negatives=9)
    torch.manual_seed(1)
    first = parts(batches.epoch(2)(5))
    torch.manual_seed(2)
    for place in (0, 1):
        batches.epoch(0)(place)
    again = parts(make_batches(corpus, extra_negatives=9).epoch(2)(5))
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    for other in (
        make_batches(corpus, extra_negatives=9, seed=4).epoch(2)(5),
        batches.epoch(3)(5),
        batches.epoch(2)(6),
    ):
        assert not any(a.equal(b) for a, b in zip(first, parts(other), strict=True))


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_of_a_batch_make_up_the_whole(corpus, processes):
    whole = make_batches(corpus).epoch(1)(2)
    shares = [
        make_batches(corpus, process=p, processes=processes).epoch(1)(2) for p in range(processes)
    ]
    predicted = []
    for share in shares:
        assert share.clip_B.equal(whole.clip_B)
        assert share.chosen_total == whole.chosen_total
        for clip in share.clip_N.unique():
            mine, all_of_it = share.clip_N == clip, whole.clip_N == clip
            assert share.packed.ids_N[mine].equal(whole.packed.ids_N[all_of_it])
            assert share.masked_N[mine].equal(whole.masked_N[all_of_it])
            assert share.packed.offset_N[mine].equal(whole.packed.offset_N[all_of_it])
        predicted += [(int(share.clip_N[k]), int(share.packed.offset_N[k])) for k in share.chosen_K]
    assert sum(len(s.clip_N) for s in shares) == len(whole.clip_N)
    assert sorted(predicted) == sorted(
        (int(whole.clip_N[k]), int(whole.packed.offset_N[k])) for k in whole.chosen_K
    )


def test_validation_batches_are_the_same_each_time_and_leave_no_process_without_a_clip(corpus):
    batches = make_batches(corpus, clips_per_batch=12)
    clips = batches.corpus.held_out
    parts = batches.held_out()
    assert len(parts) == len(clips) // 12 > 1
    assert torch.cat(parts).equal(clips[: 12 * len(parts)])
    few = replace(batches.corpus, held_out=clips[:3])
    for processes, wanted in ((1, 1), (3, 1), (4, 0)):
        shared = replace(batches, corpus=few, processes=processes)
        assert len(shared.held_out()) == wanted
    assert replace(batches, corpus=replace(few, held_out=clips[:0])).held_out() == []


def test_the_shapes_of_compiled_batches_hold_them_all(corpus):
    batches = make_batches(corpus)
    *_, largest = shapes = batches.shapes()
    assert len(shapes) <= 2
    assert sorted(shapes, key=lambda shape: shape.tokens) == list(shapes)
    trained = [batches.epoch(epoch)(p) for epoch in range(20) for p in range(batches.per_epoch)]
    held_out = [batches.make(clips, "held out", 0, 0) for clips in batches.held_out()]
    assert all(largest.holds(batch.packed) for batch in trained + held_out)
    assert largest.tokens < 1.5 * max(batch.tokens for batch in trained)


@pytest.mark.parametrize(("processes", "most"), [(1, 0.06), (4, 0.11)])
def test_little_of_the_compiled_work_is_padding(corpus, processes, most):
    """Texts as long as those of read speech: 44 tokens at the mean, 20 their spread."""
    clips = 40_000
    lengths_C = torch.from_numpy(np.random.default_rng(0).gamma(4.8, 44 / 4.8, clips)).long() + 2
    lengths_C = lengths_C.clamp(max=128)
    batches = make_batches(corpus, clips_per_batch=256, processes=processes)
    every = torch.arange(clips)
    speech = replace(corpus[0], lengths_C=lengths_C, train=every, held_out=every[:0])
    batches = replace(batches, corpus=speech)
    small, large = batches.shapes()
    tokens = torch.cat(
        [
            lengths_C[batches.order(epoch)[:39_936].view(-1, 256)[:, ::processes]].sum(1)
            for epoch in range(8)
        ]
    )
    fits = tokens <= small.tokens
    assert (tokens <= large.tokens).all()
    assert 0.84 < fits.double().mean() < 0.98
    work = torch.where(fits, small.tokens, large.tokens).sum()
    assert 1 - int(tokens.sum()) / int(work) <= most


def test_a_batch_goes_to_a_device_as_a_whole(corpus):
    meta = torch.device("meta")
    batch = make_batches(corpus, extra_negatives=9).epoch(0)(0)
    assert batch.tokens == len(batch.packed.ids_N) == int(batch.lengths_B.sum())
    moved = batch.to(meta)
    for part, before in ((moved, batch), (moved.whole, batch.whole), (moved.packed, batch.packed)):
        tensors = {n: v for n, v in vars(before).items() if isinstance(v, torch.Tensor)}
        assert len(tensors) > 4
        for name, value in tensors.items():
            assert getattr(part, name).device == meta, name
            assert getattr(part, name).shape == value.shape, name
    assert moved.whole.corpus_clips == batch.whole.corpus_clips
    assert batch.to(torch.device("cpu")) is batch


def test_a_batch_is_made_by_one_thread_wherever_it_is_made(corpus, monkeypatch):
    seen = []
    tokens_of = Corpus.tokens_of
    monkeypatch.setattr(
        Corpus,
        "tokens_of",
        lambda self, clip_B: (seen.append(torch.get_num_threads()), tokens_of(self, clip_B))[1],
    )
    batches, before = make_batches(corpus), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        batches.epoch(0)(0)
        batches.make(batches.held_out()[0], "held out", 0, 0)
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1]
