"""Accuracies of minimal pairs and differences of encoders, against brute force and scikit-learn."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.pair_files import Pair
from pipeline.tasks.pair_scores import (
    DECISIONS,
    compare_pairs,
    contrasts,
    decisions,
    letters,
    mcnemar,
    pairs_sha256,
    score,
    shorter_sentence,
    words,
)


def test_a_tie_counts_one_half_and_paradigms_weigh_the_same():
    pairs = [Pair("a", "x", "g", "b")] * 3 + [Pair("b", "x", "g", "b"), Pair("c", "y", "g", "b")]
    scores = compare_pairs(pairs, [-1.0, -1, -3, -1, -2], [-2.0, -1, -2, -1, -1])
    assert scores.paradigms == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert scores.categories == {"x": 0.5, "y": 0.0}
    assert scores.mean == pytest.approx(1 / 3)
    assert (scores.ties, scores.pairs) == (2, 5)


def test_likelihoods_that_are_no_numbers_are_refused():
    with pytest.raises(SpeechkdError, match="is no number"):
        compare_pairs([Pair("a", "x", "g", "b")], [float("nan")], [0.0])


def test_fields_are_over_pairs_and_hold_several_terms():
    """`s-selection` is a part of argument structure; 3 + 1 pairs weigh 3 : 1 over pairs."""
    pairs = [
        *[Pair("a", "argument_structure", "g", "b")] * 3,
        Pair("b", "s-selection", "g", "b"),
        Pair("c", "filler_gap_dependency", "g", "b"),
    ]
    scores = score(pairs, np.array([1.0, 1.0, 0.5, 0.0, 1.0]))
    assert scores.fields == {"argument_structure": 2.5 / 4, "filler_gap": 1.0}
    assert scores.field_paradigms == {"argument_structure": 2.5 / 6, "filler_gap": 1.0}
    assert set(scores.categories) == {"argument_structure", "s-selection", "filler_gap_dependency"}
    assert scores.over_pairs == 3.5 / 5


def test_the_shorter_sentence_wins_and_equal_ones_tie():
    pairs = [Pair("a", "x", *both) for both in (("a b", "a b c"), ("a b c", "a"), ("a", "b"))]
    assert shorter_sentence(pairs, words).tolist() == [1, 0, 0.5]
    assert shorter_sentence(pairs, len).tolist() == [1, 0, 0.5]


def test_decisions_are_kept_pair_by_pair():
    pairs = [Pair(name, "x", "g", "b") for name in "abaa"]
    decided = decisions(pairs, [2.0, 1, 1, 0], [1.0, 2, 1, 2])
    assert letters(pairs, decided) == {"a": "1t0", "b": "0"}
    back = [DECISIONS[letter] for text in letters(pairs, decided).values() for letter in text]
    assert sorted(back) == sorted(decided.tolist())


def test_a_digest_follows_the_pairs_and_their_order():
    pairs = [Pair("a", "x", "g", "b"), Pair("a", "x", "h", "b")]
    assert pairs_sha256(pairs) == pairs_sha256(list(pairs))
    assert pairs_sha256(pairs) != pairs_sha256(pairs[::-1])


@pytest.mark.parametrize(
    ("better", "worse"), [(0, 0), (1, 0), (3, 3), (5, 1), (40, 70), (900, 990)]
)
def test_mcnemar_is_an_exact_binomial_test(better, worse):
    wanted = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert mcnemar(better, worse) == pytest.approx(wanted, rel=1e-9)


def made_up(seed=0):
    rng = np.random.default_rng(seed)
    pairs = [Pair(f"p{i % 3}", "binding" if i % 3 else "ellipsis", "g", "b") for i in range(300)]
    first = rng.choice([0, 0.5, 1], 300, p=[0.3, 0.1, 0.6])
    second = rng.choice([0, 0.5, 1], 300, p=[0.5, 0.1, 0.4])
    return pairs, first, second


def test_differences_count_pairs_of_each_field_and_of_all():
    pairs, first, second = made_up()
    told = contrasts(pairs, first, second)
    assert set(told) == {"binding", "ellipsis", "all"}
    apart = first - second
    assert told["all"].difference == pytest.approx(apart.mean())
    assert (told["all"].better, told["all"].worse) == ((apart > 0).sum(), (apart < 0).sum())
    assert told["ellipsis"].pairs == 100
    assert told["ellipsis"].difference == pytest.approx(apart[::3].mean())


def test_intervals_are_those_of_drawing_pairs_within_paradigms():
    pairs, first, second = made_up()
    apart = (first - second).reshape(-1, 3)
    rng = np.random.default_rng(1)
    drawn = [np.mean([rng.choice(apart[:, p], 100).mean() for p in range(3)]) for _ in range(4000)]
    told = contrasts(pairs, first, second)["all"]
    assert [told.low, told.high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.01)


def test_an_encoder_does_not_differ_from_itself_and_order_turns_signs():
    pairs, first, second = made_up()
    itself = contrasts(pairs, first, first)["all"]
    assert (itself.difference, itself.low, itself.high, itself.p) == (0, 0, 0, 1)
    there, back = contrasts(pairs, first, second)["all"], contrasts(pairs, second, first)["all"]
    assert there.difference == -back.difference
    assert (there.better, there.p) == (back.worse, back.p)
    again = contrasts(pairs, first, second)["all"]
    assert (again.low, again.high) == (there.low, there.high)


def test_every_difference_of_two_decisions_can_be_drawn():
    pairs = [Pair("a", "x", "g", "b")] * 9
    both = np.array(list(itertools.product((0, 0.5, 1), repeat=2)))
    told = contrasts(pairs, both[:, 0], both[:, 1])["all"]
    assert told.difference == 0
    assert (told.better, told.worse) == (3, 3)


def test_likelihoods_without_a_number_name_their_pair():
    pairs = [Pair("a", "x", "fine", "b"), Pair("a", "x", "odd", "b")]
    with pytest.raises(SpeechkdError, match="odd"):
        compare_pairs(pairs, [0.0, float("inf")], [0.0, 0.0])
