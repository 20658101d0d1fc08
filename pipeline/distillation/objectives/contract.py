"""What a distillation objective is: student states and teacher vectors in, one number out.

Shapes: N student vectors of this process, B clips of the whole batch, K extra negatives, D width
of the student, E width of the teacher.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.foundation.errors import SpeechkdError

TeacherSide = Literal["none", "center", "standardize"]
Projection = Literal["mlp", "linear", "none"]


def alone(value_BD: Tensor) -> Tensor:
    """The sum over processes where there is only one: the value itself."""
    return value_BD


@dataclass(frozen=True)
class KDBatch:
    """What objectives see of one batch.

    Student vectors belong to this process's share of the batch; everything about clips and
    teacher vectors covers the whole batch, since these are known to every process.

    Attributes:
        states_ND: student vectors, one a token (or one a clip), before any projection.
        clip_N: which clip of the batch a student vector belongs to.
        place_N: its place within its clip, from 0.
        weight_N: 1 where the vector counts, 0 for padding and excluded special tokens.
        total: sum of `weight_N` over the whole batch, all processes together.
        teacher_BE: the clips' teacher vectors as cached.
        row_B: the clips' rows in the cache.
        recording_B: number of the recording a clip was cut from; negative where unknown.
        corpus_clips: M, how many clips there are to train on.
        negative_KE: extra teacher vectors drawn from the whole cache, or None.
        negative_row_K: their rows.
        negative_recording_K: their recordings.
        processes: how many processes share the batch.
        sum_over_processes: adds up a tensor over processes, letting gradients through.
    """

    states_ND: Tensor
    clip_N: Tensor
    place_N: Tensor
    weight_N: Tensor
    total: Tensor
    teacher_BE: Tensor
    row_B: Tensor
    recording_B: Tensor
    corpus_clips: int
    negative_KE: Tensor | None = None
    negative_row_K: Tensor | None = None
    negative_recording_K: Tensor | None = None
    processes: int = 1
    sum_over_processes: Callable[[Tensor], Tensor] = alone

    def token_mean(self, value_N: Tensor) -> Tensor:
        """Mean over the student vectors of the whole batch.

        With several processes each returns its part, scaled so that the processes' average (which
        is what distributed training takes) is the mean over the whole batch.
        """
        return (value_N * self.weight_N).sum() * self.processes / self.total

    def clip_means(self, value_ND: Tensor) -> Tensor:
        """Mean `[B, D]` of the vectors of each clip, for all clips of the whole batch."""
        clips = len(self.row_B)
        weighted_ND = value_ND * self.weight_N[:, None]
        sum_BD = value_ND.new_zeros(clips, value_ND.shape[1]).index_add(0, self.clip_N, weighted_ND)
        count_B = value_ND.new_zeros(clips).index_add(
            0, self.clip_N, self.weight_N.to(value_ND.dtype)
        )
        both = self.sum_over_processes(torch.cat([sum_BD, count_B[:, None]], dim=1))
        return both[:, :-1] / both[:, -1:].clamp(min=1)

    def rivals_BB(self) -> Tensor:
        """Whether clip b' may be a negative of clip b: not the same clip, nor its recording."""
        return _rivals(self.row_B, self.recording_B, self.row_B, self.recording_B)

    def rivals_BK(self) -> Tensor:
        """Whether extra negative k may be a negative of clip b."""
        if self.negative_row_K is None or self.negative_recording_K is None:
            raise ValueError("the batch carries no extra negatives")
        return _rivals(self.row_B, self.recording_B, self.negative_row_K, self.negative_recording_K)


def _rivals(row_B: Tensor, recording_B: Tensor, row_K: Tensor, recording_K: Tensor) -> Tensor:
    same_clip = row_B[:, None] == row_K
    same_recording = (recording_B[:, None] == recording_K) & (recording_B >= 0)[:, None]
    return ~(same_clip | same_recording)


@dataclass(frozen=True)
class TeacherStatistics:
    """Mean and standard deviation of the cached vectors, a dimension."""

    mean_E: Tensor
    std_E: Tensor


