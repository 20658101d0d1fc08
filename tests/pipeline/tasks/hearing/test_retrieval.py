"""Ranks against brute force in plain Python, with ties and vectors of length zero."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tasks.hearing import retrieval
from pipeline.tasks.hearing.retrieval import places


def by_hand(predicted, candidates):
    def cosine(a, b):
        lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / lengths

    better, equal = [], []
    for own, one in enumerate(predicted):
        near = [cosine(one, candidate) for candidate in candidates]
        better.append(sum(value > near[own] + 1e-12 for value in near))
        equal.append(sum(abs(value - near[own]) <= 1e-12 for value in near) - 1)
    return better, equal


@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), width=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_places_are_those_of_brute_force(seed, n, width):
    rng = np.random.default_rng(seed)
    predicted = rng.standard_normal((n, width)) * rng.uniform(0.01, 100, (n, 1))
    candidates = rng.standard_normal((n, width)) + 1
    if width > 1:  # on a line cosines are 1 or -1, and which are equal is a matter of rounding
        better, equal = places(torch.from_numpy(predicted), torch.from_numpy(candidates))
        assert (better.tolist(), equal.tolist()) == by_hand(predicted.tolist(), candidates.tolist())


def test_a_prediction_of_nothing_is_as_near_to_all():
    better, equal = places(torch.zeros(4, 3), torch.randn(4, 3))
    assert better.tolist() == [0] * 4
    assert equal.tolist() == [3] * 4


def test_its_own_vector_finds_itself_first():
    vectors = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    better, equal = places(vectors, vectors)
    assert not better.any()
    assert not equal.any()


def test_pieces_make_no_difference(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(40, 8, generator=generator) for _ in range(2))
    whole = places(one, other)
    monkeypatch.setattr(retrieval, "AT_ONCE", 7)
    for wanted, got in zip(whole, places(one, other), strict=True):
        assert torch.equal(wanted, got)


def test_nothing_is_nowhere():
    better, equal = places(torch.zeros(0, 3), torch.zeros(0, 3))
    assert len(better) == len(equal) == 0
