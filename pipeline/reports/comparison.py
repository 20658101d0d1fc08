"""Differences between two groups of encoders on one task, with paired bootstrap intervals.

Clips of one video are alike, so whole videos are drawn, and fine-tuning seeds are drawn with
them (Efron & Tibshirani 1993, chapter 8; percentile intervals). Both groups are scored on the
same clips with the same seeds. Pre-training seeds are too few to be drawn: where there are several,
what the mean over them may be off by is added to each draw, from Student's t distribution. A
group of one run says nothing of that. If both sides have three seeds in common, the others are left
out, because pairs vary less.

Of several folds average precision and r are means over folds: scores of one classifier are ranked
and scaled among themselves, and not among those of another. A fold counts in a draw by how many of
its videos are drawn.

Shapes: S fine-tuning seeds, G videos, R bootstrap draws, n clips or words.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import stats

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.folds import BY_FOLD
from pipeline.reports.predictions import Predictions
from pipeline.reports.ranking import (
    Ranked,
    class_sums,
    text_sums,
    weighted_f1,
    yes_sums,
)
from pipeline.tasks.spans.overlap import SCORES, overlap_scores

DRAWS = 10_000
LEVEL = 0.95
ENOUGH_PAIRS = 3
"""Common pre-training seeds at which those of one side alone are left out."""
RANKED_DRAWS = 2_000
"""Draws of average precision, which has to be ranked anew in each of them."""

Side: TypeAlias = Mapping[str, Mapping[int, Predictions]]
"""Predictions of a group: its pre-training seed (or another name of the run), then the fine-tuning
seed."""


@dataclass(frozen=True)
class Difference:
    """How much better one group of encoders is than another.

    Attributes:
        mean: improvement, positive where the first is better; accuracy and r as shares, MAE
            with its sign turned.
        low: lower end of the 95 % interval.
        high: upper end.
        seeds: number of fine-tuning seeds that all of them have.
        groups: number of videos (or other groups) that the test clips come from.
        runs: how many encoders either side has, which differ in their pre-training seed.
        covers_pretraining: whether the interval holds the noise of pre-training.
        p: two-sided p value against zero, from the draws of the interval; None if unknown.
    """

    mean: float
    low: float
    high: float
    seeds: int
    groups: int
    runs: tuple[int, int] = (1, 1)
    covers_pretraining: bool = False
    p: float | None = None

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def difference(first: Side, second: Side, measure: str) -> Difference | None:
    """Improvement of `first` over `second`, on the fine-tuning seeds that all runs have.

    Args:
        first: predictions of each run of a group.
        second: the same for the group compared with.
        measure: `accuracy`, `weighted_f1`, `mae` or `pearson`; of words
            `average_precision`, `f1` or `top1`; of spans `aos` or `frame_f1`.

    Returns:
        The difference; None if they share no seed, if a correlation is undefined, or if all clips
        come from one video, which gives no interval.

    Raises:
        SpeechkdError: they were scored on different clips or labels.
    """
    if not first or not second:
        return None
    first, second = _paired(first, second)
    runs = [*first.values(), *second.values()]
    seeds = sorted(set.intersection(*(set(run) for run in runs)))
    if not seeds:
        return None
    reference = runs[0][seeds[0]]
    for one in (run[seed] for run in runs for seed in seeds):
        if one.ids != reference.ids or not np.array_equal(one.labels, reference.labels):
            raise SpeechkdError(
                "two encoders were scored on different test clips or labels; their figures must "
                "not be compared."
            )
    _, group_n = np.unique(np.array(reference.groups), return_inverse=True)
    groups = int(group_n.max()) + 1
    if groups == 1:
        return None
    groups_RG, seeds_RS = _draws(groups, len(seeds))
    if measure == "average_precision":
        groups_RG, seeds_RS = groups_RG[:RANKED_DRAWS], seeds_RS[:RANKED_DRAWS]
    once = np.ones((1, groups)), np.full((1, len(seeds)), 1 / len(seeds))
    means: list[Array] = []
    draws: list[Array] = []
    for side in (first, second):
        tests = [[run[seed] for seed in seeds] for run in side.values()]
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(np.concatenate([_value(one, group_n, *once, measure) for one in tests]))
            several = [_value(one, group_n, groups_RG, seeds_RS, measure) for one in tests]
            draws.append(np.mean(several, 0))
    noise = pretraining_noise(
        *(dict(zip(s, m, strict=True)) for s, m in zip((first, second), means, strict=True))
    )
    mean = float(means[0].mean() - means[1].mean())
    draws_R = draws[0] - draws[1]
    if noise:
        draws_R = draws_R + noise[0] * _student(noise[1], len(draws_R))
    if not np.isfinite(mean) or not np.isfinite(draws_R).all():
        return None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws_R, [tail, 1 - tail])
    return Difference(
        mean,
        float(low),
        float(high),
        len(seeds),
        groups,
        runs=(len(first), len(second)),
        covers_pretraining=noise is not None,
        p=two_sided_p(draws_R),
    )


def two_sided_p(draws_R: Array) -> float:
    """Two-sided p against zero of bootstrap draws `[R]`; never 0, as R draws cannot show that.

    It is twice the share of draws on the rarer side of zero, with one more draw counted on either
    (Davison & Hinkley 1997, section 4.4.1), at most 1.
    """
    shares = ((side.sum() + 1) / (len(draws_R) + 1) for side in (draws_R <= 0, draws_R >= 0))
    return min(1.0, 2 * float(min(shares)))


def pretraining_noise(
    first: Mapping[str, float], second: Mapping[str, float]
) -> tuple[float, int] | None:
    """What the mean difference may be off by because of the seeds of pre-training.

    With the same seeds on both sides, their differences are paired. Otherwise both sides are taken
    to vary alike, so that a side of one run is judged by the other.

    Args:
        first: a figure of each run, by its seed.
        second: the same for the other side.

    Returns:
        Standard error of the difference of means, and degrees of freedom of its Student's t; None
        if no side has two runs.
    """
    if first.keys() == second.keys() and len(first) > 1:
        paired = [first[seed] - second[seed] for seed in first]
        return float(np.std(paired, ddof=1)) / math.sqrt(len(paired)), len(paired) - 1
    sides = [np.array(list(side.values()), np.float64) for side in (first, second)]
    freedom = sum(len(side) - 1 for side in sides)
    if not freedom:
        return None
    squares = sum(float(((side - side.mean()) ** 2).sum()) for side in sides)
    return math.sqrt(squares / freedom * sum(1 / len(side) for side in sides)), freedom


@functools.lru_cache(maxsize=4)
def _draws(groups: int, seeds: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    groups_RG = rng.multinomial(groups, np.full(groups, 1 / groups), DRAWS).astype(np.float32)
    seeds_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS) / seeds
    return groups_RG, seeds_RS


@functools.lru_cache(maxsize=4)
def _student(freedom: int, count: int) -> Array:
    """Student's t `[count]` in any order, at equal steps of probability: no luck is in its ends."""
    shares = (np.arange(count) + 0.5) / count
    return np.random.default_rng(1).permutation(stats.t.ppf(shares, freedom))


