"""WhisBERT's audio encoder: a stem of two convolutions, a learned CLS, Whisper's encoder layers.

Wolf et al. 2023, section 2.1. What is assumed there: padding of the convolutions, a layer norm
behind the stem, a learned vector for masked patches.

Shapes: B clips, L places of frames, P patches, N = P + B places with CLS, D width, W width of a
frame.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.lengths import Lengths, Movable
from pipeline.models.whisbert.layers import Layers, LayerSizes, learned_vector, positions
from pipeline.models.whisbert.patches import PatchFrames

KERNEL = 16
"""Frames that each convolution sees (paper)."""


class ConvStem(nn.Module):
    """Frames → patches: two convolutions with GELU, the second with a stride of one patch.

    Padding is such that each patch is centred on its own frames and every frame counts: a clip of
    F frames, a multiple of a patch, has exactly F / patch patches. Between the convolutions what
    lies outside of a clip is zero again, so that a clip's patches are those that it has alone.

    At a width of 16 and a stride of 10 a patch sees 31 frames, of which it shares 21 with the next.

    Args:
        frame_width: W.
        width: D.
        per_patch: frames per patch, at most `KERNEL`.
        normed: a layer norm behind. Without it (the paper's letter) fresh patches are a
            seventeenth of the size of their positions.
    """

    def __init__(self, frame_width: int, width: int, per_patch: int, *, normed: bool) -> None:
        super().__init__()
        self.per_patch = per_patch
        self.first = nn.Conv1d(frame_width, width, KERNEL)
        self.second = nn.Conv1d(width, width, KERNEL, stride=per_patch)
        self.norm: nn.Module = nn.LayerNorm(width) if normed else nn.Identity()

    def forward(self, frames: PatchFrames) -> Tensor:
        """Patches `[P, D]`."""
        row_1WL = frames.frames_LW.T[None]
        before = (KERNEL - 1) // 2
        states_1DL = functional.gelu(
            self.first(functional.pad(row_1WL, (before, KERNEL - 1 - before)))
        )
        states_1DL = states_1DL * frames.inside_L
        beyond = KERNEL - self.per_patch
        states_1DL = functional.pad(states_1DL, (beyond // 2, beyond - beyond // 2))
        patches_1DS = functional.gelu(self.second(states_1DL))
        patches_PD: Tensor = self.norm(patches_1DS[0].T.index_select(0, frames.place_P))
        return patches_PD


@dataclass(frozen=True)
class WithFirst(Movable):
    """Sequences that each get one place more, before their first one.

    Attributes:
        inner: the sequences without it.
        outer: those with it.
    """

    inner: Lengths
    outer: Lengths

    @classmethod
    def of(cls, inner: Lengths) -> "WithFirst":
        """One place more for each sequence; made on the host."""
        return cls(inner, Lengths.of(inner.lengths_B + 1))

    @cached_property
    def place_N(self) -> Tensor:
        """Where each place of the inner sequences stands in the outer ones."""
        return torch.arange(len(self.inner.sequence_N), device=self.inner.sequence_N.device) + (
            self.inner.sequence_N + 1
        )


class SpeechEncoder(nn.Module):
    """Patches → contextual states, with a state of the whole clip first.

    Args:
        frame_width: W.
        sizes: of the layers.
        per_patch: frames per patch.
        normed: whether the stem ends in a layer norm.
    """

    def __init__(
        self, frame_width: int, sizes: LayerSizes, per_patch: int, *, normed: bool = True
    ) -> None:
        super().__init__()
        self.width = sizes.width
        self.stem = ConvStem(frame_width, sizes.width, per_patch, normed=normed)
        self.cls_D = learned_vector(sizes.width)
        self.mask_D = learned_vector(sizes.width)
        self.layers = Layers(sizes)

    def patches(self, frames: PatchFrames) -> Tensor:
        """The stem's patches `[P, D]`, before positions."""
        patches_PD: Tensor = self.stem(frames)
        return patches_PD

    def forward(
        self, patches_PD: Tensor, places: WithFirst, masked_P: Tensor | None = None
    ) -> Tensor:
        """States `[N, D]`: of each clip its CLS, which has no position, then its patches.

        Args:
            patches_PD: from `patches`.
            places: of patches and states.
            masked_P: which patches are hidden; None for none.
        """
        if masked_P is not None:
            patches_PD = torch.where(masked_P[:, None], self.mask_D.to(patches_PD), patches_PD)
        patches_PD = patches_PD + positions(places.inner, self.width).to(patches_PD)
        inputs_ND = with_first(self.cls_D, patches_PD, places)
        states_ND: Tensor = self.layers(inputs_ND, places.outer)
        return states_ND


def with_first(first_D: Tensor, states_ND: Tensor, places: WithFirst) -> Tensor:
    """Sequences with one vector before each of them."""
    outer = places.outer
    inputs_ND = states_ND.new_zeros(len(outer.sequence_N), states_ND.shape[1])
    inputs_ND = inputs_ND.index_copy(0, places.place_N, states_ND)
    firsts_BD = first_D.to(states_ND).expand(len(outer.lengths_B), -1)
    return inputs_ND.index_copy(0, outer.starts_B, firsts_BD)
