"""Student vectors of unit length by as few numbers as the student has, however wide the teacher is.

The last layer of a projection makes a vector of the teacher's width E of the R - 1 numbers before
it: `p = W h + b = V [h; 1]` with `V = [W, b]`. Its products with teacher vectors t need not be made
in E dimensions, because `pᵀt = [h; 1]ᵀ (Vᵀt)`, nor need its length, `|p|² = [h; 1]ᵀ VᵀV [h; 1]`.
Among many vectors of a small student and as many of a wide teacher this is most of the work.

Shapes: N student vectors, K teacher vectors, D width of the student, E of the teacher, R one more
than the width of what the last layer reads.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WIDER = 3
"""By how many times the teacher must be wider. Products of N and K vectors in R dimensions, with
the gradients of both sides, are 3 NKR multiplications; in E dimensions, where the teacher takes no
gradient, they are 2 NKE. What is to be done once per vector takes the rest."""
EXCLUDED = 1e30
"""What is taken off the logit of a pair that does not count: of e^-EXCLUDED nothing is left."""
SHORTEST = 1e-12
"""Shorter vectors are taken to be this long, as `torch.nn.functional.normalize` does."""


@dataclass(frozen=True)
class Narrow:
    """Unit vectors `V c` of the student, by their coordinates c.

    Attributes:
        unit_NR: the coordinates c of each.
        basis_ER: V.
    """

    unit_NR: Tensor
    basis_ER: Tensor

    def meet(self, teacher_KE: Tensor) -> Tensor:
        """What `unit_NR` is to be multiplied with for the products with teacher vectors `[K, R]`.

        Gradients reach the basis through it.
        """
        return teacher_KE @ self.basis_ER


def coordinates(projection: nn.Module, states_ND: Tensor) -> tuple[Tensor, Tensor] | None:
    """The projected student vectors `V c` by c `[N, R]` and V `[E, R]`, float32 or wider.

    The last layer's own product runs outside autocast, what comes before it as the caller has it.

    Args:
        projection: ends with a linear layer, or none of this is possible.
        states_ND: student vectors before it.

    Returns:
        None if the teacher is too little wider for this to pay.
    """
    layers = list(projection) if isinstance(projection, nn.Sequential) else [projection]
    last = layers.pop()
    if not isinstance(last, nn.Linear) or WIDER * last.in_features > last.out_features:
        return None
    for layer in layers:
        states_ND = layer(states_ND)
    with torch.autocast(states_ND.device.type, enabled=False):
        read_ND = states_ND.to(last.weight.dtype)
        coordinate_NR = torch.cat([read_ND, read_ND.new_ones(len(read_ND), 1)], dim=1)
        return coordinate_NR, torch.cat([last.weight, last.bias[:, None]], dim=1)


def narrow(projection: nn.Module, states_ND: Tensor) -> Narrow | None:
    """The projected student vectors, normalised, by their coordinates; None as `coordinates`."""
    few = coordinates(projection, states_ND)
    if few is None:
        return None
    coordinate_NR, basis_ER = few
    with torch.autocast(states_ND.device.type, enabled=False):
        length_N: Tensor = _Length.apply(coordinate_NR, basis_ER)  # type: ignore[no-untyped-call]
        return Narrow(coordinate_NR / length_N[:, None], basis_ER)


class _Length(torch.autograd.Function):
    """`|V c|` of each vector, without the vectors.

    In float64, because a squared length may be the small rest of large terms. Its gradient is
    `V^T V c / |V c|` by c and `V (sum of c c^T / |V c|)` by V, and neither is such a rest.
    """

    @staticmethod
    def forward(ctx: Any, coordinate_NR: Tensor, basis_ER: Tensor) -> Tensor:
        wide_NR, wide_ER = coordinate_NR.double(), basis_ER.double()
        slope_NR = wide_NR @ (wide_ER.T @ wide_ER)
        length_N = (slope_NR * wide_NR).sum(1).clamp(min=0).sqrt()
        length_N = length_N.clamp(min=SHORTEST)
        slope_NR = (slope_NR / length_N[:, None]).to(coordinate_NR.dtype)
        length_N = length_N.to(coordinate_NR.dtype)
        ctx.save_for_backward(coordinate_NR, basis_ER, slope_NR, length_N)
        return length_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream_N: Tensor) -> tuple[Tensor, Tensor]:
        coordinate_NR, basis_ER, slope_NR, length_N = ctx.saved_tensors
        weight_N = torch.where(length_N > SHORTEST, upstream_N / length_N, 0)
        moments_RR = coordinate_NR.T @ (coordinate_NR * weight_N[:, None])
        return (weight_N * length_N)[:, None] * slope_NR, basis_ER @ moments_RR


def only(rival_NK: Tensor, bias_N: Tensor) -> Tensor:
    """What logits begin with: the bias of pairs that count; of others so little that none is left.

    Arithmetic in place, because on a CPU it is several times as fast as choosing by a mask.

    Args:
        rival_NK: which pairs count.
        bias_N: of each student vector's pairs, or `[1]` of all.
    """
    kept_NK = rival_NK.view(torch.uint8).to(bias_N.dtype)
    return kept_NK.sub_(1).mul_(EXCLUDED).add_(bias_N[:, None])
