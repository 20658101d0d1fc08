"""Masked audio: a head that fills in what is hidden of frames, and its loss.

Shapes: N frames of all clips end to end, M positions, B clips, C channels, K = stack × C, D width.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.corpus.stacking import unstack_rows
from pipeline.models.lengths import Lengths
from pipeline.models.speech import SpeechModule
from pipeline.pretraining.splat.masking import Hidden, filled_in, last_seen
from pipeline.pretraining.splat.reading import Masked, SpeechBatch
from pipeline.training import processes

Reconstruct = Literal["all", "masked"]
PIECE_FRAMES = 2048
"""Frames whose references are computed at once: they would hold several numbers per cell, beside
all that a step holds."""
WAYS = ("hidden-time", "hidden-channel", "visible")
"""A cell is of a hidden frame; of a visible frame and a hidden channel; or of neither."""


class Filling(nn.Module):
    """A speech module and the head that predicts frames; the head is thrown away.

    The loss is `Σ |x̂ − x|` over cells, divided by their number in the whole batch (SPLAT, Eq. 1, up
    to that number).

    Args:
        speech: the module that is kept.
        channels: C.
        stack: frames of a position.
        reconstruct: which cells count: `all`, as Eq. 1 has it, or those that were hidden.
    """

    def __init__(
        self, speech: SpeechModule, channels: int, stack: int, reconstruct: Reconstruct
    ) -> None:
        super().__init__()
        self.speech, self.stack, self.reconstruct = speech, stack, reconstruct
        width = speech.width
        self.head = nn.Sequential(
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, channels * stack),
        )

    def forward(self, batch: SpeechBatch, *, measure: bool = False) -> dict[str, Tensor]:
        """The loss, and the mean error of each kind of cell.

        With `measure` also what straight lines between visible cells are off by: a module that does
        no better has learnt that speech is smooth, and nothing else.
        """
        masked = batch.masked
        if masked is None:
            raise ValueError("nothing of this batch is hidden")
        clips = batch.clips.with_values(masked.shown_MK)
        if self.training:
            self.speech.begin(clips, batch.number_B, batch.key)
        predicted_MK = self.head(self.speech(clips).frames_ND)
        predicted_NC = unstack_rows(predicted_MK, masked.rows, self.stack).float()
        sums, counts = cell_errors(predicted_NC, masked)
        counts = processes.differentiable_sum(counts)
        ways = slice(None) if self.reconstruct == "all" else slice(0, 2)
        loss = sums[ways].sum() * batch.processes / counts[ways].sum().clamp(min=1)
        each = sums.detach() * batch.processes / counts.clamp(min=1)
        losses = {"loss": loss, "loss/masked-audio": loss.detach()}
        losses |= {f"loss/{way}": each[place] for place, way in enumerate(WAYS)}
        if measure:
            losses |= references(masked, counts, batch.processes)
        return losses


def cell_errors(predicted_NC: Tensor, masked: Masked) -> tuple[Tensor, Tensor]:
    """Sum of absolute errors and number of cells of each of `WAYS`, both `[3]`, float32.

    Args:
        predicted_NC: what is predicted.
        masked: what was hidden, and what it was.
    """
    error_NC = (predicted_NC - masked.target_NC).abs()
    frame_N, channel_BC = masked.hidden.frame_N, masked.hidden.channel_BC
    channel_NC = channel_BC[masked.rows.sequence_N]
    whole_N = error_NC.sum(1)
    of_channels_N = torch.where(channel_NC, error_NC, 0).sum(1)
    seen_N = ~frame_N
    time = torch.where(frame_N, whole_N, 0).sum()
    channel = torch.where(seen_N, of_channels_N, 0).sum()
    visible = torch.where(seen_N, whole_N - of_channels_N, 0).sum()
    hidden_N = channel_NC.sum(1)
    counts = torch.stack(
        [
            frame_N.sum() * channel_NC.shape[1],
            (hidden_N * seen_N).sum(),
            ((channel_NC.shape[1] - hidden_N) * seen_N).sum(),
        ]
    )
    return torch.stack([time, channel, visible]), counts.float()


@torch.no_grad()
def references(masked: Masked, counts: Tensor, shares: int) -> dict[str, Tensor]:
    """Mean errors of what needs no learning, on the same hidden cells.

    `line/…` are straight lines between visible cells, `repeat/hidden-time` is the last visible
    frame, `zero/…` the mean of each channel.

    Args:
        masked: what was hidden, and what it was.
        counts: cells of each of `WAYS` over all processes.
        shares: how many processes there are.
    """
    sums = {name: torch.zeros(len(WAYS), device=counts.device) for name in GUESSES}
    for some in masked.pieces(PIECE_FRAMES):
        shown_NC = some.target_NC.masked_fill(some.hidden.cells(some.rows), 0)
        for name, guess in GUESSES.items():
            sums[name] += cell_errors(guess(shown_NC, some.hidden, some.rows), some)[0]
    errors = {}
    for name, sum_of_way in sums.items():
        mean = sum_of_way * shares / counts.clamp(min=1)
        errors[f"{name}/hidden-time"] = mean[0]
        if name != "repeat":
            errors[f"{name}/hidden-channel"] = mean[1]
    return errors


GUESSES: dict[str, Callable[[Tensor, Hidden, Lengths], Tensor]] = {
    "line": filled_in,
    "repeat": last_seen,
    "zero": lambda shown_NC, _hidden, _rows: torch.zeros_like(shown_NC),
}
