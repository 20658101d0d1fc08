"""Batches of frames as a speech module reads them, made on the host while a step runs.

Shapes: N frames of all clips end to end, M positions, B clips, C channels, K = stack × C.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.corpus.draws import PLACES
from pipeline.corpus.frame_statistics import Frames
from pipeline.corpus.row_batches import RowBatch
from pipeline.corpus.rows import Sequences
from pipeline.corpus.stacking import stack_rows, stacked_lengths
from pipeline.foundation.seeds import derive
from pipeline.models.lengths import Lengths, Movable
from pipeline.models.speech import SpeechInput
from pipeline.models.speech_front import SpeechFront
from pipeline.pretraining.splat.masking import FrameMasking, Hidden

FRAMES = "frames"
"""Name of the part that holds frames."""


@dataclass(frozen=True)
class Masked(Movable):
    """Frames with something hidden of them, and what they were.

    Attributes:
        shown_MK: what the module reads: stacked, 0 where hidden.
        target_NC: the normalised frames.
        hidden: what is hidden.
        rows: which frames are of which clip.
    """

    shown_MK: Tensor
    target_NC: Tensor
    hidden: Hidden
    rows: Lengths

    def pieces(self, frames: int) -> Iterator["Masked"]:
        """The same clip after clip, in groups of at most so many frames, or of one clip."""
        lengths = self.rows.lengths_B.tolist()
        begin, clip = 0, 0
        while clip < len(lengths):
            last, size = clip + 1, lengths[clip]
            while last < len(lengths) and size + lengths[last] <= frames:
                size += lengths[last]
                last += 1
            rows = Lengths.of(self.rows.lengths_B[clip:last])
            hidden = Hidden(
                self.hidden.frame_N[begin : begin + size], self.hidden.channel_BC[clip:last]
            )
            target_NC = self.target_NC[begin : begin + size]
            yield Masked(target_NC[:0], target_NC, hidden, rows)
            begin, clip = begin + size, last


@dataclass(frozen=True)
class SpeechBatch(Movable):
    """What a speech module is given of one batch.

    Attributes:
        clips: this process's clips, nothing hidden.
        number_B: a number of each of them, for dropout.
        key: names this step's dropout, int64 `[]`.
        frames: frames of the whole batch, over all processes.
        clips_in_all: clips of the whole batch.
        processes: how many processes share it.
        masked: the same clips with something hidden; None if nothing is to be filled in.
    """

    clips: SpeechInput
    number_B: Tensor
    key: Tensor
    frames: int
    clips_in_all: int
    processes: int
    masked: Masked | None


@dataclass(frozen=True)
class SpeechReading:
    """Makes batches of frames ready for a module.

    Attributes:
        frames: the cache as the module reads it.
        place_C: place in that cache of each clip of the corpus.
        front: of the module.
        masking: what to hide; None for nothing.
    """

    frames: Frames
    place_C: Tensor
    front: SpeechFront
    masking: FrameMasking | None

    @classmethod
    def of(
        cls, part: Sequences, frames: Frames, front: SpeechFront, masking: FrameMasking | None
    ) -> "SpeechReading":
        """For the clips of a corpus."""
        return cls(frames, part.place_C, front, masking)

    def __call__(self, batch: RowBatch) -> SpeechBatch:
        """A batch with its frames normalised, masked and stacked."""
        raw = batch.rows(FRAMES)
        rows = Lengths(**Lengths.parts(raw.lengths_B, len(raw.values_NW)))
        values_NC = self.frames.normalised(raw.values_NW, rows, self.place_C[batch.own_B])
        stack = self.front.stack
        positions = Lengths.of(stacked_lengths(rows.lengths_B, stack))
        stacked_MK = stack_rows(values_NC, rows, stack)
        masked = None
        if self.masking is not None:
            hidden = self.masking.choose(batch, FRAMES, values_NC.shape[1])
            shown_NC = values_NC.masked_fill(hidden.cells(rows), 0)
            masked = Masked(stack_rows(shown_NC, rows, stack), values_NC, hidden, rows)
        return SpeechBatch(
            clips=SpeechInput.of(positions, stacked_MK, self.front.read),
            number_B=batch.own_B * PLACES,
            key=torch.tensor(derive(*batch.name, "dropout")),
            frames=batch.totals[FRAMES],
            clips_in_all=len(batch.clip_B),
            processes=batch.processes,
            masked=masked,
        )
