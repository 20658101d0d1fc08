"""Shares of a batch make it up, and no process is left without a clip."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.order import Order


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(1, 12), st.integers(1, 4), st.integers(0, 3))
def test_an_epoch_has_each_clip_once_whoever_takes_it(clips, size, processes, seed):
    train = torch.arange(clips) * 3
    shares = [Order(train, train[:0], size, seed, p, processes) for p in range(processes)]
    per_epoch = shares[0].per_epoch
    assert per_epoch == clips // size
    taken = []
    for place in range(per_epoch):
        batches = [share.epoch(1)(place) for share in shares]
        assert all(batch.equal(batches[0]) for batch in batches)
        own = [s.own(b).tolist() for s, b in zip(shares, batches, strict=True)]
        assert sorted(clip for share in own for clip in share) == sorted(batches[0].tolist())
        assert max(map(len, own)) - min(map(len, own)) <= 1
        taken += batches[0].tolist()
    assert len(set(taken)) == len(taken)
    assert taken == shares[0].of(1)[: per_epoch * size].tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 4))
def test_held_out_batches_are_whole_or_the_only_one(clips, size, processes):
    order = Order(torch.arange(0), torch.arange(clips), size, 0, processes=processes)
    parts = order.held_out_batches()
    together = torch.cat([torch.arange(0), *parts])
    assert together.equal(torch.arange(clips)[: len(together)])
    if clips >= processes and clips:
        assert len(together) == (clips if clips < size else clips // size * size)
    assert all(len(order.own(part)) >= 1 for part in parts) or not parts
