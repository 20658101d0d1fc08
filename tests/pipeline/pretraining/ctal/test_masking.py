"""Which frames are hidden: shares, fates, and that nothing but seed, epoch and clip decides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pretraining.ctal.masking import (
    FrameMasking,
    distance_to_visible,
    visible_neighbours,
)

PAPER = FrameMasking(share=0.15, shortest=20, longest=50)
RELEASED = FrameMasking(share=0.15, shortest=20, longest=50, spans="scattered", fates="frame")
NAME = (7, "frames train", 0)


def choose(counts, masking=PAPER, clips=None, name=NAME):
    clip_B = torch.arange(len(counts)) if clips is None else torch.tensor(clips)
    return masking.choose(clip_B, torch.tensor(counts), *name)


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First place and length of each run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def test_fifteen_per_cent_are_chosen_in_the_mean_and_eight_of_ten_become_zero():
    frames, clips = 1000, 10_000
    chosen, zeroed, replaced = 0, 0, 0
    for start in range(0, clips, 1000):
        drawn = choose([frames] * 1000, clips=range(start, start + 1000))
        chosen += int(drawn.chosen_F.sum())
        replaced += int((drawn.source_F >= 0).sum())
        zeroed += int((drawn.hidden_F & (drawn.source_F < 0)).sum())
    assert abs(chosen / (frames * clips) - 0.15) < 0.005
    assert abs(zeroed / chosen - 0.8) < 0.01
    assert abs(replaced / chosen - 0.1) < 0.01


def test_segments_of_one_length_divide_the_clip_and_share_a_fate():
    lengths = set()
    for clip in range(200):
        drawn = choose([997], clips=[clip])
        parts = runs(drawn.chosen_F.numpy())
        if not parts:
            continue
        ends_early = [n for start, n in parts if start + n < 997]
        lengths |= {n for n in ends_early if n <= 50}
        for start, size in parts:
            step = next(
                (
                    n
                    for n in range(20, 51)
                    if not start % n and (not size % n or start + size == 997)
                ),
                0,
            )
            assert step, (start, size)
        hidden = drawn.hidden_F.numpy()
        for start, size in parts:
            if size <= 50:  # one segment, unless two short ones touch
                share = hidden[start : start + size].mean()
                assert share in (0, 1) or size >= 40
    assert lengths == set(range(20, 51))


def test_a_replaced_segment_is_as_many_frames_of_the_same_clip_that_follow_each_other():
    counts = [300, 1000, 64]
    starts = np.cumsum([0, *counts])
    seen = 0
    for epoch in range(60):
        drawn = choose(counts, name=(7, "frames train", epoch))
        source = drawn.source_F.numpy()
        for start, size in runs(source >= 0):
            clip = np.searchsorted(starts, start, side="right") - 1
            own = source[start : start + size]
            assert starts[clip] <= own.min() <= own.max() < starts[clip + 1]
            steps = np.diff(own)
            assert (steps == 1).sum() >= size - 1 - size // 20  # where two touch, a new start
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("masking", [PAPER, RELEASED])
def test_draws_depend_on_nothing_but_seed_epoch_and_clip(masking):
    counts = [400, 900, 500]
    whole = choose(counts, masking, clips=[5, 3, 8])
    parts = torch.split(whole.chosen_F, counts), torch.split(whole.source_F, counts)
    first_F = np.cumsum([0, *counts])
    for place, clip in enumerate([5, 3, 8]):
        alone = choose([counts[place]], masking, clips=[clip])
        if not bool(parts[0][place].any()):  # alone, the longest clip gets a segment
            continue
        assert torch.equal(alone.chosen_F, parts[0][place])
        moved = torch.where(alone.source_F < 0, -1, alone.source_F + int(first_F[place]))
        assert torch.equal(moved, parts[1][place])
    other_epoch = choose(counts, masking, clips=[5, 3, 8], name=(7, "frames train", 1))
    assert not torch.equal(other_epoch.chosen_F, whole.chosen_F)
    other_seed = choose(counts, masking, clips=[5, 3, 8], name=(8, "frames train", 0))
    assert not torch.equal(other_seed.chosen_F, whole.chosen_F)


@pytest.mark.parametrize("count", [1, 8, 9, 20])
@pytest.mark.parametrize("masking", [PAPER, RELEASED])
def test_a_clip_of_one_segment_has_nothing_chosen(count, masking):
    assert not choose([count], masking).chosen_F.any()


def test_a_clip_of_one_frame_more_than_a_segment_can_have_one_chosen():
    one_length = FrameMasking(share=0.15, shortest=20, longest=20)
    drawn = choose([21], one_length)
    assert sorted(n for _, n in runs(drawn.chosen_F.numpy())) in ([1], [20])


def test_if_nothing_is_chosen_the_longest_clip_gets_a_segment():
    few = FrameMasking(share=0.01, shortest=20, longest=20)
    for clip in range(20):
        drawn = choose([45, 15, 44], few, clips=[clip, 50, 51])
        assert bool(drawn.chosen_F.any())
        assert not drawn.chosen_F[45:60].any()  # too short, however little is chosen


def test_the_released_codes_spans_may_overlap_and_have_a_fate_per_frame():
    share, spans, mixed = [], [], 0
    for clip in range(300):
        drawn = choose([1000], RELEASED, clips=[clip])
        share.append(float(drawn.chosen_F.float().mean()))
        for start, size in runs(drawn.chosen_F.numpy()):
            spans.append(size)
            hidden = drawn.hidden_F[start : start + size].float().mean()
            mixed += 0 < float(hidden) < 1
    assert max(spans) > 50  # two that touch or overlap
    assert min(spans) >= 20
    assert mixed > 0.9 * len(spans)
    assert 0.13 < np.mean(share) < 0.15  # overlaps take away from 15 %


def test_the_released_code_hides_nothing_of_most_short_clips():
    nothing = sum(
        not choose([80, 3000], RELEASED, clips=[clip, 10_000 + clip]).chosen_F[:80].any()
        for clip in range(300)
    )
    assert 0.8 < nothing / 300 < 0.93  # 87 % (specification, 1.6)


def test_segments_begin_and_end_with_positions():
    masking = FrameMasking(share=0.15, shortest=20, longest=50, stack=4)
    for clip in range(50):
        drawn = choose([1001], masking, clips=[clip])
        for start, size in runs(drawn.chosen_F.numpy()):
            assert start % 4 == 0
            assert size % 4 == 0 or start + size == 1001


def test_what_is_shown_is_zero_or_another_frame_or_itself():
    values_FC = torch.randn(1300, 5)
    for epoch in range(20):
        drawn = choose([1000, 300], name=(7, "frames train", epoch))
        shown_FC = drawn.shown(values_FC)
        for f in range(1300):
            if not drawn.hidden_F[f]:
                assert torch.equal(shown_FC[f], values_FC[f])
            elif drawn.source_F[f] >= 0:
                assert torch.equal(shown_FC[f], values_FC[drawn.source_F[f]])
            else:
                assert not shown_FC[f].any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=4))
def test_neighbours_and_distances_are_those_that_a_search_gives(clips):
    hidden = [flag for clip in clips for flag in clip]
    counts_B = torch.tensor([len(clip) for clip in clips])
    before_F, after_F = visible_neighbours(torch.tensor(hidden), counts_B)
    distance_F = distance_to_visible(torch.tensor(hidden), counts_B)
    start = 0
    for clip in clips:
        for place in range(len(clip)):
            visible = [i for i, flag in enumerate(clip) if not flag]
            before = max((start + i for i in visible if i <= place), default=-1)
            after = min((start + i for i in visible if i >= place), default=-1)
            assert int(before_F[start + place]) == before
            assert int(after_F[start + place]) == after
            nearest = min((abs(i - place) for i in visible), default=len(hidden))
            assert int(distance_F[start + place]) == (nearest if clip[place] else 0)
        start += len(clip)
