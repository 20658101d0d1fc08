"""Intervals of differences: their size, their coverage, and when there is none."""

import numpy as np
import pytest
from scipy import stats

from pipeline.finetuning.results import prediction_table
from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.comparison import Predictions, difference, read_predictions
from pipeline.tasks.mosei.questions import TASKS


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
    found = difference(
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
    found = difference({0: first}, {0: second}, "accuracy")
    gain = (first.predictions == first.labels) * 1.0 - (second.predictions == second.labels)
    half = stats.norm.ppf(0.975) * gain.std() / np.sqrt(len(gain))
    assert found.mean == pytest.approx(gain.mean())
    assert found.high - found.mean == pytest.approx(half, rel=0.05)
    assert found.mean - found.low == pytest.approx(half, rel=0.05)


def test_no_difference_is_called_noise_as_often_as_promised():
    """Twenty pairs of equal encoders: some 95 % of intervals hold zero."""
    inside = sum(
        not difference(
            {0: binary(0.7, 300, s)}, {0: binary(0.7, 300, 50 + s)}, "accuracy"
        ).beyond_noise
        for s in range(20)
    )
    assert inside >= 16


def test_one_video_gives_no_interval():
    """Found by a user: drawn again and again it is the same, so the interval had no width."""
    sides = [{0: binary(share, 33, seed, videos=[7] * 33)} for share, seed in ((0.9, 0), (0.5, 1))]
    assert difference(*sides, "accuracy") is None
    two = [{0: binary(share, 34, seed, videos=[7, 8] * 17)} for share, seed in ((0.9, 0), (0.5, 1))]
    assert difference(*two, "accuracy").groups == 2


def test_clips_of_one_video_are_drawn_together():
    """Ten copies of each clip add no evidence: the interval stays as wide as that of one copy."""
    first, second = binary(0.75, 200, 1), binary(0.70, 200, 2)
    alone = difference({0: first}, {0: second}, "accuracy")
    copies = [
        predictions(
            np.repeat(one.labels, 10), np.repeat(one.predictions, 10), np.repeat(range(200), 10)
        )
        for one in (first, second)
    ]
    together = difference({0: copies[0]}, {0: copies[1]}, "accuracy")
    assert together.mean == pytest.approx(alone.mean)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.05)


def test_seeds_that_disagree_widen_the_interval():
    steady = {s: binary(0.8, seed=1) for s in range(4)}
    shaky = {s: binary(0.8 if s % 2 else 0.6, seed=1) for s in range(4)}
    base = {s: binary(0.7, seed=1) for s in range(4)}
    widths = [
        found.high - found.low
        for found in (difference(one, base, "accuracy") for one in (steady, shaky))
    ]
    assert widths[1] > 1.5 * widths[0]


def test_mae_and_pearson_improve_in_the_right_direction():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=800)
    near = predictions(labels, labels + 0.3 * rng.normal(size=800))
    far = predictions(labels, labels + 1.0 * rng.normal(size=800))
    mae = difference({0: near}, {0: far}, "mae")
    r = difference({0: near}, {0: far}, "pearson")
    wanted = np.abs(far.predictions - labels).mean() - np.abs(near.predictions - labels).mean()
    assert mae.mean == pytest.approx(wanted)
    assert r.mean == pytest.approx(
        stats.pearsonr(labels, near.predictions).statistic
        - stats.pearsonr(labels, far.predictions).statistic
    )
    assert mae.low > 0
    assert r.low > 0


def test_undefined_correlations_give_no_difference():
    labels = np.arange(10.0)
    constant, perfect = predictions(labels, np.zeros(10)), predictions(labels, labels)
    assert difference({0: perfect}, {0: constant}, "pearson") is None


def test_no_common_seed_gives_no_difference():
    assert difference({0: binary(0.5)}, {1: binary(0.5)}, "accuracy") is None


def test_other_clips_are_not_compared():
    with pytest.raises(SpeechkdError, match="different test clips"):
        difference({0: binary(0.5, 10)}, {0: binary(0.5, 11)}, "accuracy")


@pytest.mark.parametrize("task", ["sentiment3", "sentiment", "emotions"])
def test_predictions_are_read_as_they_were_written(tmp_path, task):
    task = TASKS[task]
    scores = np.random.default_rng(0).normal(size=(5, len(task.outputs))).astype(np.float32)
    labels = task.decide(scores[::-1])
    text = prediction_table(task, list("abcde"), list("vvwww"), [""] * 5, labels, scores)
    (tmp_path / "p.csv").write_text(text)
    read = read_predictions(tmp_path / "p.csv", task.kind, task.outputs)
    assert read.ids == tuple("abcde")
    assert read.groups == tuple("vvwww")
    assert np.array_equal(read.predictions.astype(scores.dtype), task.decide(scores))
    assert np.array_equal(read.labels.astype(scores.dtype), labels)


def test_damaged_predictions_are_named(tmp_path):
    with pytest.raises(SpeechkdError, match="are missing"):
        read_predictions(tmp_path / "p.csv", "classes", ())
    (tmp_path / "p.csv").write_text("id,group\n1,2\n")
    with pytest.raises(SpeechkdError, match="not a predictions file"):
        read_predictions(tmp_path / "p.csv", "classes", ())
