"""Metrics of answers to words, against scikit-learn and against every possible threshold."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from pipeline.tasks.words import (
    AskedWords,
    average_precision,
    best_threshold,
    f1,
    ranked,
    score_words,
    spread,
    top_words,
)

LABELS_AND_SCORES = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([-2.5, -1.0, 0.0, 0.25, 1.0, 3.0])), min_size=1
).filter(lambda pairs: any(label for label, _ in pairs))
"""Few different scores, so that there are many ties."""
FEW = settings(max_examples=40, deadline=None)


@FEW
@given(LABELS_AND_SCORES)
def test_average_precision_and_f1_are_scikit_learns(pairs):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    wanted = metrics.average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(wanted)
    assert f1(labels, scores > 0) == pytest.approx(metrics.f1_score(labels, scores > 0))


@FEW
@given(LABELS_AND_SCORES)
def test_no_threshold_gives_a_better_f1(pairs):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    chosen = metrics.f1_score(labels, scores > best_threshold(labels, scores))
    every = [-9.0, *set(scores.tolist())]
    assert chosen == pytest.approx(max(metrics.f1_score(labels, scores > t) for t in every))


@FEW
@given(st.lists(LABELS_AND_SCORES, min_size=1, max_size=4))
def test_the_highest_word_of_each_text_is_looked_at(texts):
    labels, scores = map(np.array, zip(*itertools.chain(*texts), strict=True))
    text_n = np.repeat(range(len(texts)), [len(text) for text in texts])
    right = []
    for text in texts:
        best = max(score for _, score in text)
        right.append(np.mean([label for label, score in text if score == best]))
    assert ranked(labels, scores, text_n)["top1"] == pytest.approx(np.mean(right))


def test_texts_without_a_yes_do_not_count_for_the_highest_word():
    labels, text_n = np.array([0, 0, 1, 0]), np.array([0, 0, 1, 1])
    has, _ = top_words(labels, np.array([3.0, 1, 1, 2]), text_n)
    assert has.tolist() == [False, True]
    assert ranked(labels, np.array([3.0, 1, 1, 2]), text_n)["top1"] == 0


def test_a_constant_answer_gets_chance():
    rng = np.random.default_rng(0)
    labels, text_n = rng.integers(0, 2, 60), np.repeat(range(12), 5)
    scores = score_words(labels, rng.normal(size=60), text_n, rng.normal(size=60))
    chance = scores["chance"]
    rate = labels.mean()
    assert chance["average_precision"] == pytest.approx(rate)
    assert chance["f1"] == pytest.approx(2 * rate / (1 + rate))
    by_text = labels.reshape(12, 5)
    assert chance["top1"] == pytest.approx(by_text[by_text.any(1)].mean())
    assert scores["accuracy"] <= 1
    assert scores["confusion"][1] != [0, 0]


def test_without_a_yes_there_is_no_figure():
    none = np.zeros(3)
    assert ranked(none, none, np.array([0, 0, 1])) == {
        "average_precision": None,
        "f1": None,
        "top1": None,
    }
    assert best_threshold(none, none) is None
    assert average_precision(np.array([]), np.array([])) is None
    with pytest.raises(ValueError, match="no labels"):
        score_words(np.array([]), np.array([]), np.array([], int), np.array([]))


def test_a_perfect_ranking_gets_everything():
    labels = np.array([0, 1, 0, 1])
    scores = ranked(labels, np.array([-1.0, 2, -1, 2]), np.array([0, 0, 1, 1]))
    assert scores == {"average_precision": 1, "f1": 1, "top1": 1}


def test_members_of_groups_are_found_in_any_order():
    counts = np.array([2, 0, 3, 1])
    assert spread(counts, np.array([2, 0, 1, 3])).tolist() == [2, 3, 4, 0, 1, 5]
    assert spread(counts, np.array([], int)).tolist() == []


def test_the_words_of_texts():
    words = AskedWords((2, 1), ("a:1", "a:3", "b:1"), ("x", "y", "z"), np.zeros(3))
    assert words.text_n.tolist() == [0, 0, 1]
    assert words.of_texts([1, 0]).tolist() == [2, 0, 1]
