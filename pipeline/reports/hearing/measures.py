"""The figures of a hearing: what each measures, what chance gives, and how it is computed.

Each is made of sums over items, so that recordings can be drawn again and again: a sum over items
is one over recordings, and a draw says how often each recording counts.

Shapes: n items, G recordings, R draws, K sums.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.tasks.hearing.names import Level
from pipeline.tasks.hearing.results import Hearing, LevelItems

Kind = Literal["recall", "rank", "explained", "r"]
RECALLS = (1, 10)
NO_SPREAD = 1e-12
"""Share of the mean square under which a variance is rounding."""

DEFINITIONS: Mapping[Kind, str] = {
    "recall": "share of items that are among the k nearest to what was predicted for them, by the "
    "cosine, of all candidates of their half; ties count by chance",
    "rank": "median of the rank at which an item is found",
    "explained": "1 − Σ(error²) / Σ(deviation²) over all values of the teacher's vectors, each in "
    "units of its spread",
    "r": "Pearson's r of what was predicted and what was heard",
}


@dataclass(frozen=True)
class Measure:
    """A figure.

    Attributes:
        level: of clips or of words.
        kind: what it is.
        of: k of a recall, the view of a vector, or target and view.
        title: its name in tables.
        chance: what chance gives.
        better: 1 where more is better, −1 where less is.
    """

    level: Level
    kind: Kind
    of: str
    title: str
    chance: float
    better: int = 1

    @property
    def view(self) -> str:
        """Which group's mean was taken away; empty for a retrieval."""
        return {"explained": self.of, "r": self.of.partition(":")[2]}.get(self.kind, "")

    @property
    def name(self) -> str:
        """Its name in sentences, without the unit."""
        return self.title.removesuffix(", %").removesuffix(", r × 100")

    @property
    def in_percent(self) -> bool:
        """Whether it is shown times 100."""
        return self.kind != "rank"

    def shown(self, value: float) -> str:
        """A value as it stands in tables."""
        return f"{100 * value:z.1f}" if self.in_percent else f"{value:z,.0f}"


def measures_of(hearing: Hearing) -> list[Measure]:
    """The figures of a results folder, level by level."""
    measures: list[Measure] = []
    for level, items in hearing.levels.items():
        sought_n = items.candidates_n[items.candidates_n > 0]
        if len(sought_n):
            for k in RECALLS:
                chance = float(np.minimum(1, k / sought_n).mean())
                measures.append(Measure(level, "recall", str(k), f"{level}s: R@{k}, %", chance))
            middle = float(np.median((sought_n + 1) / 2))
            measures.append(Measure(level, "rank", "", f"{level}s: median rank", middle, -1))
        for name in items.heard:
            what, _, rest = name.partition(":")
            if what == "total":
                title = f"{level}s: explained variance ({rest}), %"
                measures.append(Measure(level, "explained", rest, title, 0.0))
        for name in items.heard:
            what, _, rest = name.partition(":")
            if what == "heard":
                target, _, view = rest.partition(":")
                title = f"{level}s: {target} ({view}), r × 100"
                measures.append(Measure(level, "r", rest, title, 0.0))
    return measures


Values = Callable[[Array], Array]
"""From how often each recording counts `[R, G]` to the figure of each draw `[R]`."""


def values_of(
    measure: Measure, items: LevelItems, told: Mapping[str, Array], group_n: Array
) -> Values:
    """How a figure follows from recordings.

    Args:
        measure: the figure.
        items: its level's.
        told: columns of what an encoder told.
        group_n: number of each item's recording.
    """
    groups = int(group_n.max()) + 1

    def sums(*columns: Array) -> list[Array]:
        known_n = np.all([np.isfinite(column) for column in columns], axis=0)
        return [
            np.bincount(group_n[known_n], column[known_n], minlength=groups) for column in columns
        ]

    if measure.kind == "explained":
        error_G, total_G = sums(told[f"error:{measure.of}"], items.heard[f"total:{measure.of}"])
        return lambda draws_RG: 1 - _ratio(draws_RG @ error_G, draws_RG @ total_G)
    if measure.kind == "r":
        told_n, heard_n = told[f"told:{measure.of}"], items.heard[f"heard:{measure.of}"]
        ones_n = np.ones(len(told_n))
        products = (ones_n, told_n, heard_n, told_n**2, heard_n**2, told_n * heard_n)
        sums_6G = np.stack(sums(*(np.where(np.isfinite(told_n), x, np.nan) for x in products)))
        return lambda draws_RG: _pearson(draws_RG @ sums_6G.T)
    sought_n = items.candidates_n > 0
    better_n, equal_n = told["better"][sought_n], told["equal"][sought_n]
    mine_n = group_n[sought_n]
    if measure.kind == "recall":
        hits_n = np.clip((int(measure.of) - better_n) / (equal_n + 1), 0, 1)
        hits_G = np.bincount(mine_n, hits_n, minlength=groups)
        all_G = np.bincount(mine_n, minlength=groups).astype(np.float64)
        return lambda draws_RG: _ratio(draws_RG @ hits_G, draws_RG @ all_G)
    rank_n = better_n + 1 + equal_n / 2
    order_n = np.argsort(rank_n, kind="stable")
    return lambda draws_RG: _medians(rank_n[order_n], draws_RG[:, mine_n[order_n]])


def _ratio(above: Array, below: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(below > 0, above / below, np.nan))


def _pearson(sums_R6: Array) -> Array:
    count, told, heard, told2, heard2, both = sums_R6.T
    with np.errstate(divide="ignore", invalid="ignore"):
        told_var, heard_var = told2 - told**2 / count, heard2 - heard**2 / count
        r = (both - told * heard / count) / np.sqrt(told_var * heard_var)
    # what differs by rounding alone tells nothing
    r = np.where(told_var > NO_SPREAD * told2, r, 0.0)
    return np.asarray(np.where(heard_var > NO_SPREAD * heard2, r, np.nan))


def _medians(rising_n: Array, weights_Rn: Array) -> Array:
    """Median of sorted values by draw, each as often as its weight says; NaN without any."""
    up_to_Rn = np.cumsum(weights_Rn, axis=1)
    total_R = up_to_Rn[:, -1] if weights_Rn.shape[1] else np.zeros(len(weights_Rn))
    low_R, high_R = (
        np.minimum((up_to_Rn < middle_R[:, None]).sum(1), len(rising_n) - 1)
        for middle_R in ((total_R + 1) // 2, total_R // 2 + 1)
    )
    with np.errstate(invalid="ignore"):
        median_R = (rising_n[low_R] + rising_n[high_R]) / 2
    return np.asarray(np.where(total_R > 0, median_R, np.nan))
