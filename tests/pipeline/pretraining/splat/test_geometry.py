"""Likeness of vectors against a loop over pairs and against its closed form."""

import itertools

import pytest
import torch

from pipeline.pretraining.splat import geometry as module
from pipeline.pretraining.splat.geometry import geometry, likeness


def by_hand(vectors, texts, other_text):
    units = [v / v.norm() for v in vectors.double()]
    pairs = {
        (i, j): float(units[i] @ units[j])
        for i, j in itertools.permutations(range(len(units)), 2)
        if not other_text or texts[i] != texts[j]
    }
    best = {}
    for (i, _), value in pairs.items():
        best[i] = max(best.get(i, -2.0), value)
    return sum(pairs.values()) / len(pairs), sum(best.values()) / len(best)


@pytest.mark.parametrize("centred", [False, True])
def test_figures_are_those_of_a_loop_over_pairs(monkeypatch, centred):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 4)
    vectors = torch.randn(11, 5) + 1
    texts = list("aabcdefghba")
    given = likeness(vectors, texts, centred=centred)
    around = vectors.double() - vectors.double().mean(0) if centred else vectors
    every, other = (by_hand(around, texts, other_text) for other_text in (False, True))
    assert (given.average, given.closest) == pytest.approx(every, abs=1e-12)
    assert (given.average_other_text, given.closest_other_text) == pytest.approx(other, abs=1e-12)


def test_the_average_is_that_of_the_length_of_the_sum():
    vectors = torch.randn(30, 7)
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    wanted = (float(unit.sum(0).square().sum()) - 30) / (30 * 29)
    given = likeness(vectors, [str(i) for i in range(30)], centred=False)
    assert given.average == pytest.approx(wanted, abs=1e-12)
    assert given.average_other_text == pytest.approx(wanted, abs=1e-12)


def test_a_collapsed_module_has_one_for_both():
    given = likeness(torch.ones(5, 3), list("abcde"), centred=False)
    assert (given.average, given.closest) == pytest.approx((1, 1))


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "a", "a"]])
def test_too_few_texts_give_nothing(texts):
    vectors = torch.randn(len(texts), 3)
    assert likeness(vectors, texts, centred=False) is None
    assert geometry(vectors, vectors, texts) == {}
