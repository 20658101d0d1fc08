"""Cells of time of a passage, the cells nearest to an answer, and the best answer of all."""

import itertools

import numpy as np
import pytest
import torch

from pipeline.finetuning.span_cells import Cells, best_answer
from pipeline.tasks.spans.overlap import overlap_scores


def test_cells_are_counted_clip_by_clip_and_end_with_their_clip():
    cells = Cells.of([0.0, 0.11], [0.11, 0.07], [6, 4], pool=2, position_seconds=0.02)
    assert cells.per_clip == (3, 2)
    assert cells.starts_C == pytest.approx([0, 0.04, 0.08, 0.11, 0.15])
    assert cells.ends_C == pytest.approx([0.04, 0.08, 0.11, 0.15, 0.18])
    assert cells.places == 6
    assert cells.place_C.tolist() == [0, 1, 2, 4, 5]  # a mark stands between the clips


@pytest.mark.parametrize("seed", range(30))
def test_the_nearest_cells_are_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    lengths, pool = rng.uniform(0.05, 2, rng.integers(1, 5)).tolist(), int(rng.integers(1, 5))
    begins, lasts = rng.uniform(0, 1), rng.uniform(0.005, 1)
    starts = np.cumsum([0.0, *lengths[:-1]])
    positions = [max(1, int(np.ceil(own / 0.04))) for own in lengths]
    cells = Cells.of(starts, lengths, positions, pool, 0.04)
    whole = starts[-1] + lengths[-1]
    start = begins * whole * 0.99
    answer = (start, min(whole, start + lasts))
    pairs = [(a, b) for a in range(cells.count) for b in range(a, cells.count)]
    times = np.array([(cells.starts_C[a], cells.ends_C[b]) for a, b in pairs])
    every = overlap_scores(np.tile(np.array(answer), (len(pairs), 1, 1)), times)[0]
    a, b, aos = cells.nearest(answer)
    assert aos == pytest.approx(every.max(), abs=1e-9)
    own = overlap_scores(np.array([[answer]]), np.array([[cells.starts_C[a], cells.ends_C[b]]]))
    assert own[0][0] == aos
    for most in (1, 2, 5, cells.count):
        short = np.array([b - a < most for a, b in pairs])
        assert cells.greatest_aos(answer, most) == pytest.approx(every[short].max(), abs=1e-9)


def test_clips_that_overlap_by_a_rounding_leave_the_cells_in_order():
    cells = Cells.of([0.0, 0.081], [0.1, 0.1], [10, 10], pool=1, position_seconds=0.01)
    assert (np.diff(cells.starts_C) >= 0).all()
    assert (np.diff(cells.ends_C) >= 0).all()
    assert cells.starts_C[-1] == pytest.approx(0.171)  # what overlaps shifts nothing behind it
    pairs = list(itertools.combinations_with_replacement(range(cells.count), 2))
    times = np.array([(cells.starts_C[a], cells.ends_C[b]) for a, b in pairs])
    for start, seconds in itertools.product(np.arange(0.07, 0.12, 0.001), (0.013, 0.001)):
        answer = (start, start + seconds)
        best = overlap_scores(np.tile(np.array(answer), (len(pairs), 1, 1)), times)[0].max()
        assert cells.nearest(answer)[2] == pytest.approx(best)


@pytest.mark.parametrize("most", [1, 3, 9, 50])
def test_the_best_answer_is_the_best_of_all_that_are_short_enough(most):
    generator = torch.Generator().manual_seed(most)
    start, end = torch.randn(2, 12, generator=generator)
    allowed = [(a, b) for a, b in itertools.product(range(12), repeat=2) if a <= b < a + most]
    wanted = max(allowed, key=lambda pair: float(start[pair[0]] + end[pair[1]]))
    a, b, score = best_answer(start, end, most)
    assert (a, b) == wanted
    assert score == pytest.approx(float(start[a] + end[b]))


def test_one_cell_is_an_answer():
    assert best_answer(torch.tensor([0.5]), torch.tensor([0.25]), 7) == (0, 0, 0.75)
