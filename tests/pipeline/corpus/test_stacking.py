"""Stacked rows are rows side by side, clip by clip, and come apart again."""

import pytest
import torch

from pipeline.corpus.stacking import stack_rows, stacked_lengths, unstack_rows
from pipeline.models.lengths import Lengths


@pytest.mark.parametrize("stack", [1, 2, 3, 7])
def test_each_clip_is_stacked_by_itself_and_filled_up_with_zeros(stack):
    counts = [1, 2, 3, 5, 7, 14]
    rows = Lengths.of(torch.tensor(counts))
    values_NC = torch.randn(sum(counts), 4)
    stacked_MK = stack_rows(values_NC, rows, stack)
    wanted = []
    for clip in values_NC.split(counts):
        for start in range(0, len(clip), stack):
            piece = clip[start : start + stack]
            wanted.append(torch.cat([piece.flatten(), torch.zeros((stack - len(piece)) * 4)]))
    assert stacked_MK.equal(torch.stack(wanted))
    assert int(stacked_lengths(rows.lengths_B, stack).sum()) == len(wanted)
    assert unstack_rows(stacked_MK, rows, stack).equal(values_NC)


def test_gradients_come_back_to_their_own_rows():
    rows = Lengths.of(torch.tensor([3, 4]))
    values_NC = torch.randn(7, 2, requires_grad=True)
    weight_MK = torch.randn(4, 4)
    (stack_rows(values_NC, rows, 2) * weight_MK).sum().backward()
    assert values_NC.grad is not None
    assert values_NC.grad.equal(unstack_rows(weight_MK, rows, 2))
