"""A speech encoder as rows of a cache: one mean vector per clip, or its states.

Shapes: B clips, S samples, T encoder positions, E width.
"""

from dataclasses import dataclass

import torch

from pipeline.cache.identity import Dtype, Identity, sequence_identity, vector_identity
from pipeline.extraction.batches import WaveBatch
from pipeline.extraction.rows import Rows, packed
from pipeline.extraction.teacher import DummyTeacher, FramePooling, Teacher
from pipeline.extraction.wave_teacher import WaveTeacher
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.units import SAMPLE_RATE_HZ
from pipeline.shards.refusals import Reason


@dataclass(frozen=True)
class MeanVectors:
    """One row per clip: the teacher's pooled vector."""

    teacher: Teacher | WaveTeacher | DummyTeacher
    pooling: FramePooling
    context_seconds: int
    beside_reading: bool = False

    @property
    def device(self) -> torch.device:
        """The teacher's device."""
        return self.teacher.device

    def identity(self, dtype: Dtype, clip_seconds: int) -> Identity:
        """Of a cache of these vectors.

        Raises:
            SpeechkdError: clips may be longer than the teacher reads.
        """
        self.teacher.check(clip_seconds)
        earlier = self.teacher.layer < self.teacher.layers
        return vector_identity(
            teacher=self.teacher.id,
            teacher_sha256=self.teacher.sha256,
            d_model=self.teacher.d_model,
            pooling=self.pooling,
            context_seconds=self.context_seconds,
            precision=self.teacher.precision,
            dtype=dtype,
            clip_seconds=clip_seconds,
            layer=self.teacher.layer if earlier else None,
        )

    def rows_of(self, batch: WaveBatch) -> Rows:
        """The vector of each clip that has a position."""
        counts = [min(1, self.teacher.positions_of(n)) for n in batch.lengths_B.tolist()]
        vectors_BE = self.teacher.encode(batch.waves_BS, batch.lengths_B)
        if all(counts):
            return Rows(vectors_BE, counts)
        vectors_NE = packed(vectors_BE[:, None], counts)
        return Rows(vectors_NE, counts, refused=_too_short(batch, counts))


@dataclass(frozen=True)
class States:
    """The teacher's states at the positions that hold audio; of Whisper ⌈samples / 320⌉ of them.

    With a stride of K each row is the mean of K states that follow each other, accumulated in
    float32. The last row of a clip is the mean of those that are left.
    """

    teacher: Teacher | WaveTeacher
    stride: int = 1
    beside_reading: bool = False

    @property
    def device(self) -> torch.device:
        """The teacher's device."""
        return self.teacher.device

    def identity(self, dtype: Dtype, clip_seconds: int) -> Identity:
        """Of a cache of these states.

        Raises:
            SpeechkdError: clips may be longer than the teacher reads, or the stride is longer than
                the longest clip, so that a clip has one row.
        """
        self.teacher.check(clip_seconds)
        positions = self.teacher.positions_of(clip_seconds * SAMPLE_RATE_HZ)
        if self.stride > positions:
            raise SpeechkdError(
                f"--stride {self.stride}: a clip of {clip_seconds} s has "
                f"{counted(positions, 'state')}. Give "
                "a smaller stride, or --keep vector for one mean per clip."
            )
        return sequence_identity(
            "states",
            width=self.teacher.d_model,
            most_rows=-(-positions // self.stride),
            hop_samples=self.teacher.hop_samples * self.stride,
            dtype=dtype,
            clip_seconds=clip_seconds,
            settings={
                "teacher": self.teacher.id,
                "teacher_sha256": self.teacher.sha256,
                "layer": self.teacher.layer,
                "stride": self.stride,
                "context_seconds": self.teacher.context_seconds,
                "precision": self.teacher.precision,
            },
        )

    @torch.inference_mode()
    def rows_of(self, batch: WaveBatch) -> Rows:
        """The states of each clip."""
        positions = [self.teacher.positions_of(n) for n in batch.lengths_B.tolist()]
        counts = [-(-n // self.stride) for n in positions]
        grid_BTE = self.teacher.grid(batch.waves_BS, batch.lengths_B)
        if self.stride > 1:
            grid_BTE = strided_means(grid_BTE, positions, self.stride)
        return Rows(packed(grid_BTE, counts), counts, refused=_too_short(batch, counts))


def _too_short(batch: WaveBatch, counts: list[int]) -> dict[int, tuple[Reason, str]]:
    """The clips of a batch that have no row."""
    detail = "{} samples at 16 kHz, too few for one state of the teacher"
    return {
        place: (Reason.TOO_SHORT, detail.format(int(batch.lengths_B[place])))
        for place, count in enumerate(counts)
        if not count
    }


def strided_means(states_BTE: torch.Tensor, positions: list[int], stride: int) -> torch.Tensor:
    """Means of `stride` states that follow each other, over each clip's own positions alone.

    Args:
        states_BTE: float32 states.
        positions: of each clip that hold audio.
        stride: states per mean; the last mean of a clip is of those that are left.

    Returns:
        float32 `[B, ⌈T / stride⌉, E]`.
    """
    device = states_BTE.device
    positions_B1 = torch.tensor(positions)[:, None]
    longest = states_BTE.shape[1]
    groups = -(-longest // stride)
    held_BT = (torch.arange(longest) < positions_B1).to(device, non_blocking=True)
    own_BTE = states_BTE * held_BT[..., None]
    filled_BTE = torch.nn.functional.pad(own_BTE, (0, 0, 0, groups * stride - longest))
    sums_BGE = filled_BTE.view(len(positions), groups, stride, -1).sum(dim=2)
    sizes_BG = (positions_B1 - stride * torch.arange(groups)).clamp(1, stride)
    return sums_BGE / sizes_BG.to(device, non_blocking=True)[..., None]
