"""Which frames and channels are hidden from a speech module, and what filling them in is worth.

Source: SPLAT, section 3.1. A span of four frames begins at each frame with a probability of 15 %;
spans overlap, so 1 − 0.85⁴ = 47.8 % of frames are hidden. A channel is hidden in the whole clip
with the same probability.

Shapes: N frames of all clips end to end, B clips, C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.corpus.draws import PLACES, below, random_bits
from pipeline.corpus.row_batches import RowBatch
from pipeline.foundation.splitmix import shifted
from pipeline.models.lengths import Lengths, Movable

FRACTION_BITS = 53


@dataclass(frozen=True)
class Hidden(Movable):
    """What is hidden of some clips.

    Attributes:
        frame_N: which frames are.
        channel_BC: which channels are, in a clip.
    """

    frame_N: Tensor
    channel_BC: Tensor

    def cells(self, rows: Lengths) -> Tensor:
        """Which cells `[N, C]` are hidden, one way or both."""
        return self.frame_N[:, None] | self.channel_BC[rows.sequence_N]


@dataclass(frozen=True)
class FrameMasking:
    """Hides spans of frames and channels, as functions of clip, place and step.

    Attributes:
        starts: share of frames at which a span begins.
        span: frames of a span.
        channels: share of channels that are hidden.
        band: hide one band of up to so many neighbouring channels instead; 0 for not.
    """

    starts: float
    span: int
    channels: float
    band: int = 0

    def choose(self, batch: RowBatch, part: str, channels: int) -> Hidden:
        """What is hidden of a batch's own clips.

        Args:
            batch: its name and the numbers of its clips decide.
            part: name of the part that holds frames.
            channels: C.
        """
        rows = batch.parts[part]
        start_N = chance(batch.bits("span starts", part), self.starts)
        frame_N = start_N.clone()
        for back in range(1, min(self.span, len(start_N))):
            frame_N[back:] |= start_N[:-back] & (rows.offset_N[back:] >= back)
        return Hidden(frame_N, self._channels(batch, channels))

    def _channels(self, batch: RowBatch, channels: int) -> Tensor:
        place_C = torch.arange(channels)
        number_BC = batch.own_B[:, None] * PLACES + place_C
        if not self.band:
            return chance(random_bits(number_BC, *batch.name, "channels"), self.channels)
        width_B1, start_B1 = (
            random_bits(batch.own_B[:, None] * PLACES, *batch.name, what)
            for what in ("band widths", "band starts")
        )
        width_B1 = below(width_B1, min(self.band, channels) + 1)
        first_B1 = shifted(start_B1, 1) % (channels - width_B1 + 1)
        return (place_C >= first_B1) & (place_C < first_B1 + width_B1)


def chance(bits: Tensor, share: float) -> Tensor:
    """Whether each of random bits falls into a share of all; exact to 2⁻⁵³."""
    return shifted(bits, 64 - FRACTION_BITS).double() * 2.0**-FRACTION_BITS < share


def filled_in(values_NC: Tensor, hidden: Hidden, rows: Lengths) -> Tensor:
    """What can be told of hidden cells without any learning: straight lines between what is seen.

    Hidden channels are filled in from their nearest visible neighbours, then hidden frames from
    theirs. Where there is none on one side, the other one is taken; where there is none at all it
    is 0, the mean.

    Args:
        values_NC: normalised frames; what is hidden is not read.
        hidden: what is hidden.
        rows: which frames are of which clip.
    """
    across_NC = _between_channels(values_NC, hidden.channel_BC, rows)
    place_N = torch.arange(len(values_NC), device=values_NC.device)
    first_N = place_N - rows.offset_N
    last_N = first_N + rows.lengths_B[rows.sequence_N] - 1
    before_N, after_N = _nearest(~hidden.frame_N, dim=0)
    return _line(
        across_NC,
        before_N,
        after_N,
        place_N,
        before_N >= first_N,
        after_N <= last_N,
    )


def last_seen(values_NC: Tensor, hidden: Hidden, rows: Lengths) -> Tensor:
    """Each frame, or the visible one before it; 0 where there is none before it in its clip."""
    place_N = torch.arange(len(values_NC), device=values_NC.device)
    before_N, _ = _nearest(~hidden.frame_N, dim=0)
    is_there_N = before_N >= place_N - rows.offset_N
    return torch.where(is_there_N[:, None], values_NC[before_N.clamp(min=0)], 0)


def _between_channels(values_NC: Tensor, hidden_BC: Tensor, rows: Lengths) -> Tensor:
    channels = hidden_BC.shape[1]
    place_C = torch.arange(channels, device=values_NC.device)
    before_BC, after_BC = _nearest(~hidden_BC, dim=1)
    weight_BC = (place_C - before_BC) / (after_BC - before_BC).clamp(min=1)
    left_BC, right_BC = before_BC >= 0, after_BC < channels
    weight_BC = torch.where(left_BC, torch.where(right_BC, weight_BC, 0.0), 1.0)
    none_B1 = ~(left_BC.any(1, keepdim=True) | right_BC.any(1, keepdim=True))
    clip_N = rows.sequence_N
    lower_NC, upper_NC = (
        values_NC.gather(1, at_BC.clamp(0, channels - 1)[clip_N]) for at_BC in (before_BC, after_BC)
    )
    weight_NC = weight_BC.to(values_NC.dtype)[clip_N]
    return torch.where(none_B1[clip_N], 0, lower_NC + weight_NC * (upper_NC - lower_NC))


def _nearest(visible: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The nearest visible place at or before, and at or after, each place: -1 or L for none."""
    length = visible.shape[dim]
    place = torch.arange(length, device=visible.device).expand(visible.shape)
    before = torch.where(visible, place, -1).cummax(dim).values
    after = torch.where(visible, place, length).flip(dim).cummin(dim).values.flip(dim)
    return before, after


def _line(
    values_NC: Tensor,
    before_N: Tensor,
    after_N: Tensor,
    place_N: Tensor,
    has_before_N: Tensor,
    has_after_N: Tensor,
) -> Tensor:
    weight_N = (place_N - before_N) / (after_N - before_N).clamp(min=1)
    weight_N = torch.where(has_before_N, torch.where(has_after_N, weight_N, 0.0), 1.0)
    last = len(values_NC) - 1
    lower_NC, upper_NC = (values_NC[at_N.clamp(0, last)] for at_N in (before_N, after_N))
    line_NC = lower_NC + weight_N.to(values_NC.dtype)[:, None] * (upper_NC - lower_NC)
    return torch.where((has_before_N | has_after_N)[:, None], line_NC, 0)
