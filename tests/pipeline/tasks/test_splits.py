"""A made split keeps groups whole and follows from its seed alone."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tasks.splits import MADE_SHARES, made_split


@settings(deadline=None)
@given(st.lists(st.integers(1, 12), min_size=5, max_size=60), st.integers(0, 99))
def test_a_made_split_keeps_groups_whole_and_ignores_the_order_of_rows(sizes, seed):
    groups = [f"video{v}" for v, size in enumerate(sizes) for _ in range(size)]
    splits = made_split(groups, seed)
    homes = set(zip(groups, splits, strict=True))
    assert len(homes) == len(sizes)
    assert set(zip(groups[::-1], made_split(groups[::-1], seed), strict=True)) == homes
    counts = Counter(splits)
    reached = 0.0
    for split, share in MADE_SHARES.items():
        reached += share
        up_to = sum(counts[s] for s in list(MADE_SHARES)[: list(MADE_SHARES).index(split) + 1])
        assert up_to == len(groups) or abs(up_to - reached * len(groups)) <= max(sizes)


def test_seeds_make_different_splits():
    groups = [f"video{v}" for v in range(50)]
    assert made_split(groups, 0) != made_split(groups, 1)
