"""Batches of clips as CTAL reads them: masked tokens, frames of which some are hidden, and targets.

They are made on the host, all of them functions of seed, epoch and step (`corpus.row_batches`).

Shapes: B clips of this process, N tokens, K chosen tokens, F frames end to end, P positions
(`stack` frames each), J chosen positions, S frames of a position, C columns of a position as it is
read, M mel channels.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from pipeline.corpus.acoustic import Normalised, clip_of_frames
from pipeline.corpus.draws import PLACES
from pipeline.corpus.frame_features import FrameFeatures
from pipeline.corpus.masking import Masking
from pipeline.corpus.row_batches import RowBatch
from pipeline.corpus.row_corpus import TOKENS, RowCorpus
from pipeline.foundation.seeds import derive
from pipeline.models.lengths import Lengths, Movable
from pipeline.models.packing import Packed
from pipeline.pretraining.ctal.masking import FrameMasking, HiddenFrames, visible_neighbours

FRAMES = "frames"
DEEP = 8
"""Frames that are at least so far from a visible one are in the middle of what is hidden. The
window of 50 ms alone tells of 3 or 4 frames on each side."""
LINES = ("zero", "interpolation", "held")
"""What needs no model: the mean, a line between the nearest visible frames, the last such frame."""


@dataclass(frozen=True)
class CtalBatch(Movable):
    """A process's share of one batch.

    Attributes:
        packed: tokens, unmasked.
        masked_N: the same with masks.
        chosen_K: places of the tokens to predict.
        token_number_N: a number of each token that no other one of the corpus has.
        audio: positions of each clip.
        read_PC: what is read of them.
        position_number_P: a number of each position.
        chosen_J: positions to predict.
        target_JSM: their clean log-mels and deltas, `[J, S, 2 M]`.
        real_JS: which of their frames there are; the last position of a clip may lack some.
        middle_JS: which of them are in the middle of what is hidden.
        lines: mean absolute errors of `LINES` over these frames, then over those in the middle, as
            shares of this process in the means over all.
        dropout_key: names the dropout of this step, int64 `[]`.
        chosen_total: tokens that all processes predict together.
        frames_total: frames that all processes predict together.
        middle_total: how many of these are in the middle.
        frames: frames of all clips, over all processes.
        clips: clips, over all processes.
        processes: how many share the batch.
    """

    packed: Packed
    masked_N: Tensor
    chosen_K: Tensor
    token_number_N: Tensor
    audio: Lengths
    read_PC: Tensor
    position_number_P: Tensor
    chosen_J: Tensor
    target_JSM: Tensor
    real_JS: Tensor
    middle_JS: Tensor
    lines: Tensor
    dropout_key: Tensor
    chosen_total: int
    frames_total: int
    middle_total: int
    frames: int
    clips: int
    processes: int


@dataclass(frozen=True)
class CtalMaker:
    """Makes what CTAL reads of a batch of rows; a pure function of the batch.

    Args:
        corpus: the clips that batches have.
        tokens: decides which tokens are predicted.
        frames: decides which frames are.
        features: how rows of the cache become what is read.
    """

    corpus: RowCorpus
    tokens: Masking
    frames: FrameMasking
    features: FrameFeatures

    def __call__(self, batch: RowBatch) -> CtalBatch:
        """What CTAL reads of some clips, and what it is to predict.

        Args:
            batch: in this machine's memory.
        """
        seed, stream, epoch, step = batch.name
        counts_B = self.corpus.parts[FRAMES].lengths_of(batch.clip_B)
        counts_B = counts_B.clamp(max=self.features.longest)
        hidden = self.frames.choose(batch.clip_B, counts_B, seed, f"frames {stream}", epoch)
        frames_total = int(hidden.chosen_F.sum())
        middle_total = int((hidden.distance_F >= DEEP).sum())
        mine_B = torch.isin(batch.clip_B, batch.own_B)
        hidden = share_of(hidden, mine_B[clip_of_frames(counts_B, len(hidden.chosen_F))])
        return CtalBatch(
            **self._tokens(batch, mine_B, f"masks {stream}", epoch, step),
            **self._frames(batch, hidden, frames_total, middle_total),
            dropout_key=torch.tensor(derive(seed, f"dropout {stream}", epoch, step)),
            frames_total=frames_total,
            middle_total=middle_total,
            frames=int(counts_B.sum()),
            clips=len(batch.clip_B),
            processes=batch.processes,
        )

    def _tokens(self, batch: RowBatch, mine_B: Tensor, *name: int | str) -> dict[str, Any]:
        """Tokens of this process; which are masked is decided over the whole batch."""
        whole = cast(Packed, self.corpus.parts[TOKENS].of(batch.clip_B))
        number_N = batch.clip_B[whole.sequence_N] * PLACES + whole.offset_N
        chosen_K, masked_N = self.tokens.choose(whole.ids_N, number_N, batch.name[0], *name)
        mine_N = mine_B[whole.sequence_N]
        renumbered_N = mine_N.long().cumsum(0) - 1
        return {
            "packed": batch.tokens(),
            "masked_N": masked_N[mine_N],
            "chosen_K": renumbered_N[chosen_K[mine_N[chosen_K]]],
            "token_number_N": number_N[mine_N],
            "chosen_total": len(chosen_K),
        }

    def _frames(
        self, batch: RowBatch, hidden: HiddenFrames, frames_total: int, middle_total: int
    ) -> dict[str, Any]:
        """Frames of this process as they are read, and what is predicted of them."""
        features, rows = self.features, batch.rows(FRAMES)
        mel_FM, counts_B = features.cut(rows.values_NW, rows.lengths_B)
        normal = features.normal(mel_FM, counts_B)
        clean_FW = features.clean(normal)
        shown_FW = shown(features, normal, clean_FW, hidden)
        read_FC = shown_FW[:, : features.columns // features.stack]
        audio = Lengths.of(features.positions(counts_B))
        of_frames = torch.stack([hidden.chosen_F, hidden.distance_F >= DEEP], dim=1).float()
        of_positions = features.stacked(of_frames, counts_B).view(len(audio.sequence_N), -1, 2)
        chosen_J = of_positions[:, :, 0].any(1).nonzero()[:, 0]
        target_PC = features.stacked(clean_FW, counts_B)
        error_3 = lines(clean_FW, shown_FW, hidden, counts_B)
        middle_3 = lines(clean_FW, shown_FW, hidden, counts_B, deep=True)
        scale = batch.processes / clean_FW.shape[1]
        return {
            "audio": audio,
            "read_PC": features.stacked(read_FC, counts_B),
            "position_number_P": batch.own_B[audio.sequence_N] * PLACES + audio.offset_N,
            "chosen_J": chosen_J,
            "target_JSM": target_PC[chosen_J].view(
                len(chosen_J), features.stack, clean_FW.shape[1]
            ),
            "real_JS": of_positions[chosen_J, :, 0] > 0,
            "middle_JS": of_positions[chosen_J, :, 1] > 0,
            "lines": torch.cat(
                [error_3 * scale / max(1, frames_total), middle_3 * scale / max(1, middle_total)]
            ).float(),
        }


def shown(
    features: FrameFeatures, normal: Normalised, clean_FW: Tensor, hidden: HiddenFrames
) -> Tensor:
    """What is shown of frames of which some are hidden, log-mels and deltas `[F, 2 M]`.

    Deltas are computed from what is shown. As in the `paper` they are those of the clean frames at
    visible ones, and so tell of the hidden frames beside them.
    """
    if features.deltas == "paper":
        return hidden.shown(clean_FW)
    return normal.with_deltas(hidden.shown(normal.mel_FM))


def share_of(hidden: HiddenFrames, mine_F: Tensor) -> HiddenFrames:
    """What was drawn for some of the clips; whole clips are in or out."""
    if bool(mine_F.all()):
        return hidden
    renumbered_F = mine_F.long().cumsum(0) - 1
    source_F = torch.where(hidden.source_F < 0, -1, renumbered_F[hidden.source_F])
    return HiddenFrames(
        hidden.chosen_F[mine_F],
        hidden.hidden_F[mine_F],
        source_F[mine_F],
        hidden.distance_F[mine_F],
    )


def lines(
    clean_FW: Tensor,
    shown_FW: Tensor,
    hidden: HiddenFrames,
    counts_B: Tensor,
    *,
    deep: bool = False,
) -> Tensor:
    """Summed absolute errors `[3]` (float64) of `LINES` on the frames to predict.

    They know which of these are hidden; a chosen frame that stays is its own neighbour.

    Args:
        clean_FW: what is to be predicted.
        shown_FW: what is shown of it.
        hidden: which frames are chosen and hidden.
        counts_B: frames of each clip.
        deep: only on frames in the middle of what is hidden.
    """
    asked_F = hidden.distance_F >= DEEP if deep else hidden.chosen_F
    asked_J = asked_F.nonzero()[:, 0]
    before_F, after_F = visible_neighbours(hidden.hidden_F, counts_B)
    before_J, after_J = before_F[asked_J], after_F[asked_J]
    none_J = (before_J < 0) & (after_J < 0)
    first_J = torch.where(before_J < 0, after_J, before_J)
    last_J = torch.where(after_J < 0, before_J, after_J)
    apart_J = (last_J - first_J).clamp(min=1)
    share_J1 = ((asked_J - first_J).clamp(min=0) / apart_J)[:, None].clamp(max=1)
    first_JW, last_JW = (
        shown_FW[place_J.clamp(min=0)].masked_fill(none_J[:, None], 0)
        for place_J in (first_J, last_J)
    )
    between_JW = first_JW + (last_JW - first_JW) * share_J1
    target_JW = clean_FW[asked_J]
    guesses = (torch.zeros_like(target_JW), between_JW, first_JW)
    return torch.stack([(target_JW - guess).abs().double().sum() for guess in guesses])
