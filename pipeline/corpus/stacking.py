"""Several rows side by side as one, so that an encoder has fewer positions to attend to.

Shapes: N rows of all clips end to end, B clips, M stacked rows, C channels, k rows in a stack.
"""

import torch
from torch import Tensor

from pipeline.models.lengths import Lengths


def stacked_lengths(lengths_B: Tensor, stack: int) -> Tensor:
    """Stacked rows of each clip: ⌈rows / stack⌉."""
    return (lengths_B + stack - 1) // stack


def stack_rows(values_NC: Tensor, rows: Lengths, stack: int) -> Tensor:
    """Rows `[N, C]` → `[M, k C]`; the last of a clip is filled up with zeros.

    Zero is a channel's mean where rows are normalised. No stack has rows of two clips.
    """
    if stack == 1:
        return values_NC
    return (
        _places(rows, stack, values_NC)
        .index_copy(0, place_of_rows(rows, stack), values_NC)
        .view(-1, stack * values_NC.shape[1])
    )


def unstack_rows(stacked_MK: Tensor, rows: Lengths, stack: int) -> Tensor:
    """The inverse: `[M, k C]` → `[N, C]`, without what was filled up."""
    if stack == 1:
        return stacked_MK
    flat = stacked_MK.reshape(len(stacked_MK) * stack, -1)
    return flat.index_select(0, place_of_rows(rows, stack))


def place_of_rows(rows: Lengths, stack: int) -> Tensor:
    """Where each row lies among the rows of all stacks laid end to end."""
    count_B = stacked_lengths(rows.lengths_B, stack)
    start_B = (count_B.cumsum(0) - count_B) * stack
    return start_B[rows.sequence_N] + rows.offset_N


def _places(rows: Lengths, stack: int, values_NC: Tensor) -> Tensor:
    places = int(stacked_lengths(rows.lengths_B, stack).sum()) * stack
    return torch.zeros(places, values_NC.shape[1], dtype=values_NC.dtype, device=values_NC.device)
