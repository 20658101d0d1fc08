"""Differences between two encoders on one task, with paired bootstrap intervals.

Clips of one video are alike, so whole videos are drawn, and fine-tuning seeds are drawn with
them (Efron & Tibshirani 1993, chapter 8; percentile intervals). Both encoders are scored on the
same clips with the same seeds. The noise of pre-training is not covered, because a row has one run.

Shapes: S seeds, G videos, R bootstrap draws, n clips.
"""

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError

DRAWS = 10_000
LEVEL = 0.95
REMEDY = "the `speechkd finetune` that made it makes it again"


@dataclass(frozen=True)
class Predictions:
    """What a cell predicted, as its predictions file holds it.

    Attributes:
        ids: the test clips.
        groups: the video of each.
        labels: true labels `[n]`, or `[n, F]` for several flags.
        predictions: of the same shape.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: Array
    predictions: Array


@dataclass(frozen=True)
class Difference:
    """How much better one encoder is than another.

    Attributes:
        mean: improvement, positive where the first is better; accuracy and r as shares, MAE
            with its sign turned.
        low: lower end of the 95 % interval.
        high: upper end.
        seeds: number of fine-tuning seeds that both have.
        groups: number of videos (or other groups) that the test clips come from.
    """

    mean: float
    low: float
    high: float
    seeds: int
    groups: int

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def read_predictions(path: Path, kind: str, outputs: Sequence[str]) -> Predictions:
    """Read a cell's predictions file.

    Raises:
        SpeechkdError: it is missing, or is no predictions file.
    """
    suffixes = [f":{name}" for name in outputs] if kind == "flags" else [""]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        labels, predictions = (
            np.array([[float(row[column + suffix]) for suffix in suffixes] for row in rows])
            for column in ("label", "prediction")
        )
        if kind != "flags":
            labels, predictions = labels[:, 0], predictions[:, 0]
        ids, groups = (tuple(row[column] for row in rows) for column in ("id", "group"))
        return Predictions(ids, groups, labels, predictions)
    except FileNotFoundError:
        raise NotThere(
            f"{path}: the predictions of a finished cell are missing; {REMEDY}."
        ) from None
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Damaged(
            f"{path} is not a predictions file ({error!r}); remove it, and {REMEDY}."
        ) from None


def difference(
    first: Mapping[int, Predictions], second: Mapping[int, Predictions], measure: str
) -> Difference | None:
    """Improvement of `first` over `second`, by seed, on the seeds that both have.

    Args:
        first: predictions of each fine-tuning seed.
        second: the same for the encoder compared with.
        measure: `accuracy`, `mae` or `pearson`.

    Returns:
        The difference; None if they share no seed, if a correlation is undefined, or if all clips
        come from one video, which gives no interval.

    Raises:
        SpeechkdError: they were scored on different clips or labels.
    """
    seeds = sorted(set(first) & set(second))
    if not seeds:
        return None
    reference = first[seeds[0]]
    for one in (*(first[s] for s in seeds), *(second[s] for s in seeds)):
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
    sums = [np.stack([_sums(side[s], group_n, measure) for s in seeds]) for side in (first, second)]
    whole = np.ones((1, groups_RG.shape[1])), np.full((1, len(seeds)), 1 / len(seeds))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = float(_improvement(sums, *whole, measure)[0])
        draws_R = _improvement(sums, groups_RG, seeds_RS, measure)
    if not np.isfinite(mean) or not np.isfinite(draws_R).all():
        return None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws_R, [tail, 1 - tail])
    return Difference(mean, float(low), float(high), len(seeds), groups)


@functools.lru_cache(maxsize=4)
def _draws(groups: int, seeds: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    groups_RG = rng.multinomial(groups, np.full(groups, 1 / groups), DRAWS).astype(np.float32)
    seeds_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS) / seeds
    return groups_RG, seeds_RS


def _sums(one: Predictions, group_n: Array, measure: str) -> Array:
    """Sums per video, `[G, K]`, from which the measure of any set of videos follows."""
    labels = one.labels.reshape(len(group_n), -1).astype(np.float64)
    predictions = one.predictions.reshape(len(group_n), -1).astype(np.float64)
    ones = np.ones(len(group_n))
    if measure == "accuracy":
        terms = [ones, (labels == predictions).mean(1)]
    elif measure == "mae":
        terms = [ones, -np.abs(labels - predictions).mean(1)]
    else:
        y, p = labels[:, 0] - labels[:, 0].mean(), predictions[:, 0] - predictions[:, 0].mean()
        terms = [ones, y, p, y * y, p * p, y * p]
    return np.stack([np.bincount(group_n, term) for term in terms], 1)


def _improvement(sums: list[Array], groups_RG: Array, seeds_RS: Array, measure: str) -> Array:
    values = []
    for side_SGK in sums:
        total = np.stack([groups_RG @ side_GK for side_GK in side_SGK], 1)  # R, S, K
        if measure == "pearson":
            n, y, p, yy, pp, yp = np.moveaxis(total, -1, 0)
            value_RS = (yp - y * p / n) / np.sqrt((yy - y * y / n) * (pp - p * p / n))
        else:
            value_RS = total[..., 1] / total[..., 0]
        values.append((value_RS * seeds_RS).sum(1))
    return np.asarray(values[0] - values[1])
