"""Means of groups against brute force, in any order and in any pieces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.within import UNKNOWN, GroupSums, within


def make(groups, seed=0, width=3, large=1000.0):
    rng = np.random.default_rng(seed)
    return large + rng.standard_normal((len(groups), width)), np.array(groups, np.int64)


def by_brute_force(vectors, group, groups):
    """What is taken away from each vector, and the spread of what is left, written out."""
    centre = vectors.mean(0)
    taken = np.empty_like(vectors)
    for i, g in enumerate(group):
        mine = vectors[group == g]
        taken[i] = mine.mean(0) if g != UNKNOWN and len(mine) > 1 else centre
    known = group != UNKNOWN
    left = (vectors - taken)[known]
    return taken, np.sqrt((left**2).sum(0) / max(known.sum(), 1))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=30), st.integers(1, 7))
def test_means_and_spread_are_those_of_brute_force_in_any_pieces(groups, size):
    vectors, group = make(groups)
    pieces = [(vectors[i : i + size], group[i : i + size]) for i in range(0, len(group), size)]
    got = within(pieces, 5, vectors.mean(0))
    taken, std = by_brute_force(vectors, group, 5)
    np.testing.assert_allclose(got.taken_GE[group], taken, rtol=1e-6)
    np.testing.assert_allclose(got.std_E, std, rtol=1e-6, atol=1e-6)
    counts = np.bincount(group[group >= 0], minlength=5)
    assert (got.groups, got.single) == ((counts > 0).sum(), (counts == 1).sum())
    assert got.vectors == counts.sum()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.integers(0, 30))
def test_sums_of_two_parts_are_those_of_the_whole_in_either_order(groups, cut):
    vectors, group = make(groups)
    centre = vectors.mean(0)
    parts = []
    for part in (slice(None, cut), slice(cut, None)):
        sums = GroupSums.none(4, centre)
        sums.add(vectors[part], group[part])
        parts.append(sums)
    whole = within([(vectors, group)], 4, centre)
    for one, other in (parts, parts[::-1]):
        merged = one.plus(other).within()
        np.testing.assert_allclose(merged.taken_GE, whole.taken_GE, rtol=1e-7)
        np.testing.assert_allclose(merged.std_E, whole.std_E, rtol=1e-9, atol=1e-9)


def test_a_large_common_part_does_not_drown_what_differs():
    vectors, group = make([0, 0, 1, 1, 1] * 200, large=1e6)
    got = within([(vectors.astype(np.float32), group)], 2, vectors.mean(0))
    _, std = by_brute_force(vectors.astype(np.float32).astype(np.float64), group, 2)
    np.testing.assert_allclose(got.std_E, std, rtol=1e-6)


def test_nothing_is_left_where_a_group_says_the_same():
    vectors = np.repeat([[1.0, 5.0], [3.0, -2.0]], 4, axis=0)
    got = within([(vectors, np.repeat([0, 1], 4))], 2, vectors.mean(0))
    assert got.std_E == pytest.approx([0, 0])
    assert got.taken_GE[:2] == pytest.approx(np.array([[1, 5], [3, -2]]))
