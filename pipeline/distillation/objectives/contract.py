"""What a distillation objective is: student states and teacher vectors in, one number out.

Shapes: N student vectors of this process, B clips of the whole batch, K extra negatives, D width
of the student, E width of the teacher.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.cache.statistics import Statistics
from pipeline.corpus.batch import WholeBatch
from pipeline.corpus.word_vectors import Sentences
from pipeline.foundation.errors import SpeechkdError

TeacherSide = Literal["none", "center", "standardize", "within-speaker", "within-word"]
Level = Literal["clip", "word"]
Projection = Literal["mlp", "linear", "none"]


def alone(value_BD: Tensor) -> Tensor:
    """The sum over processes if there is only one: the value itself."""
    return value_BD


@dataclass(frozen=True)
class KDBatch:
    """What objectives see of one batch: student vectors, and the clips that they belong to.

    | field                  | shape    | content                                               |
    |------------------------|----------|-------------------------------------------------------|
    | `states_ND`            | `[N, D]` | student vectors before the projection, one per token  |
    |                        |          | or one per clip                                       |
    | `clip_N`               | `[N]`    | the clip of each, by its place in the batch, int64    |
    | `place_N`              | `[N]`    | its place within its clip, from 0, int64              |
    | `longest`              |          | one more than the largest place, or more, an integer  |
    | `weight_N`             | `[N]`    | 1 where it counts, 0 for padding and for special      |
    |                        |          | tokens that are left out, float32                     |
    | `total`                | `[]`     | sum of `weight_N` over all processes                  |
    | `whole.teacher_BE`     | `[B, E]` | teacher vectors as cached                             |
    | `whole.row_B`          | `[B]`    | rows in the cache, int64                              |
    | `whole.recording_B`    | `[B]`    | numbers of the recordings, negative where unknown     |
    | `whole.negative_KE`    | `[K, E]` | teacher vectors of extra negatives, or None           |
    | `whole.negative_row_K` | `[K]`    | their rows; `negative_recording_K` their recordings   |

    Student vectors are those of this process's share of the batch. `whole` is the whole batch,
    the same in every process. `sum_over_processes` adds up a tensor over processes and lets
    gradients through.

    At the level of words, read "word" for "clip" in this table: B counts the words of the batch,
    `clip_N` is the word of each student vector, and each word of this process has one vector.
    `sentences` then says which words share a clip; at the level of clips it is None.
    """

    states_ND: Tensor
    clip_N: Tensor
    place_N: Tensor
    longest: int
    weight_N: Tensor
    total: Tensor
    whole: WholeBatch
    sentences: Sentences | None = None
    sum_over_processes: Callable[[Tensor], Tensor] = alone

    def token_mean(self, value_N: Tensor) -> Tensor:
        """Mean over the student vectors of the whole batch.

        With several processes each returns its part, scaled so that the processes' average (which
        is what distributed training takes) is the mean over the whole batch.
        """
        return self.mean_of((value_N * self.weight_N).sum())

    def mean_of(self, weighted_sum: Tensor) -> Tensor:
        """The same mean, from the sum over this process's vectors of value times weight."""
        return weighted_sum * self.whole.processes / self.total

    def clip_means(self, value_ND: Tensor) -> Tensor:
        """Mean `[B, D]` of the vectors of each clip, for all clips of the whole batch."""
        clips = len(self.whole.row_B)
        weighted_ND = value_ND * self.weight_N[:, None]
        sum_BD = value_ND.new_zeros(clips, value_ND.shape[1]).index_add(0, self.clip_N, weighted_ND)
        count_B = value_ND.new_zeros(clips).index_add(
            0, self.clip_N, self.weight_N.to(value_ND.dtype)
        )
        both = self.sum_over_processes(torch.cat([sum_BD, count_B[:, None]], dim=1))
        return both[:, :-1] / both[:, -1:].clamp(min=1)


@dataclass(frozen=True)
class Options:
    """The user's choices about objectives; None and "auto" leave them to the objective."""

    projection: Projection = "mlp"
    teacher_side: TeacherSide | Literal["auto"] = "auto"
    temperature: float | None = None
    nst_pattern: Literal["vector", "batch", "token", "sequence"] = "batch"
    nst_normalize: bool = True
    crd_bias: Literal["calibrated", "paper", "learned"] = "calibrated"
    crd_symmetric: bool = False


