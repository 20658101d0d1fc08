"""Which frames are hidden from CTAL, and what it sees in their place (MCAM).

The paper divides a clip into segments of one length, chooses 15 % of them, and gives each chosen
one a fate: 80 % become zero, 10 % become other frames of the clip, 10 % stay. The released code
scatters spans that may overlap, and gives each frame a fate of its own, which leaves a tenth of
each span visible. Both are here.

Every draw follows from seed, epoch and clip alone, whatever the batch or the number of processes.

Shapes: F frames of all clips end to end, B clips, S segments of all clips.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from pipeline.corpus.acoustic import clip_of_frames
from pipeline.corpus.draws import PLACES, below, random_bits
from pipeline.corpus.masking import OF_TEN_MASKED, OF_TEN_REPLACED
from pipeline.foundation.splitmix import shifted

Spans: TypeAlias = Literal["partition", "scattered"]
Fates: TypeAlias = Literal["segment", "frame"]
BITS_OF_A_SHARE = 53
"""Bits that make a random number between 0 and 1, as many as float64 holds."""


@dataclass(frozen=True)
class HiddenFrames:
    """What was drawn for the frames of some clips.

    Attributes:
        chosen_F: frames to predict.
        hidden_F: those of them that are zeroed or replaced, which the model does not see.
        source_F: for a replaced frame, the frame that stands in its place; -1 for none.
        distance_F: for a hidden frame, how far the nearest frame of its clip is that is not hidden;
            0 for others.
    """

    chosen_F: Tensor
    hidden_F: Tensor
    source_F: Tensor
    distance_F: Tensor

    def shown(self, values_FC: Tensor) -> Tensor:
        """Values of frames with hidden ones zeroed or replaced."""
        shown_FC = values_FC.masked_fill(self.hidden_F[:, None], 0)
        replaced = (self.source_F >= 0).nonzero()[:, 0]
        return shown_FC.index_copy(0, replaced, values_FC[self.source_F[replaced]])


@dataclass(frozen=True)
class FrameMasking:
    """Draws which frames are hidden.

    Attributes:
        share: share of a clip's segments that is chosen, in the mean.
        shortest: frames of the shortest segment; each clip draws one length.
        longest: of the longest.
        stack: frames of a position; segments begin and end with positions.
        spans: `partition` as the paper, or `scattered` as the released code.
        fates: of each `segment` as the paper, or of each `frame` as the released code.
    """

    share: float
    shortest: int
    longest: int
    stack: int = 1
    spans: Spans = "partition"
    fates: Fates = "segment"

    def choose(self, clip_B: Tensor, counts_B: Tensor, *name: int | str) -> HiddenFrames:
        """Draw for some clips.

        A clip of one segment has nothing to be told from, so nothing of it is chosen. If that
        leaves nothing in all clips, the longest of them has one segment chosen.

        Args:
            clip_B: a number of each clip that no other one has.
            counts_B: frames of each clip.
            name: seed, stream and epoch: what the draw is for.
        """
        length_B = self._lengths(clip_B, *name)
        segments_B = -(-counts_B // length_B)
        clip_F = clip_of_frames(counts_B, int(counts_B.sum()))
        start_B = counts_B.cumsum(0) - counts_B
        offset_F = torch.arange(len(clip_F)) - start_B[clip_F]
        choose = self._partition if self.spans == "partition" else self._scattered
        begin_S, of_S, chosen_S = choose(clip_B, counts_B, length_B, segments_B, *name)
        # the last drawn span that covers a frame decides what stands there
        span_F = torch.full_like(offset_F, -1)
        for reach in range(int(length_B.max())):
            at_S = begin_S + reach
            inside = chosen_S & (reach < length_B[of_S]) & (at_S < counts_B[of_S])
            span_F[start_B[of_S[inside]] + at_S[inside]] = inside.nonzero()[:, 0]
        chosen_F = span_F >= 0
        covered = span_F.clamp(min=0)
        own_S = clip_B[of_S] * PLACES + begin_S
        number_F = own_S[covered] if self.fates == "segment" else clip_B[clip_F] * PLACES + offset_F
        fate_F = below(random_bits(number_F, *name, "frame fates"), 10)
        hidden_F = chosen_F & (fate_F < OF_TEN_MASKED + OF_TEN_REPLACED)
        replaced_F = hidden_F & (fate_F >= OF_TEN_MASKED)
        # a span is replaced by frames that follow each other, a frame by any other one
        if self.fates == "segment":
            within_F = offset_F - begin_S[covered]
            size_S = torch.minimum(length_B[of_S], counts_B[of_S] - begin_S)
            room_F = (counts_B[clip_F] - size_S[covered]).clamp(min=0) // self.stack + 1
            other_F = random_bits(number_F, *name, "frame source")
            source_F = _below(other_F, room_F) * self.stack + within_F
        else:
            source_F = _below(random_bits(number_F, *name, "frame source"), counts_B[clip_F])
        source_F = torch.where(replaced_F, source_F + start_B[clip_F], -1)
        distance_F = distance_to_visible(hidden_F, counts_B)
        return HiddenFrames(chosen_F, hidden_F, source_F, distance_F)

    def _lengths(self, clip_B: Tensor, *name: int | str) -> Tensor:
        """Frames of the segments of each clip, a multiple of `stack`."""
        shortest = max(1, -(-self.shortest // self.stack))
        longest = max(shortest, self.longest // self.stack)
        bits_B = random_bits(clip_B, *name, "segment length")
        return (shortest + below(bits_B, longest - shortest + 1)) * self.stack

    def _partition(
        self,
        clip_B: Tensor,
        counts_B: Tensor,
        length_B: Tensor,
        segments_B: Tensor,
        *name: int | str,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Where segments begin in their clips, which clip each is of, and which are chosen."""
        of_S = clip_of_frames(segments_B, int(segments_B.sum()))
        first_B = segments_B.cumsum(0) - segments_B
        number_S = torch.arange(len(of_S)) - first_B[of_S]
        wanted_B = self.share * segments_B.double()
        more_B = _share_of(random_bits(clip_B, *name, "segment count")) < wanted_B.frac()
        count_B = torch.where(segments_B < 2, 0, wanted_B.floor().long() + more_B)
        able_B = segments_B >= 2
        if not int(count_B.sum()) and bool(able_B.any()):
            count_B[torch.where(able_B, counts_B, -1).argmax()] = 1
        bits_S = random_bits(clip_B[of_S] * PLACES + number_S, *name, "segments")
        order_S = bits_S.argsort()
        order_S = order_S[of_S[order_S].argsort(stable=True)]
        rank_S = torch.empty_like(order_S)
        rank_S[order_S] = torch.arange(len(order_S)) - first_B[of_S]
        return number_S * length_B[of_S], of_S, rank_S < count_B[of_S]

    def _scattered(
        self,
        clip_B: Tensor,
        counts_B: Tensor,
        length_B: Tensor,
        segments_B: Tensor,
        *name: int | str,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same for spans with random beginnings, none of them twice, which may overlap."""
        ratio_B = self.share * counts_B.double() / length_B
        count_B = ratio_B.round().long()  # half to even
        places_B = ((counts_B - length_B).clamp(min=0) // self.stack).clamp(min=1)
        count_B = torch.minimum(count_B, places_B)
        if not int(count_B.sum()):
            count_B[torch.where(segments_B >= 2, counts_B, -1).argmax()] = int(
                (segments_B >= 2).any()
            )
        of_S = clip_of_frames(places_B, int(places_B.sum()))
        first_B = places_B.cumsum(0) - places_B
        number_S = torch.arange(len(of_S)) - first_B[of_S]
        bits_S = random_bits(clip_B[of_S] * PLACES + number_S, *name, "spans")
        order_S = bits_S.argsort()
        order_S = order_S[of_S[order_S].argsort(stable=True)]
        rank_S = torch.arange(len(order_S)) - first_B[of_S]
        drawn_S = order_S[rank_S < count_B[of_S]]
        of_drawn_S = of_S[drawn_S]
        begin_S = number_S[drawn_S] * self.stack
        return begin_S, of_drawn_S, torch.ones_like(begin_S, dtype=torch.bool)


def distance_to_visible(hidden_F: Tensor, counts_B: Tensor) -> Tensor:
    """For each hidden frame, how far the nearest frame of its clip is that is not; 0 for others.

    A clip of which all is hidden has the number of frames of all clips there.
    """
    before_F, after_F = visible_neighbours(hidden_F, counts_B)
    place_F, frames = torch.arange(len(hidden_F)), len(hidden_F)
    back_F = torch.where(before_F >= 0, place_F - before_F, frames)
    ahead_F = torch.where(after_F >= 0, after_F - place_F, frames)
    return torch.where(hidden_F, torch.minimum(back_F, ahead_F), 0)


def visible_neighbours(hidden_F: Tensor, counts_B: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest frames of the same clip before and after each frame that are not hidden.

    A frame that is not hidden is its own neighbour; -1 stands for none.
    """
    frames = len(hidden_F)
    clip_F, place_F = clip_of_frames(counts_B, frames), torch.arange(frames)
    end_B = counts_B.cumsum(0)
    start_F, end_F = (end_B - counts_B)[clip_F], end_B[clip_F]
    before_F = torch.where(hidden_F, -1, place_F).cummax(0).values
    after_F = torch.where(hidden_F, frames, place_F).flip(0).cummin(0).values.flip(0)
    before_F = torch.where(before_F >= start_F, before_F, -1)
    return before_F, torch.where(after_F < end_F, after_F, -1)


def _below(bits: Tensor, limit: Tensor) -> Tensor:
    return shifted(bits, 1) % limit


def _share_of(bits: Tensor) -> Tensor:
    return shifted(bits, 64 - BITS_OF_A_SHARE).double() * 2.0**-BITS_OF_A_SHARE
