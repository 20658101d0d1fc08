"""InfoNCE: the symmetric contrastive loss of WhisBERT, its audio side read from the cache."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.distillation.objectives.contract import KDBatch, Objective
from pipeline.distillation.objectives.narrow import narrow, only

SHARED_FROM = 1 / 30
"""Temperatures from which all e^(cos/τ - 1/τ) of a batch are float32 numbers, so that the sums over
rows and over columns can be of the same ones: the smallest is e^-60."""


class InfoNCE(Objective):
    """Pick one's own clip among the batch, from the text's side and from the audio's.

    `½ (CE(text → audio) + CE(audio → text))` of `cos/τ`, τ = 0.1 as in WhisBERT's code. Text to
    audio is averaged over tokens; audio to text compares with the clips' mean student vectors.
    Other clips of the same recording do not count as negatives. With one student vector per clip
    (`--kd-tokens cls` or `mean`) this is the loss of CLIP and of WhisBERT.

    At the level of words each word has one vector, so both directions pick from the same products,
    and those are made once; of a student much narrower than its teacher in its own width.
    """

    title = "symmetric contrastive loss"
    default_temperature = 0.1

    def forward(self, batch: KDBatch) -> Tensor:
        """The loss of a batch; words of a narrow student meet the teacher's in its own width."""
        few = narrow(self.projection, batch.states_ND) if self.level == "word" else None
        if few is None:
            return super().forward(batch)
        with torch.autocast(few.unit_NR.device.type, enabled=False):
            teacher_BE = functional.normalize(self.teacher(batch.whole.teacher_BE), dim=-1)
            return self._of_words(few.unit_NR, few.meet(teacher_BE), batch)

    def loss(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """The mean of both directions."""
        clips = torch.arange(len(teacher_BE), device=teacher_BE.device)
        student_NE = functional.normalize(student_NE, dim=-1)
        teacher_BE = functional.normalize(teacher_BE, dim=-1)
        if self.level == "word":
            return self._of_words(student_NE, teacher_BE, batch)
        allowed_BB = batch.whole.rivals_BB() | torch.eye(
            len(clips), dtype=torch.bool, device=clips.device
        )
        text_NB = (student_NE @ teacher_BE.T / self.temperature).masked_fill(
            ~allowed_BB[batch.clip_N], -torch.inf
        )
        to_audio = batch.token_mean(
            functional.cross_entropy(text_NB, batch.clip_N, reduction="none")
        )
        mean_BE = functional.normalize(batch.clip_means(student_NE), dim=-1)
        audio_BB = (teacher_BE @ mean_BE.T / self.temperature).masked_fill(~allowed_BB, -torch.inf)
        return (to_audio + functional.cross_entropy(audio_BB, clips)) / 2

    def _of_words(self, student_NR: Tensor, teacher_BR: Tensor, batch: KDBatch) -> Tensor:
        """The mean of both directions, from unit vectors or what stands for them."""
        mean_BR = batch.clip_means(student_NR) / self.temperature  # of one vector: the vector
        rival_BB = batch.whole.rivals_BB()
        rival_BB.fill_diagonal_(True)  # and one's own, from here on
        if self.temperature >= SHARED_FROM:
            own_B = torch.zeros_like(mean_BR[:, 0]).index_add(
                0, batch.clip_N, batch.weight_N.to(mean_BR.dtype)
            )
            both: Tensor = _BothWays.apply(  # type: ignore[no-untyped-call]
                teacher_BR, mean_BR, rival_BB, batch.mean_of(own_B), 1 / self.temperature
            )
            return both / 2
        logit_BB = torch.addmm(only(rival_BB, mean_BR.new_zeros(1)), teacher_BR, mean_BR.T)
        own_B = logit_BB.diagonal()
        to_audio_N = (logit_BB.logsumexp(0) - own_B).index_select(0, batch.clip_N)
        to_text_B = logit_BB.logsumexp(1) - own_B
        return (batch.token_mean(to_audio_N) + to_text_B.mean()) / 2


class _BothWays(torch.autograd.Function):
    """Both sums of cross-entropies over one matrix of logits, whose exponents are taken once.

    The gradient by logit (b, s) is `p w_s + q / B`, less `w_s + 1 / B` on the diagonal, where p is
    the share of its exponent in its column and q in its row.
    """

    @staticmethod
    def forward(
        ctx: Any,
        teacher_BR: Tensor,
        student_BR: Tensor,
        allowed_BB: Tensor,
        weight_B: Tensor,
        highest: float,
    ) -> Tensor:
        logit_BB = torch.addmm(only(allowed_BB, student_BR.new_zeros(1)), teacher_BR, student_BR.T)
        each = 1 / len(teacher_BR)
        own = logit_BB.diagonal() @ (weight_B + each)
        share_BB = logit_BB.sub_(highest).exp_()
        column_B, row_B = share_BB.sum(0), share_BB.sum(1)
        sums = (column_B.log() + highest) @ weight_B + (row_B.log() + highest).mean()
        slope_BB = share_BB.mul_((weight_B / column_B)[None] + (each / row_B)[:, None])
        slope_BB.diagonal().sub_(weight_B + each)
        of_teacher = ctx.needs_input_grad[0]  # as of a narrow student, whose basis is in it
        of_teacher_BR = slope_BB @ student_BR if of_teacher else None
        ctx.save_for_backward(of_teacher_BR, slope_BB.T @ teacher_BR)
        return sums - own

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        slopes = [None if slope is None else upstream * slope for slope in ctx.saved_tensors]
        return (*slopes, None, None, None)