@dataclass(frozen=True)
class Options:
    """Choices that a user makes about objectives; None and "auto" leave them to the objective."""

    projection: Projection = "mlp"
    teacher_side: TeacherSide | Literal["auto"] = "auto"
    temperature: float | None = None
    nst_pattern: Literal["vector", "batch", "token", "sequence"] = "batch"
    nst_normalize: bool = True
    crd_bias: Literal["calibrated", "paper", "learned"] = "calibrated"
    crd_symmetric: bool = False


class Objective(nn.Module):
    """Base of all objectives: projects the student, prepares the teacher, calls `loss`.

    The projection may run under autocast; `loss` always runs in float32 or wider. The projection
    belongs to the objective and is thrown away with it, so no part of it is in the exported
    student.

    Args:
        student_width: D.
        teacher_width: E.
        statistics: of the teacher's vectors, for `center` and `standardize`.
        options: the user's choices.
    """

    default_side: TeacherSide = "standardize"
    default_temperature: ClassVar[float] = 1.0
    default_gamma: float = 1.0
    effective_gamma: float = 0.0
    """The weight that it took to carry a planted signal (docs/does-it-distil.md); 0: any that was
    tried."""
    compares_vectors: bool = True
    """Whether student and teacher vectors meet in one space, so that widths must agree."""

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        statistics: TeacherStatistics,
        options: Options,
    ) -> None:
        super().__init__()
        self.name = type(self).__name__.lower()
        self.options = options
        direct = options.projection == "none" and self.compares_vectors
        if direct and student_width != teacher_width:
            raise SpeechkdError(
                f"--projection none with --kd {self.name}: the student is {student_width} wide "
                f"and the teacher {teacher_width}, and this objective compares their vectors "
                "directly. Use --projection mlp or linear."
            )
        self.projection = make_projection(options.projection, student_width, teacher_width)
        self.side = options.teacher_side if options.teacher_side != "auto" else self.default_side
        self.temperature = options.temperature or self.default_temperature
        mean_E = statistics.mean_E.float()
        std_E = statistics.std_E.float()
        self.register_buffer("shift_E", torch.zeros_like(mean_E) if self.side == "none" else mean_E)
        # a dimension that never varies carries nothing: it becomes zero, not infinity
        scale_E = torch.where(std_E > 0, 1 / std_E.clamp(min=1e-12), torch.zeros_like(std_E))
        self.register_buffer(
            "scale_E", scale_E if self.side == "standardize" else torch.ones_like(mean_E)
        )
        self.shift_E: Tensor
        self.scale_E: Tensor

    def notices(self) -> list[str]:
        """What a user must know before such a run starts, one sentence each."""
        return []

    def teacher(self, vector_BE: Tensor) -> Tensor:
        """Cached vectors as this objective wants them: as they are, centred, or standardised."""
        wide_BE = at_least_float32(vector_BE)
        return (wide_BE - self.shift_E) * self.scale_E

    def student(self, states_ND: Tensor) -> Tensor:
        """Student vectors in the space where this objective compares them."""
        return at_least_float32(self.projection(states_ND))

    def forward(self, batch: KDBatch) -> Tensor:
        """The loss of a batch, a float32 scalar, before its weight γ."""
        return self.compare(self.student(batch.states_ND), batch)

    def compare(self, student_NE: Tensor, batch: KDBatch) -> Tensor:
        """The loss, from student vectors that are projected already."""
        with torch.autocast(student_NE.device.type, enabled=False):
            return self.loss(student_NE, self.teacher(batch.teacher_BE), batch)

    def loss(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """The objective itself; both sides are float32 or wider."""
        raise NotImplementedError


def make_projection(kind: Projection, student_width: int, teacher_width: int) -> nn.Module:
    """The student-side head: `mlp` is Linear, GELU, LayerNorm, Linear, as in VidLanKD."""
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(student_width, teacher_width)
    return nn.Sequential(
        nn.Linear(student_width, student_width),
        nn.GELU(),
        nn.LayerNorm(student_width),
        nn.Linear(student_width, teacher_width),
    )


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision becomes float32; wider types stay."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
