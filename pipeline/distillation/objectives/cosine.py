"""Cosine: one minus the cosine of student and teacher vectors."""

from torch import Tensor
from torch.nn import functional

from pipeline.distillation.objectives.contract import KDBatch, Objective


class Cosine(Objective):
    """`1 − cos(s, t)`, averaged over student vectors: the plainest way to copy a direction.

    Relations: `nst` in its `vector` form is `2 (1 − cos²)`, the same without the sign.
    """

    title = "cosine distance"

    def loss(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """The mean over student vectors."""
        return batch.token_mean(
            1 - functional.cosine_similarity(student_NE, teacher_BE[batch.clip_N], dim=-1)
        )
