"""Likeness of vectors against a loop over pairs and against its closed form."""

import itertools

import pytest
import torch

from pipeline.pretraining.splat import geometry as module
from pipeline.pretraining.splat.geometry import geometry, likeness


def cosine(one, other):
    return float(one.double() @ other.double() / one.double().norm() / other.double().norm())


def by_hand(vectors, text_vectors, texts, other_text):
    """Equations 4 and 5: the neighbour is the clip whose text is nearest, the first of equals."""
    pairs = [
        (p, q)
        for p, q in itertools.permutations(range(len(vectors)), 2)
        if not other_text or texts[p] != texts[q]
    ]
    near = {}
    for p, q in pairs:
        score = cosine(text_vectors[p], text_vectors[q])
        if p not in near or score > near[p][0] + 1e-12:
            near[p] = (score, q)
    average = sum(cosine(vectors[p], vectors[q]) for p, q in pairs) / len(pairs)
    return average, sum(cosine(vectors[p], vectors[q]) for p, (_, q) in near.items()) / len(near)


@pytest.mark.parametrize("centred", [False, True])
def test_figures_are_those_of_a_loop_over_pairs(monkeypatch, centred):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 4)
    vectors, text_vectors = torch.randn(11, 5) + 1, torch.randn(11, 3) + 1
    texts = list("aabcdefghba")
    given = likeness(vectors, text_vectors, texts, centred=centred)
    if centred:
        vectors, text_vectors = (v.double() - v.double().mean(0) for v in (vectors, text_vectors))
    every, other = (by_hand(vectors, text_vectors, texts, way) for way in (False, True))
    assert (given.average, given.nearest_text) == pytest.approx(every, abs=1e-12)
    assert (given.average_other_text, given.nearest_other_text) == pytest.approx(other, abs=1e-12)


def test_the_text_decides_who_is_near_and_speech_how_alike_they_are():
    speech = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]])
    given = likeness(speech, text, list("abcd"), centred=False)
    assert given.nearest_text == 0  # the nearest texts are said in the most different ways
    assert likeness(speech, speech, list("abcd"), centred=False).nearest_text == 1


def test_of_texts_that_are_equally_near_the_first_is_taken():
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    speech = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    given = likeness(speech, text, list("abc"), centred=False)
    assert given.nearest_text == pytest.approx((1 - 1 - 1) / 3)  # 0 with 1; 1 and 2 with each other


def test_the_average_is_that_of_the_length_of_the_sum():
    vectors = torch.randn(30, 7)
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    wanted = (float(unit.sum(0).square().sum()) - 30) / (30 * 29)
    given = likeness(vectors, vectors, [str(i) for i in range(30)], centred=False)
    assert given.average == pytest.approx(wanted, abs=1e-12)
    assert given.average_other_text == pytest.approx(wanted, abs=1e-12)


def test_a_collapsed_module_has_one_for_both():
    given = likeness(torch.ones(5, 3), torch.randn(5, 4), list("abcde"), centred=False)
    assert (given.average, given.nearest_text) == pytest.approx((1, 1))


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "a", "a"]])
def test_too_few_texts_give_nothing(texts):
    vectors = torch.randn(len(texts), 3)
    assert likeness(vectors, vectors, texts, centred=False) is None
    assert geometry(vectors, vectors, texts) == {}
