"""L1: SPLAT's sequence-level alignment, with the text as the student."""

from torch import Tensor

from pipeline.distillation.objectives.contract import KDBatch, Objective


class L1(Objective):
    """Mean absolute difference between student and teacher vectors (SPLAT, Eq. 2).

    SPLAT sums over dimensions and aligns the first output vectors of both sides; here it is the
    mean over dimensions, so that γ means the same at every width, and the teacher's side is the
    cached clip vector. `--kd-tokens cls` is the setting nearest to SPLAT.
    """

    title = "mean absolute difference"

    def loss(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """The mean over student vectors."""
        return batch.token_mean((student_NE - teacher_BE[batch.clip_N]).abs().mean(-1))
