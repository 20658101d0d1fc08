"""Frames of several clips laid out for the stem: one patch per so many frames, clip by clip.

A patch of log-mel is 10 frames of 10 ms (WhisBERT, section 2.1), one of hidden states 5 frames of
20 ms: 100 ms either way. All clips of a batch lie in one long row. Before, between and behind them
is as much of nothing as the stem looks beyond a clip.

Shapes: B clips, F frames, L places of the long row, P patches, W width of a frame.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.models.lengths import Lengths, Movable

LOOKS_BEYOND = 8
"""Frames that the stem looks beyond a clip: the half of its first convolution."""


@dataclass(frozen=True)
class PatchFrames(Movable):
    """Frames of several clips in one long row, and where their patches come out.

    Attributes:
        frames_LW: the row, zero where no clip is.
        inside_L: whether a place belongs to a clip.
        place_P: number of each patch among all that the stem computes of the row.
        patches: patches of each clip, packed.
    """

    frames_LW: Tensor
    inside_L: Tensor
    place_P: Tensor
    patches: Lengths


def patches_of(frames_B: Tensor, per_patch: int) -> Tensor:
    """How many patches clips of so many frames have: the last one may be partly silence."""
    return -(-frames_B // per_patch)


def lay_out(values_FW: Tensor, lengths_B: Tensor, per_patch: int) -> PatchFrames:
    """Lay the frames of clips out in one row.

    Frames that a clip lacks in its last patch are silence: its own least stored value.

    Args:
        values_FW: frames of all clips, end to end.
        lengths_B: frames of each clip, all at least 1.
        per_patch: frames per patch.
    """
    patches = Lengths.of(patches_of(lengths_B, per_patch))
    frames = Lengths.of(lengths_B)
    between = -(-LOOKS_BEYOND // per_patch)  # patches of nothing
    before_B = patches.starts_B + between * torch.arange(1, len(lengths_B) + 1)
    total = int(patches.lengths_B.sum()) + between * (len(lengths_B) + 1)
    place_F = before_B[frames.sequence_N] * per_patch + frames.offset_N
    silence_B = torch.segment_reduce(
        values_FW.amin(1), "min", lengths=frames.lengths_B, unsafe=True
    )
    place_P = before_B[patches.sequence_N] + patches.offset_N
    row_SW = values_FW.new_zeros(total, per_patch, values_FW.shape[1])
    row_SW[place_P] = silence_B[patches.sequence_N, None, None]
    row_LW = row_SW.flatten(0, 1)
    row_LW[place_F] = values_FW
    inside_S = torch.zeros(total, dtype=torch.bool)
    inside_S[place_P] = True
    return PatchFrames(row_LW, inside_S.repeat_interleave(per_patch), place_P, patches)
