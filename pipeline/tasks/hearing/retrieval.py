"""Retrieval: at which rank each prediction finds what it predicts, among all candidates.

Shapes: n candidates, each of which is predicted once; E width.
"""

import torch
from torch import Tensor
from torch.nn import functional

AT_ONCE = 1024
"""Predictions that are compared with all candidates at once."""


def places(predicted_nE: Tensor, candidate_nE: Tensor) -> tuple[Tensor, Tensor]:
    """How many candidates are nearer to each prediction than its own, and how many as near.

    Nearness is the cosine, in float64. A vector of length zero is as near to everything. The rank
    of the own candidate is `better + 1 + equal / 2`, as if ties were broken by chance.

    Args:
        predicted_nE: predictions.
        candidate_nE: what is predicted, in the same order.

    Returns:
        `better_n` and `equal_n`, int64; the own candidate is in neither.
    """
    predicted_nE, candidate_nE = (
        functional.normalize(x_nE.double(), dim=1, eps=1e-300)
        for x_nE in (predicted_nE, candidate_nE)
    )
    better: list[Tensor] = []
    equal: list[Tensor] = []
    for first in range(0, len(predicted_nE), AT_ONCE):
        near_bn = predicted_nE[first : first + AT_ONCE] @ candidate_nE.T
        own_b = torch.arange(first, first + len(near_bn), device=near_bn.device)
        mine_b1 = near_bn.gather(1, own_b[:, None])
        better.append((near_bn > mine_b1).sum(1))
        equal.append((near_bn == mine_b1).sum(1) - 1)
    if not better:
        nothing = torch.zeros(0, dtype=torch.int64)
        return nothing, nothing
    return torch.cat(better), torch.cat(equal)
