"""What is to be told of some items: values without what their group has in common, by halves.

From each value the mean of its group is taken away, within its half, so that predictions are
judged by what they tell of an item beyond its group:

- `raw`: all items of a half are one group;
- `within speaker`: those of one speaker;
- `within word`: those that are spelled alike.

What encoders give is centred in the same way. An item whose group has no other in its half tells
nothing and is left out.

Shapes: n items, m items of a view, E targets, D features.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.foundation.arrays import Array
from pipeline.tasks.hearing import ridge
from pipeline.tasks.hearing.halves import UNKNOWN

View = Literal["raw", "within speaker", "within word"]
VIEWS: tuple[View, ...] = ("raw", "within speaker", "within word")
FEWEST_ITEMS = 20
"""Items of a view in each half under which nothing is fitted."""
ROUNDING = 1e-9
NO_SPREAD = 1e-7
"""Share of the largest spread up to which a feature is a constant with rounding."""


@dataclass(frozen=True)
class Asked:
    """Values of one view.

    Attributes:
        names: of the targets; of a vector, whose values are told together, one.
        view: which group's mean is taken away.
        item_m: the items that count.
        cell_m: number of each one's group in its half.
        half_m: its half.
        fold_m: its fold within the half.
        value_mE: values without the mean of their cell, float64.
        spread_2E: standard deviation of these in each half; 1 where there is none.
        alone: items that are left out because their group has no other in its half.
    """

    names: tuple[str, ...]
    view: View
    item_m: Array
    cell_m: Array
    half_m: Array
    fold_m: Array
    value_mE: Array
    spread_2E: Array
    alone: int

    @property
    def heard_mE(self) -> Array:
        """Values in units of the other half's spread, on which predictions of them are fitted."""
        return np.asarray(self.value_mE / self.spread_2E[1 - self.half_m])


def ask(
    names: tuple[str, ...],
    view: View,
    value_nE: Array,
    group_n: Array,
    half_n: Array,
    fold_n: Array,
) -> Asked | str:
    """Values of a view, or why there is nothing to tell.

    Args:
        names: of the targets, or of the vector.
        view: which group's mean is taken away.
        value_nE: values; an item with one that is not finite is left out.
        group_n: number of each item's group; `UNKNOWN` for none. For `raw` all are 0.
        half_n: 0 or 1.
        fold_n: fold within the half.
    """
    value_nE = np.asarray(value_nE, np.float64)
    known = np.flatnonzero(np.isfinite(value_nE).all(1) & (group_n != UNKNOWN))
    if not len(known):
        return "none is known"
    _, cell_k, sizes = np.unique(
        np.stack([half_n[known], group_n[known]], axis=1),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    cell_k = cell_k.reshape(-1)
    several = sizes[cell_k] > 1
    item_m = known[several]
    half_m, fold_m = half_n[item_m], fold_n[item_m]
    for half in (0, 1):
        mine = half_m == half
        if mine.sum() < FEWEST_ITEMS or len(np.unique(fold_m[mine])) < 2:
            what = {"raw": "", "within speaker": " with others of their speaker",
                    "within word": " with others that are spelled alike"}[view]  # fmt: skip
            return f"one half has {int(mine.sum())}{what}, and at least {FEWEST_ITEMS} are needed"
    _, cell_m = np.unique(cell_k[several], return_inverse=True)
    value_mE = without_means(torch.from_numpy(value_nE[item_m]), torch.from_numpy(cell_m)).numpy()
    spread_2E = np.stack([value_mE[half_m == half].std(0) for half in (0, 1)])
    # what differs by the rounding of its own size does not differ
    spread_2E[spread_2E <= ROUNDING * np.abs(value_nE[item_m]).max(0)] = 0
    if not (spread_2E > 0).any(1).all():
        return "they do not differ"
    value_mE = np.where(spread_2E[half_m] > 0, value_mE, 0)
    spread_2E[spread_2E == 0] = 1
    alone = len(known) - len(item_m)
    cell_m = np.asarray(cell_m, np.int64)
    return Asked(names, view, item_m, cell_m, half_m, fold_m, value_mE, spread_2E, alone)


def without_means(value_mE: Tensor, cell_m: Tensor) -> Tensor:
    """Values without the mean of their cell."""
    cells = int(cell_m.max()) + 1 if len(cell_m) else 0
    sums_cE = value_mE.new_zeros(cells, value_mE.shape[1]).index_add_(0, cell_m, value_mE)
    sizes_c = torch.bincount(cell_m, minlength=cells).clamp(min=1)
    return value_mE - (sums_cE / sizes_c[:, None])[cell_m]


@dataclass(frozen=True)
class Features:
    """What one encoder, or the words alone, know of each item.

    Attributes:
        value_nD: float32.
        standardized_D: features that are divided by their spread, because their units are
            arbitrary; the others are counts, whose spread says how much there is to be learnt.
    """

    value_nD: Array
    standardized_D: Array

    @classmethod
    def of_states(cls, value_nD: Array) -> "Features":
        """Hidden states, each of which counts the same."""
        return cls(value_nD, np.ones(value_nD.shape[1], bool))


def tell(asked: Asked, features: Features, *, together: bool, device: torch.device) -> Array:
    """Fit on each half in turn, and predict the other.

    Args:
        asked: the values.
        features: from which they are told.
        together: one penalty for all targets, or one for each.
        device: where to compute, in float64.

    Returns:
        Predictions `[m, E]` without the mean of their cell, in the units of `Asked.heard_mE`.
    """
    cell_m = torch.from_numpy(asked.cell_m).to(device)
    x_mD = torch.from_numpy(features.value_nD[asked.item_m]).to(device, torch.float64)
    x_mD = without_means(x_mD, cell_m)
    standardized_D = torch.from_numpy(features.standardized_D).to(device)
    y_mE = torch.from_numpy(asked.value_mE).to(device)
    spread_2E = torch.from_numpy(asked.spread_2E).to(device)
    told_mE = torch.zeros_like(y_mE)
    for half in (0, 1):
        mine_f, judged_j = (np.flatnonzero(asked.half_m == h) for h in (half, 1 - half))
        fitted_f, other_j = (torch.from_numpy(x).to(device) for x in (mine_f, judged_j))
        own_fD = x_mD[fitted_f]
        scale_D = own_fD.std(0, correction=0)
        differs_D = scale_D > NO_SPREAD * scale_D.max()
        scale_D = torch.where(standardized_D & differs_D, scale_D, 1.0)
        fit = ridge.fit(
            own_fD / scale_D, y_mE[fitted_f] / spread_2E[half], asked.fold_m[mine_f],
            together=together,
        )  # fmt: skip
        # features are centred by cell, so this takes away rounding and the fitted half's own mean
        told_jE = fit.predictions(x_mD[other_j] / scale_D)
        told_mE[other_j] = without_means(told_jE, cell_m[other_j])
    return told_mE.cpu().numpy()
