"""Ranks among candidates, against sorting by hand, with ties, chances and nobody to compare."""

import pytest
import torch

from pipeline.foundation.errors import SpeechkdError
from pipeline.pretraining.whisbert import retrieval as module
from pipeline.pretraining.whisbert.retrieval import both_ways, ranks, retrieval


def everyone(count):
    return torch.ones(count, count, dtype=torch.bool)


def ask(scores, candidates):
    """Of square scores, whose diagonal holds what is looked for."""
    return retrieval(ranks(scores, torch.arange(len(scores)), candidates))


def ask_both_ways(scores, texts, recordings):
    """Of square scores, audio by text."""
    return both_ways(lambda q: scores[q], lambda q: scores.T[q], texts, recordings)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_sorting(seed):
    scores = torch.randn(30, 30, generator=torch.Generator().manual_seed(seed))
    candidates = torch.rand(30, 30, generator=torch.Generator().manual_seed(seed + 9)) < 0.6
    told = ask(scores, candidates)
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
    told = ask(torch.zeros(20, 20), everyone(20))
    assert told.r1 == pytest.approx(told.chance_r1)
    assert told.r10 == pytest.approx(told.chance_r10)
    assert told.median_rank == told.chance_median_rank == 10.5


def test_a_perfect_model_finds_all():
    told = ask(torch.eye(12), everyone(12))
    assert (told.r1, told.r10, told.median_rank) == (1, 1, 1)


def test_nobody_to_compare_with_gives_nothing():
    assert ask(torch.eye(3), torch.eye(3).bool()) is None


def test_queries_without_candidates_are_left_out():
    candidates = everyone(4)
    candidates[0] = False
    assert ask(torch.eye(4), candidates).queries == 3


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(SpeechkdError, match="not a finite number"):
        ask(torch.full((2, 2), torch.nan), everyone(2))


def test_both_ways_compare_other_recordings_and_the_own_one():
    scores = torch.tensor([[1.0, 5, 0, 9], [0, 2, 0, 0], [7, 0, 3, 0], [0, 0, 0, 4]])
    texts, recordings = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, -1])
    told = ask_both_ways(scores, texts, recordings)
    across = told["audio to text, across recordings"]
    # clip 3 has the text of clip 0, so neither is the other's candidate
    assert across["queries"] == 4
    assert across["r1"] == pytest.approx(3 / 4)  # clip 2 finds text 0 first
    within = told["audio to text, within recordings"]
    assert within["queries"] == 2
    assert within["r1"] == pytest.approx(1 / 2)  # clip 0 finds text 1 first
    assert told["text to audio, within recordings"]["r1"] == pytest.approx(1 / 2)


def test_few_scores_at_a_time_give_the_same(monkeypatch):
    """All at once would be 13 GB for 40,000 clips held out."""
    random = torch.Generator().manual_seed(3)
    scores = torch.randn(23, 23, generator=random).round(decimals=1)  # some are level
    texts = torch.randint(20, (23,), generator=random)
    recordings = torch.randint(-1, 4, (23,), generator=random)
    whole = ask_both_ways(scores, texts, recordings)
    assert whole["audio to text, within recordings"]["queries"] > 0
    for most in (1, 50, 23 * 22, 23 * 23):
        monkeypatch.setattr(module, "MOST_SCORES", most)
        sizes = []

        def rows(query, of=scores, sizes=sizes):
            sizes.append(of[query].numel())
            return of[query]

        parts = both_ways(rows, lambda q: rows(q, scores.T), texts, recordings)
        assert parts == whole
        assert max(sizes) <= max(most, 23)
        assert sum(sizes) == 2 * 23 * 23
