"""Intervals of differences: their size, their coverage, and when there is none."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.comparison import difference, pretraining_noise, two_sided_p
from pipeline.reports.predictions import Predictions


def nested(first, second, measure):
    """The difference between two encoders that were pre-trained once."""
    return difference({"0": first}, {"0": second}, measure)


def predictions(labels, predicted, groups=None):
    ids = tuple(map(str, range(len(labels))))
    groups = ids if groups is None else tuple(map(str, groups))
    return Predictions(ids, groups, np.asarray(labels, float), np.asarray(predicted, float))


def binary(accuracy, count=1000, seed=0, videos=None):
    """Clips of which a given share is judged right."""
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(0, 2, count)
    wrong = rng.random(count) > accuracy
    return predictions(labels, np.where(wrong, 1 - labels, labels), videos)


def test_a_real_gain_is_found_with_its_size():
    found = nested(
        {s: binary(0.80, seed=s) for s in range(3)},
        {s: binary(0.70, seed=10 + s) for s in range(3)},
        "accuracy",
    )
    assert found.mean == pytest.approx(0.10, abs=0.03)
    assert found.low < found.mean < found.high
    assert found.beyond_noise
    assert found.seeds == 3


def test_the_interval_agrees_with_the_normal_approximation():
    """Independent clips, one seed: the paired difference has a known standard error."""
    first, second = binary(0.75, 1500, 1), binary(0.72, 1500, 2)
    found = nested({0: first}, {0: second}, "accuracy")
    gain = (first.predictions == first.labels) * 1.0 - (second.predictions == second.labels)
    half = stats.norm.ppf(0.975) * gain.std() / np.sqrt(len(gain))
    assert found.mean == pytest.approx(gain.mean())
    assert found.high - found.mean == pytest.approx(half, rel=0.05)
    assert found.mean - found.low == pytest.approx(half, rel=0.05)


def test_no_difference_is_called_noise_as_often_as_promised():
    """Twenty pairs of equal encoders: some 95 % of intervals hold zero."""
    inside = sum(
        not nested({0: binary(0.7, 300, s)}, {0: binary(0.7, 300, 50 + s)}, "accuracy").beyond_noise
        for s in range(20)
    )
    assert inside >= 16


def test_one_video_gives_no_interval():
    """Found by a user: drawn again and again it is the same, so the interval had no width."""
    sides = [{0: binary(share, 33, seed, videos=[7] * 33)} for share, seed in ((0.9, 0), (0.5, 1))]
    assert nested(*sides, "accuracy") is None
    two = [{0: binary(share, 34, seed, videos=[7, 8] * 17)} for share, seed in ((0.9, 0), (0.5, 1))]
    assert nested(*two, "accuracy").groups == 2


def test_clips_of_one_video_are_drawn_together():
    """Ten copies of each clip add no evidence: the interval stays as wide as that of one copy."""
    first, second = binary(0.75, 200, 1), binary(0.70, 200, 2)
    alone = nested({0: first}, {0: second}, "accuracy")
    copies = [
        predictions(
            np.repeat(one.labels, 10), np.repeat(one.predictions, 10), np.repeat(range(200), 10)
        )
        for one in (first, second)
    ]
    together = nested({0: copies[0]}, {0: copies[1]}, "accuracy")
    assert together.mean == pytest.approx(alone.mean)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.05)


def test_seeds_that_disagree_widen_the_interval():
    steady = {s: binary(0.8, seed=1) for s in range(4)}
    shaky = {s: binary(0.8 if s % 2 else 0.6, seed=1) for s in range(4)}
    base = {s: binary(0.7, seed=1) for s in range(4)}
    widths = [
        found.high - found.low
        for found in (nested(one, base, "accuracy") for one in (steady, shaky))
    ]
    assert widths[1] > 1.5 * widths[0]


def test_mae_and_pearson_improve_in_the_right_direction():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=800)
    near = predictions(labels, labels + 0.3 * rng.normal(size=800))
    far = predictions(labels, labels + 1.0 * rng.normal(size=800))
    mae = nested({0: near}, {0: far}, "mae")
    r = nested({0: near}, {0: far}, "pearson")
    wanted = np.abs(far.predictions - labels).mean() - np.abs(near.predictions - labels).mean()
    assert mae.mean == pytest.approx(wanted)
    assert r.mean == pytest.approx(
        stats.pearsonr(labels, near.predictions).statistic
        - stats.pearsonr(labels, far.predictions).statistic
    )
    assert mae.low > 0
    assert r.low > 0


def test_undefined_correlations_give_no_nested():
    labels = np.arange(10.0)
    constant, perfect = predictions(labels, np.zeros(10)), predictions(labels, labels)
    assert nested({0: perfect}, {0: constant}, "pearson") is None


def test_no_common_seed_gives_no_nested():
    assert nested({0: binary(0.5)}, {1: binary(0.5)}, "accuracy") is None


def test_other_clips_are_not_compared():
    with pytest.raises(SpeechkdError, match="different test clips"):
        nested({0: binary(0.5, 10)}, {0: binary(0.5, 11)}, "accuracy")


def several(accuracies, seed=0):
    """Runs of several pre-training seeds, with three fine-tuning seeds each."""
    return {
        str(run): {s: binary(share, 500, seed + 10 * run + s) for s in range(3)}
        for run, share in enumerate(accuracies)
    }


def test_the_noise_of_paired_pretraining_seeds_is_students():
    rng = np.random.default_rng(0)
    first, second = (dict(zip("abcd", rng.normal(size=4), strict=True)) for _ in range(2))
    error, freedom = pretraining_noise(first, second)
    test = stats.ttest_rel(list(first.values()), list(second.values()))
    low, high = test.confidence_interval(0.95)
    assert freedom == test.df == 3
    assert stats.t.ppf(0.975, freedom) * error == pytest.approx((high - low) / 2)


def test_the_noise_of_other_pretraining_seeds_is_pooled():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=4), rng.normal(size=3)
    named = [{f"{k}{i}": x for i, x in enumerate(one)} for k, one in (("a", first), ("b", second))]
    error, freedom = pretraining_noise(*named)
    low, high = stats.ttest_ind(first, second).confidence_interval(0.95)
    assert freedom == 5
    assert stats.t.ppf(0.975, freedom) * error == pytest.approx((high - low) / 2)


def test_one_run_is_judged_by_the_spread_of_the_other_side():
    error, freedom = pretraining_noise({"0": 0.5}, {"0": 0.1, "1": 0.3})
    assert (error, freedom) == (pytest.approx(np.std([0.1, 0.3], ddof=1) * np.sqrt(1.5)), 1)
    assert pretraining_noise({"0": 0.5}, {"0": 0.1}) is None
    assert pretraining_noise({"0": 0.5}, {"1": 0.1}) is None


def test_pretraining_seeds_that_disagree_make_a_gain_noise():
    """Each run alone is beyond the noise; over pre-training seeds nothing is shown."""
    base = several([0.7, 0.7, 0.7], seed=500)
    shaky, steady = several([0.9, 0.5, 0.88]), several([0.78, 0.77, 0.79])
    alone = [nested(shaky[run], base[run], "accuracy") for run in "012"]
    assert all(one.beyond_noise and not one.covers_pretraining for one in alone)
    together = difference(shaky, base, "accuracy")
    assert together.mean == pytest.approx(np.mean([one.mean for one in alone]))
    assert together.runs == (3, 3)
    assert together.covers_pretraining
    assert not together.beyond_noise
    assert difference(steady, base, "accuracy").beyond_noise


def test_groups_of_unequal_size_are_compared_by_their_means():
    base = several([0.7, 0.72, 0.74], seed=500)
    one = difference({"0": several([0.9])["0"]}, base, "accuracy")
    shares = [
        np.mean([(p.labels == p.predictions).mean() for p in run.values()]) for run in base.values()
    ]
    first = np.mean([(p.labels == p.predictions).mean() for p in several([0.9])["0"].values()])
    assert one.mean == pytest.approx(first - np.mean(shares))
    assert one.runs == (1, 3)
    assert one.covers_pretraining


def test_only_fine_tuning_seeds_that_all_runs_have_count():
    base = several([0.7, 0.7], seed=500)
    del base["1"][2]
    assert difference(several([0.8, 0.8]), base, "accuracy").seeds == 2
    base["1"] = {7: base["1"][0]}
    assert difference(several([0.8, 0.8]), base, "accuracy") is None
    assert difference({}, base, "accuracy") is None


def test_weighted_f1_is_scikit_learns_in_the_mean_and_in_its_interval():
    """Also where a class is answered and never true, and where one is true and never answered."""
    rng = np.random.default_rng(1)
    labels = rng.choice([0, 1, 2, 4], 120)
    sides = [
        {
            seed: predictions(labels, rng.choice([0, 1, 3], 120), np.arange(120) // 4)
            for seed in (0, 1)
        }
        for _ in range(2)
    ]
    one = nested(*sides, "weighted_f1")
    by_hand = [
        np.mean([f1_score(p.labels, p.predictions, average="weighted") for p in side.values()])
        for side in sides
    ]
    assert one.mean == pytest.approx(by_hand[0] - by_hand[1])
    drawn = []
    for _ in range(400):
        rows = (rng.integers(0, 30, 30)[:, None] * 4 + np.arange(4)).ravel()
        seeds = rng.integers(0, 2, 2)
        means = [
            np.mean(
                [
                    f1_score(side[s].labels[rows], side[s].predictions[rows], average="weighted")
                    for s in seeds
                ]
            )
            for side in sides
        ]
        drawn.append(means[0] - means[1])
    np.testing.assert_allclose([one.low, one.high], np.quantile(drawn, [0.025, 0.975]), atol=0.02)


def test_p_is_that_of_a_normal_distribution_where_draws_have_one():
    draws = np.random.default_rng(0).normal(0.3, 0.15, 200_000)
    assert two_sided_p(draws) == pytest.approx(2 * stats.norm.sf(2), rel=0.05)
    assert two_sided_p(-draws) == two_sided_p(draws)
    assert two_sided_p(np.ones(99)) == pytest.approx(2 / 100)
    assert two_sided_p(np.zeros(9)) == 1
    first, second = binary(0.80, seed=1), binary(0.70, seed=2)
    gain = nested({0: first}, {0: second}, "accuracy")
    assert gain.p == pytest.approx(2 / 10_001)
