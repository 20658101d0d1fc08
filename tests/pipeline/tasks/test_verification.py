"""Equal error rates against brute force and scikit-learn; pairs and lists of trials."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.verification import (
    Scored,
    cosine,
    equal_error_rate,
    pairs,
    read_trials,
    verify,
)


def brute_force(scores, same) -> float:
    """The definition, threshold by threshold."""
    points = []
    for threshold in [*sorted(set(scores)), np.inf]:
        own = [s < threshold for s, is_same in zip(scores, same, strict=True) if is_same]
        other = [s >= threshold for s, is_same in zip(scores, same, strict=True) if not is_same]
        points.append((np.mean(own), np.mean(other)))
    for (frr0, far0), (frr1, far1) in pairwise(points):
        if frr1 >= far1:
            share = (far0 - frr0) / ((far0 - frr0) + (frr1 - far1))
            return float(frr0 + share * (frr1 - frr0))
    raise AssertionError


def by_scikit_learn(scores, same) -> float:
    """As it is often computed: the root of interpolated rates."""
    far, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    return float(brentq(lambda x: 1.0 - x - interp1d(far, tpr)(x), 0.0, 1.0))


def drawn(size: int, seed: int, digits: int = 6):
    source = np.random.default_rng(seed)
    same = source.random(size) < 0.3
    same[:2] = True, False
    return np.round(source.normal(same * 1.5, 1), digits), same


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10_000), st.sampled_from([0, 1, 6]))
def test_the_rate_is_that_of_the_definition_with_ties_or_without(size, seed, digits):
    scores, same = drawn(size, seed, digits)
    assert equal_error_rate(scores, same) == pytest.approx(brute_force(scores, same), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_rate_is_scikit_learns(seed):
    scores, same = drawn(5000, seed)
    assert equal_error_rate(scores, same) == pytest.approx(by_scikit_learn(scores, same), abs=1e-4)


def test_scores_that_say_nothing_everything_or_the_opposite():
    same = np.array([1, 1, 0, 0, 0]).astype(bool)
    assert equal_error_rate(np.ones(5), same) == 0.5
    assert equal_error_rate(same * 2.0, same) == 0
    assert equal_error_rate(same * -2.0, same) == 1
    assert Scored(np.ones(5), same).rates().equal_threshold is None


def test_a_pair_of_more_weight_counts_as_often():
    scores, same = drawn(40, 0)
    weights = np.random.default_rng(1).integers(0, 4, 40).astype(float)
    weights[:2] = 1
    times = np.repeat(np.arange(40), weights.astype(int))
    assert Scored(scores, same).rates(weights).equal == pytest.approx(
        brute_force(scores[times], same[times]), abs=1e-12
    )


def test_the_least_cost_is_that_of_the_best_threshold():
    scores, same = drawn(80, 3)
    rates = Scored(scores, same).rates()
    costs = []
    for threshold in [*scores, np.inf]:
        missed = np.mean(scores[same] < threshold)
        passed = np.mean(scores[~same] >= threshold)
        costs.append(0.01 * missed + 0.99 * passed)
    assert rates.least_cost() == pytest.approx(min(costs) / 0.01)
    assert Scored(np.ones(5), np.array([1, 0, 0, 0, 1], bool)).rates().least_cost() == 1


def test_scores_that_are_no_numbers_and_pairs_of_one_kind_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        Scored(np.array([0.1, np.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match="no pair"):
        Scored(np.array([0.1, 0.2]), np.array([True, True]))


def test_pairs_are_all_or_those_of_different_recordings():
    speakers, recordings = ["a", "a", "a", "b"], ["1", "1", "2", "3"]
    everything = pairs(speakers, recordings)
    assert list(zip(everything.one_n, everything.other_n, strict=True)) == [
        (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)
    ]  # fmt: skip
    assert everything.same_n.tolist() == [True, True, False, True, False, False]
    across = pairs(speakers, recordings, "other-recording")
    assert across.same_n.tolist() == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("speakers", "message"),
    [
        (["a", "b", "c"], "no pair of one speaker"),
        (["a", "a"], "no pair of two speakers"),
        (["a"], "no pair of one speaker among 0"),
    ],
)
def test_speakers_that_make_no_pairs_are_refused(speakers, message):
    with pytest.raises(SpeechkdError, match=message):
        pairs(speakers, speakers)


def test_more_pairs_than_fit_into_memory_are_refused_before_they_are_made():
    with pytest.raises(SpeechkdError, match="100,000 clips of a split make 4,999,950,000 pairs"):
        pairs(["a"] * 100_000, [])


def test_one_recording_per_speaker_has_no_pairs_across_recordings():
    with pytest.raises(SpeechkdError, match="speakers with two recordings"):
        pairs(["a", "a", "b"], ["1", "1", "2"], "other-recording")


@pytest.mark.parametrize(
    "text",
    [
        "1 x/1.wav x/2.wav\n0 x/1.wav y/1.wav\n",
        "x/1 x/2 target\n\nx/1 y/1 nontarget\n",
    ],
)
def test_lists_of_trials_are_read_in_both_forms(tmp_path, text):
    path = tmp_path / "trials.txt"
    path.write_text(text)
    trials = read_trials(path, ["y/1", "x/1", "x/2"])
    assert trials.one_n.tolist() == [1, 1]
    assert trials.other_n.tolist() == [2, 0]
    assert trials.same_n.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 a\n", "line 1: '1 a' is no trial"),
        ("a b maybe\n", "is no trial"),
        (
            "1 a b\n0 a c\n0 a d\n",
            "2 names of clips are not in the test, the first is 'c' in line 2",
        ),
        ("1 a b\n", "no pair of two speakers"),
        ("", "no pair of one speaker among 0"),
        ("1 a b\n0 b b.wav\n", "line 2: '0 b b.wav' is a pair of one clip with itself"),
    ],
)
def test_lists_of_something_else_are_refused(tmp_path, text, message):
    path = tmp_path / "trials.txt"
    path.write_text(text)
    with pytest.raises(SpeechkdError, match=message):
        read_trials(path, ["a", "b"])


def planted(noise: float, speakers: int = 12, clips: int = 8):
    source = np.random.default_rng(0)
    own = np.repeat(np.arange(speakers), clips)
    centres = source.normal(size=(speakers, 16))
    return centres[own] + noise * source.normal(size=(len(own), 16)), [f"s{i}" for i in own]


def test_vectors_that_name_the_speaker_have_no_errors_and_others_the_half():
    vectors, speakers = planted(1.0)
    trials = pairs(speakers, speakers)
    own = np.eye(12)[np.repeat(np.arange(12), 8)]
    assert verify(own, speakers, trials)["eer"] == 0
    vectors, speakers = planted(1.0, speakers=24, clips=12)
    wrong = np.random.default_rng(1).permutation(np.asarray(speakers)).tolist()
    assert abs(verify(vectors, wrong, pairs(wrong, wrong))["eer"] - 0.5) < 0.02


def test_what_is_reported_is_what_was_scored():
    vectors, speakers = planted(1.2)
    trials = pairs(speakers, speakers)
    found = verify(vectors, speakers, trials)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = (unit @ unit.T)[trials.one_n, trials.other_n]
    np.testing.assert_allclose(cosine(vectors, trials), scores, atol=1e-12)
    assert found["eer"] == pytest.approx(brute_force(scores, trials.same_n), abs=1e-9)
    assert found["eer_low"] < found["eer"] < found["eer_high"]
    assert (found["pairs"], found["same_pairs"]) == (96 * 95 // 2, 12 * 8 * 7 // 2)
    assert (found["speakers"], found["clips"]) == (12, 96)
    accepted = scores >= found["threshold"]
    assert abs((~accepted[trials.same_n]).mean() - accepted[~trials.same_n].mean()) < 0.02


def test_a_vector_of_length_zero_is_like_nothing():
    trials = pairs(["a", "a", "b"], ["1", "2", "3"])
    assert cosine(np.array([[0.0, 0], [1, 0], [1, 0]]), trials).tolist() == [0, 0, 1]