def _paired(first: Side, second: Side) -> tuple[Side, Side]:
    """Of both sides the runs of the pre-training seeds that both have; all if those are few."""
    common = [seed for seed in first if seed in second]
    if len(common) < ENOUGH_PAIRS:
        return first, second
    return {seed: first[seed] for seed in common}, {seed: second[seed] for seed in common}


def _part(one: Predictions, group_n: Array, measure: str) -> Array | Ranked:
    """What of one cell's predictions a measure of any set of videos follows from: sums per video,
    `[G, K]`, or words in their order.
    """
    if measure == "average_precision":
        return Ranked.of(one, group_n)
    if measure == "top1":
        return text_sums(one, group_n)
    if measure == "f1":
        return yes_sums(one, group_n)
    if measure == "weighted_f1":
        return class_sums(one.labels, one.predictions, group_n)
    if measure in SCORES:
        scores = dict(zip(SCORES, overlap_scores(one.labels, one.predictions[:, :2]), strict=True))
        terms = [np.ones(len(group_n)), scores[measure]]
        return np.stack([np.bincount(group_n, term) for term in terms], 1)
    labels = one.labels.reshape(len(group_n), -1).astype(np.float64)
    predictions = one.predictions.reshape(len(group_n), -1).astype(np.float64)
    ones = np.ones(len(group_n))
    if measure == "accuracy":
        terms = [ones, (labels == predictions).mean(1)]
    elif measure == "mae":
        terms = [ones, -np.abs(labels - predictions).mean(1)]
    else:
        y, p = labels[:, 0] - labels[0, 0], predictions[:, 0] - predictions[0, 0]
        terms = [ones, y, p, y * y, p * p, y * p]
    return np.stack([np.bincount(group_n, term) for term in terms], 1)


def _value(
    tests_S: Sequence[Predictions],
    group_n: Array,
    groups_RG: Array,
    seeds_RS: Array,
    measure: str,
) -> Array:
    """The measure of one run for each draw, `[R]`, from the predictions of its seeds.

    What a fold counts in which it is not defined stands in `BY_FOLD`.
    """
    if measure not in BY_FOLD or not tests_S[0].folds:
        value_RS = _value_of_seeds(tests_S, group_n, groups_RG, measure)
        return np.asarray((value_RS * seeds_RS).sum(1))
    total_RS, weight_RS = np.zeros(seeds_RS.shape), np.zeros(seeds_RS.shape)
    first = 0
    for fold_S in zip(*(one.folds for one in tests_S), strict=True):
        last = first + len(fold_S[0].ids)
        own_G, group_of_n = np.unique(group_n[first:last], return_inverse=True)
        first = last
        drawn_RG = groups_RG[:, own_G]
        value_RS = _value_of_seeds(fold_S, group_of_n, drawn_RG, measure)
        asked_RS = np.isfinite(value_RS) | (BY_FOLD[measure] is not None)
        share_RS = asked_RS * drawn_RG.mean(1, keepdims=True)
        total_RS += share_RS * np.nan_to_num(value_RS, nan=BY_FOLD[measure] or 0.0)
        weight_RS += share_RS
    return np.asarray((total_RS / weight_RS * seeds_RS).sum(1))


def _value_of_seeds(
    tests_S: Sequence[Predictions], group_n: Array, groups_RG: Array, measure: str
) -> Array:
    """The measure for each draw and fine-tuning seed `[R, S]`."""
    parts_S = [_part(one, group_n, measure) for one in tests_S]
    ranked = [part.average_precision_R(groups_RG) for part in parts_S if isinstance(part, Ranked)]
    if ranked:
        return np.stack(ranked, 1)
    total = np.stack([groups_RG @ part for part in parts_S], 1)  # R, S, K
    if measure == "pearson":
        n, y, p, yy, pp, yp = np.moveaxis(total, -1, 0)
        return np.asarray((yp - y * p / n) / np.sqrt((yy - y * y / n) * (pp - p * p / n)))
    if measure == "weighted_f1":
        return weighted_f1(total)
    return np.asarray(total[..., 1] / total[..., 0])
