"""Seeds and streams of random numbers: apart from each other, and the same each time."""

import hashlib

import torch

from pipeline.foundation.seeds import derive, generator


def test_a_seed_is_the_digest_of_what_it_is_for():
    wanted = int.from_bytes(hashlib.sha256(b"3/dropout/17/1").digest()[:8], "big") // 2
    assert derive(3, "dropout", 17, 1) == wanted < 2**63


def test_streams_are_apart_and_repeat():
    names = [(0, "order", 0, 0), (1, "order", 0, 0), (0, "masks", 0, 0), (0, "order", 1, 0)]
    draws = [torch.rand(4, generator=generator(*name)).tolist() for name in names]
    assert len({tuple(draw) for draw in draws}) == len(names)
    assert torch.rand(4, generator=generator(*names[2])).tolist() == draws[2]
