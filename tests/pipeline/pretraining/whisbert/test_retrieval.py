"""Ranks among candidates, against sorting by hand, with ties, chances and nobody to compare."""

import pytest
import torch

from pipeline.foundation.errors import SpeechkdError
from pipeline.pretraining.whisbert.retrieval import both_ways, retrieval


def everyone(count):
    return torch.ones(count, count, dtype=torch.bool)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_sorting(seed):
    scores = torch.randn(30, 30, generator=torch.Generator().manual_seed(seed))
    candidates = torch.rand(30, 30, generator=torch.Generator().manual_seed(seed + 9)) < 0.6
    told = retrieval(scores, candidates)
    ranks, sizes = [], []
    for query in range(30):
        shown = sorted({query, *candidates[query].nonzero()[:, 0].tolist()})
        order = sorted(shown, key=lambda c: -float(scores[query, c]))
        ranks.append(order.index(query) + 1)
        sizes.append(len(shown))
    assert told.queries == 30
    assert told.r1 == pytest.approx(sum(r == 1 for r in ranks) / 30)
    assert told.r10 == pytest.approx(sum(r <= 10 for r in ranks) / 30)
    assert told.median_rank == pytest.approx(float(torch.tensor(ranks).double().quantile(0.5)))
    assert told.candidates == pytest.approx(sum(sizes) / 30)
    assert told.chance_r1 == pytest.approx(sum(1 / n for n in sizes) / 30)


def test_equal_scores_are_chance():
    told = retrieval(torch.zeros(20, 20), everyone(20))
    assert told.r1 == pytest.approx(told.chance_r1)
    assert told.r10 == pytest.approx(told.chance_r10)
    assert told.median_rank == told.chance_median_rank == 10.5


def test_a_perfect_model_finds_all():
    told = retrieval(torch.eye(12), everyone(12))
    assert (told.r1, told.r10, told.median_rank) == (1, 1, 1)


def test_nobody_to_compare_with_gives_nothing():
    assert retrieval(torch.eye(3), torch.eye(3).bool()) is None


def test_queries_without_candidates_are_left_out():
    candidates = everyone(4)
    candidates[0] = False
    assert retrieval(torch.eye(4), candidates).queries == 3


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(SpeechkdError, match="not a finite number"):
        retrieval(torch.full((2, 2), torch.nan), everyone(2))


def test_both_ways_compare_other_recordings_and_the_own_one():
    scores = torch.tensor([[1.0, 5, 0, 9], [0, 2, 0, 0], [7, 0, 3, 0], [0, 0, 0, 4]])
    texts, recordings = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, -1])
    told = both_ways(scores, texts, recordings)
    across = told["audio to text, across recordings"]
    # clip 3 has the text of clip 0, so neither is the other's candidate
    assert across["queries"] == 4
    assert across["r1"] == pytest.approx(3 / 4)  # clip 2 finds text 0 first
    within = told["audio to text, within recordings"]
    assert within["queries"] == 2
    assert within["r1"] == pytest.approx(1 / 2)  # clip 0 finds text 1 first
    assert told["text to audio, within recordings"]["r1"] == pytest.approx(1 / 2)
