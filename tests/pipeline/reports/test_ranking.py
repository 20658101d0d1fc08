"""Measures of answers to words in bootstrap draws: equal to writing each group out as often."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from pipeline.reports import ranking
from pipeline.reports.comparison import difference
from pipeline.reports.predictions import Predictions, WordAnswers
from pipeline.reports.ranking import Ranked, text_sums, yes_sums
from pipeline.tasks.words import ranked


def answers(seed, texts=40, per_text=5, groups=8, skill=1.0):
    """Words of texts in groups; scores are rounded, so that some are equal."""
    labels = (np.random.default_rng(99).random(texts * per_text) < 0.3).astype(float)
    margins = np.round(skill * labels + np.random.default_rng(seed).normal(size=len(labels)), 1)
    ids = tuple(f"t{i // per_text}:{i % per_text + 1}" for i in range(len(labels)))
    group = tuple(f"g{i // per_text % groups}" for i in range(len(labels)))
    words = WordAnswers(tuple(name.partition(":")[0] for name in ids), margins, np.zeros(len(ids)))
    return Predictions(ids, group, labels, (margins > 0).astype(float), words)


def group_numbers(one):
    return np.unique(np.array(one.groups), return_inverse=True)[1]


def written_out(one, weights):
    """Places of the words, each as often as its group counts."""
    return np.repeat(np.arange(len(one.ids)), weights[group_numbers(one)])


def test_draws_of_groups_equal_words_written_out(monkeypatch):
    one = answers(0)
    weights_RG = np.random.default_rng(1).integers(0, 4, (6, 8))
    monkeypatch.setattr(ranking, "NUMBERS_AT_ONCE", 450)  # two draws at once
    drawn = Ranked.of(one, group_numbers(one)).average_precision_R(weights_RG)
    for weights, value in zip(weights_RG, drawn, strict=True):
        place = written_out(one, weights)
        wanted = average_precision_score(one.labels[place], one.words.margins[place])
        assert value == pytest.approx(wanted)
        half, both = weights @ yes_sums(one, group_numbers(one))
        assert both / half == pytest.approx(f1_score(one.labels[place], one.predictions[place]))


def test_sums_of_texts_give_the_share_of_right_highest_words():
    one = answers(3)
    weights = np.array([0, 2, 1, 0, 3, 1, 1, 0])
    has, right = weights @ text_sums(one, group_numbers(one))
    texts = [
        (name, int(weights[number]))
        for name, number in dict(zip(one.words.texts, group_numbers(one), strict=True)).items()
    ]
    shares = []
    for name, times in texts:
        mine = [i for i, text in enumerate(one.words.texts) if text == name]
        margins, labels = one.words.margins[mine], one.labels[mine]
        if labels.any():
            shares += [labels[margins == margins.max()].mean()] * times
    assert has == len(shares)
    assert right / has == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("measure", ["average_precision", "f1", "top1"])
def test_a_difference_is_that_of_the_figures(measure):
    good = {seed: answers(seed, skill=2.0) for seed in range(2)}
    bad = {seed: answers(10 + seed, skill=0.0) for seed in range(2)}
    one = difference({"0": good}, {"0": bad}, measure)

    def figure(side):
        return np.mean(
            [ranked(p.labels, p.words.margins, p.words.text_n)[measure] for p in side.values()]
        )

    assert one.mean == pytest.approx(figure(good) - figure(bad))
    assert one.low < one.mean < one.high
    assert one.beyond_noise
    same = difference({"0": good}, {"0": good}, measure)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_whole_texts_have_no_ranks():
    whole = Predictions(("a",), ("g",), np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="whole texts"):
        Ranked.of(whole, np.zeros(1, int))
