"""Of folds what ranks or scales answers is a mean over them, in figures as in intervals."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from pipeline.reports.comparison import RANKED_DRAWS, _draws, _student, difference
from pipeline.reports.fold_tables import by_fold
from pipeline.reports.folds import mean_over_folds, pool
from pipeline.reports.formats import NOTHING
from pipeline.reports.predictions import Predictions, WordAnswers, figures_of
from tests.helpers.finished import cell


def fold(number, seed, measure, *, groups=4, moved=0.0, constant=False):
    """A fold's test: rows of some groups, whose scores lie elsewhere than those of other folds."""
    of_rows, rng = np.random.default_rng(number), np.random.default_rng([number, seed])
    n = 7 * groups
    group_n = of_rows.integers(0, groups, n)
    names = tuple(f"{number}-{group}" for group in group_n)
    ids = tuple(f"{number}-{row}" for row in range(n))
    if measure == "pearson":
        labels = of_rows.normal(size=n) + 3 * number
        answers = np.full(n, 0.7) if constant else labels + rng.normal(size=n) + moved * number
        return Predictions(ids, names, labels, answers)
    labels = of_rows.integers(0, 2, n).astype(float)
    margins = np.round(labels + rng.normal(size=n), 1) + moved * number
    words = WordAnswers(ids, margins, np.zeros(n))
    return Predictions(ids, names, labels, (margins > 0).astype(float), words)


def value(one, measure, weights=None):
    """Of the rows of a fold, each as often as it is drawn, by another library."""
    weights = np.ones(len(one.ids), int) if weights is None else weights
    rows = np.repeat(np.arange(len(one.ids)), weights)
    if measure == "pearson":
        y, p = one.labels[rows], one.predictions[rows]
        return (
            0.0
            if not len(rows) or np.ptp(p) == 0 or np.ptp(y) == 0
            else stats.pearsonr(y, p).statistic
        )
    if not one.labels[rows].any():
        return None
    return average_precision_score(one.labels[rows], one.words.margins[rows])


@pytest.mark.parametrize("measure", ["average_precision", "pearson"])
@pytest.mark.parametrize("constant", [False, True])
def test_gain_and_interval_are_those_of_means_over_folds(measure, constant):
    first = [fold(k, 1, measure, moved=5.0) for k in range(3)]
    second = [fold(k, 2, measure, moved=-5.0, constant=constant and k == 1) for k in range(3)]
    sides = [Predictions.joined(side) for side in (first, second)]
    gain = difference({"0": {0: sides[0]}}, {"0": {0: sides[1]}}, measure)
    means = [np.mean([value(one, measure) for one in side]) for side in (first, second)]
    assert gain.mean == pytest.approx(means[0] - means[1])
    names = sorted(set(sides[0].groups))
    draws_RG = _draws(len(names), 1)[0][:300].astype(int)

    def drawn(side):
        values = []
        for draw in draws_RG:
            times = dict(zip(names, draw, strict=True))
            parts = [np.array([times[group] for group in one.groups]) for one in side]
            shares = [np.mean([times[g] for g in sorted(set(one.groups))]) for one in side]
            each = [value(one, measure, w) for one, w in zip(side, parts, strict=True)]
            asked = [(x, share) for x, share in zip(each, shares, strict=True) if x is not None]
            each, shares = zip(*asked, strict=True)
            values.append(np.average(each, weights=shares))
        return np.array(values)

    wanted = drawn(first) - drawn(second)
    # the interval has more draws than were made by hand: their spread is known to some percent
    assert (gain.high - gain.low) / np.ptp(np.quantile(wanted, [0.025, 0.975])) == pytest.approx(
        1, abs=0.2
    )
    assert (gain.low + gain.high) / 2 == pytest.approx(wanted.mean(), abs=0.05)


def test_folds_of_one_group_each_are_drawn_as_folds():
    """A fold that is not drawn counts for nothing, one drawn twice counts twice."""
    sides = [[fold(k, seed, "pearson", groups=1) for k in range(8)] for seed in (1, 2)]
    gain = difference(*({"0": {0: Predictions.joined(side)}} for side in sides), "pearson")
    each = np.array(
        [value(a, "pearson") - value(b, "pearson") for a, b in zip(*sides, strict=True)]
    )
    draws_RG = _draws(8, 1)[0]
    low, high = np.quantile(draws_RG @ each / 8, [0.025, 0.975])
    assert (gain.mean, gain.low, gain.high) == pytest.approx((each.mean(), low, high))


def test_figures_of_all_folds_are_those_that_intervals_are_of():
    folds = [fold(k, 1, "pearson", moved=5.0, constant=k == 0) for k in range(3)]
    cells = []
    for number, one in enumerate(folds):
        made = cell(kind="value", task="mood", fold=str(number), splits={"test": len(one.ids)})
        cells.append((replace(made, metrics=figures_of(made, one)), one))
    ((whole, _),) = pool(cells, []).cells
    assert whole.metrics["pearson"] == pytest.approx(
        np.mean([value(one, "pearson") for one in folds]), abs=1e-6
    )
    (table,) = by_fold([one for one, _ in cells])
    (row,) = (row for row in table.grid if row[1] == "Pearson r")
    mean, first, *_ = row[2:]
    assert float(mean) == pytest.approx(100 * whole.metrics["pearson"], abs=0.01)
    assert first == NOTHING, "r of equal answers"
    together = Predictions.joined(folds)
    wrong = np.abs(together.labels - together.predictions)
    assert whole.metrics["mae"] == pytest.approx(wrong.mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("measure", "figures", "mean"),
    [
        ("pearson", [None, 0.4], 0.2),
        ("average_precision", [None, 0.4, 0.6], 0.5),
        ("average_precision", [None], None),
        ("accuracy", [None, 0.4], None),
        ("accuracy", [0.2, 0.4], 0.3),
        ("accuracy", [], None),
    ],
)
def test_a_fold_counts_what_its_measure_says_where_it_is_undefined(measure, figures, mean):
    assert mean_over_folds(measure, figures) == (None if mean is None else pytest.approx(mean))


def test_common_pretraining_seeds_are_paired_and_others_left_out():
    one = {str(seed): {0: fold(0, seed, "pearson", groups=30)} for seed in range(3)}
    more = {str(seed): {0: fold(0, 100 + seed, "pearson", groups=30)} for seed in range(5)}
    gain = difference(one, more, "pearson")
    assert gain.runs == (3, 3)
    same = difference(one, {seed: more[seed] for seed in one}, "pearson")
    assert gain == same
    few = difference({seed: one[seed] for seed in "01"}, more, "pearson")
    assert few.runs == (2, 5)


@pytest.mark.parametrize("freedom", [1, 2, 4])
def test_students_draws_have_no_luck_at_their_ends(freedom):
    for count in (RANKED_DRAWS, 10_000):
        ends = np.quantile(_student(freedom, count), [0.025, 0.5, 0.975])
        assert ends == pytest.approx(stats.t.ppf([0.025, 0.5, 0.975], freedom), rel=0.02, abs=1e-3)