@dataclass(frozen=True)
class Context:
    """What an objective is made for.

    Attributes:
        student_width: D.
        statistics: of the teacher's vectors, for `center` and `standardize`; E is their width. If
            what their groups share has been taken away, they are of what is left.
        options: the user's choices.
        level: whether the vectors are those of clips or of words.
    """

    student_width: int
    statistics: Statistics
    options: Options = field(default_factory=Options)
    level: Level = "clip"

    @property
    def teacher_width(self) -> int:
        """E."""
        return len(self.statistics.mean_E)


class Objective(nn.Module):
    """Base of all objectives: projects the student, prepares the teacher, calls `loss`.

    The projection may run under autocast; `loss` always runs in float32 or wider. The projection
    belongs to the objective and is thrown away with it, so no part of it is in the exported
    student.

    Args:
        context: widths, statistics of the teacher's vectors, and the user's choices.
    """

    title: ClassVar[str]
    """Its full name, for a student's card."""
    default_temperature: ClassVar[float] = 1.0

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.name = type(self).__name__.lower()
        self.options = options = context.options
        self.level = context.level
        student_width, teacher_width = context.student_width, context.teacher_width
        direct = options.projection == "none" and self.compares_vectors
        if direct and student_width != teacher_width:
            raise SpeechkdError(
                f"--projection none with --kd {self.name}: the student is {student_width} wide "
                f"and the teacher {teacher_width}, and this objective compares their vectors "
                "directly. Use --projection mlp or linear."
            )
        self.projection = make_projection(options.projection, student_width, teacher_width)
        self.side: TeacherSide = (
            self.default_side if options.teacher_side == "auto" else options.teacher_side
        )
        self.temperature = options.temperature or self.default_temperature
        mean_E = torch.from_numpy(context.statistics.mean_E).float()
        std_E = torch.from_numpy(context.statistics.std_E).float()
        self.register_buffer("shift_E", torch.zeros_like(mean_E) if self.side == "none" else mean_E)
        # a dimension that never varies carries nothing: it becomes zero, not infinity
        scale_E = torch.where(std_E > 0, 1 / std_E.clamp(min=1e-12), torch.zeros_like(std_E))
        scales = self.side not in ("none", "center")
        self.register_buffer("scale_E", scale_E if scales else torch.ones_like(mean_E))
        self.shift_E: Tensor
        self.scale_E: Tensor

    @property
    def default_side(self) -> TeacherSide:
        """What is done to the teacher's vectors unless the user says otherwise."""
        return "standardize"

    @property
    def default_gamma(self) -> float:
        """The weight γ unless the user says otherwise."""
        return 1.0

    @property
    def compares_vectors(self) -> bool:
        """Whether student and teacher vectors meet in one space, so that widths must agree."""
        return True

    def notices(self) -> list[str]:
        """What a user must know before such a run starts, one entry per objection."""
        return []

    def teacher(self, vector_BE: Tensor) -> Tensor:
        """Cached vectors `[B, E]` as this objective compares them: as is, centred, standardised.

        `within-speaker` and `within-word` standardise what is left of a vector when the mean of its
        group has been taken away, which its corpus has done.
        """
        wide_BE = at_least_float32(vector_BE)
        return (wide_BE - self.shift_E) * self.scale_E

    def student(self, states_ND: Tensor) -> Tensor:
        """Student vectors `[N, E]` in the space where this objective compares them."""
        return at_least_float32(self.projection(states_ND))

    def forward(self, batch: KDBatch) -> Tensor:
        """The loss of a batch, a float32 scalar, before its weight γ."""
        return self.compare(self.student(batch.states_ND), batch)

    def compare(self, student_NE: Tensor, batch: KDBatch) -> Tensor:
        """The loss of student vectors that are already projected."""
        with torch.autocast(student_NE.device.type, enabled=False):
            return self.loss(student_NE, self.teacher(batch.whole.teacher_BE), batch)

    def loss(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """The objective itself, a scalar; both sides are float32 or wider."""
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
