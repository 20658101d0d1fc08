"""Ridge regression of many targets at once, with a penalty that cross-validation chooses.

The weights are those of Hoerl and Kennard (1970), (XᵀX + λI)⁻¹ XᵀY of centred X and Y. A penalty
is told as a multiple of the mean of XᵀX's diagonal, so that it does not depend on units, on the
number of examples or on that of features. Folds are told by sums of products, which are added and
subtracted, so each example is multiplied out once, whatever the number of folds and penalties.

Shapes: n examples, D features, E targets, F folds, P penalties.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.foundation.arrays import Array

PENALTIES = tuple(10.0**power for power in range(-3, 5))


@dataclass(frozen=True)
class Moments:
    """Sums over examples, float64; sums over parts add up to those of the whole."""

    count: int
    x_D: Tensor
    y_E: Tensor
    xx_DD: Tensor
    xy_DE: Tensor
    yy_E: Tensor

    @classmethod
    def of(cls, x_nD: Tensor, y_nE: Tensor) -> "Moments":
        """The sums of some examples."""
        return cls(
            len(x_nD), x_nD.sum(0), y_nE.sum(0), x_nD.T @ x_nD, x_nD.T @ y_nE, y_nE.square().sum(0)
        )

    def plus(self, other: "Moments", sign: int = 1) -> "Moments":
        """The sums of both, or with sign −1 of those that are not among the others."""
        return Moments(
            self.count + sign * other.count,
            self.x_D + sign * other.x_D,
            self.y_E + sign * other.y_E,
            self.xx_DD + sign * other.xx_DD,
            self.xy_DE + sign * other.xy_DE,
            self.yy_E + sign * other.yy_E,
        )

    def centred(self) -> "Moments":
        """The sums as if the mean of these examples were taken away from each."""
        count = max(self.count, 1)
        return Moments(
            self.count,
            torch.zeros_like(self.x_D),
            torch.zeros_like(self.y_E),
            self.xx_DD - torch.outer(self.x_D, self.x_D) / count,
            self.xy_DE - torch.outer(self.x_D, self.y_E) / count,
            self.yy_E - self.y_E.square() / count,
        )

    def weights(self, penalty: float) -> Tensor:
        """Ridge weights `[D, E]` of centred sums."""
        features = len(self.xx_DD)
        spread = float(self.xx_DD.diagonal().sum()) / max(features, 1)
        if not spread > 0:  # nothing differs, so nothing can be told
            return torch.zeros_like(self.xy_DE)
        penalised_DD = self.xx_DD.clone()
        penalised_DD.diagonal().add_(penalty * spread)
        factor_DD = torch.linalg.cholesky(penalised_DD)
        return torch.cholesky_solve(self.xy_DE, factor_DD)

    def squared_errors(self, weights_DE: Tensor) -> Tensor:
        """Sums of squared errors `[E]` of predictions by these weights, of centred sums.

        Since the mean is taken away, a constant that predictions are off by does not count.
        """
        fitted_DE = self.xx_DD @ weights_DE
        return self.yy_E + (weights_DE * (fitted_DE - 2 * self.xy_DE)).sum(0)


@dataclass(frozen=True)
class Ridge:
    """Fitted weights.

    Attributes:
        weights_DE: of each feature for each target, float64.
        x_D: mean of the features that it was fitted on.
        y_E: mean of the targets.
        penalties: that of each target, as a multiple of the mean of XᵀX's diagonal.
    """

    weights_DE: Tensor
    x_D: Tensor
    y_E: Tensor
    penalties: tuple[float, ...]

    def predictions(self, x_nD: Tensor) -> Tensor:
        """Predicted targets `[n, E]`."""
        return (x_nD - self.x_D) @ self.weights_DE + self.y_E


def fit(
    x_nD: Tensor,
    y_nE: Tensor,
    fold_n: Array,
    *,
    together: bool,
    penalties: Sequence[float] = PENALTIES,
) -> Ridge:
    """Fit ridge regressions; the penalty is the one that errs least on folds left out in turn.

    Args:
        x_nD: features, float64.
        y_nE: targets, float64.
        fold_n: fold of each example, from 0; at least two folds have examples.
        together: one penalty for all targets, each of which counts by its own variance; otherwise
            one for each.
        penalties: to choose from, as multiples of the mean of XᵀX's diagonal. Of several that err
            alike the largest is taken.

    Raises:
        ValueError: there is one fold alone.
    """
    folds = np.unique(fold_n)
    if len(folds) < 2:
        raise ValueError("at least two folds are needed")
    parts = []
    for fold in folds.tolist():
        mine_f = torch.from_numpy(np.flatnonzero(fold_n == fold)).to(x_nD.device)
        parts.append(Moments.of(x_nD[mine_f], y_nE[mine_f]))
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.plus(part)
    error_PE = torch.zeros(len(penalties), y_nE.shape[1], dtype=y_nE.dtype, device=y_nE.device)
    for part in parts:
        others, left_out = whole.plus(part, -1).centred(), part.centred()
        for number, penalty in enumerate(penalties):
            error_PE[number] += left_out.squared_errors(others.weights(penalty))
    if together:
        error_PE = error_PE.sum(1, keepdim=True).expand_as(error_PE)
    # argmin takes the first of equals, which is the largest in this order
    falling = sorted(range(len(penalties)), key=lambda number: -penalties[number])
    best_E = error_PE[falling].argmin(0).tolist()
    chosen = [penalties[falling[place]] for place in best_E]
    centred = whole.centred()
    weights_DE = torch.empty_like(centred.xy_DE)
    for penalty in set(chosen):
        mine = [target for target, own in enumerate(chosen) if own == penalty]
        weights_DE[:, mine] = centred.weights(penalty)[:, mine]
    return Ridge(weights_DE, whole.x_D / whole.count, whole.y_E / whole.count, tuple(chosen))
