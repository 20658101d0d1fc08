"""CRD: contrastive representation distillation, computed as logits."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.distillation.objectives.contract import Context, KDBatch, Objective
from pipeline.distillation.objectives.narrow import narrow, only

CHUNK = 2048
"""Negatives compared at a time: bounds memory at N × CHUNK logits."""
CPU_CHUNK = 512
"""The same on a CPU, where the logits of a thousand words by so many stay near the core. On a CPU
that others use too this takes a fifth off the median time, and on a quiet one nothing."""
ESTIMATED_FROM = 512
"""Words of a batch among which the mean of e^u is estimated: a quarter of a million pairs."""


class CRD(Objective):
    """Tell a clip's own teacher vector from other clips' (Eqs. 4 and 5; Tian et al. 2019).

    With `φ = e^u / (e^u + N/M)` and `u = cos(s, t)/τ`, φ is the logistic function of
    `z = u + bias`, so that the loss of a token is

        softplus(−z of its own clip) + Σ over negatives softplus(z)

    which is finite at any τ. Negatives are the other clips of the batch and, if the batch has
    them, K vectors drawn from the whole cache. Pairs of the same clip or the same recording are
    left out, and N counts the remaining pairs.

    | bias         | value                 |                                                    |
    |--------------|-----------------------|----------------------------------------------------|
    | `paper`      | `log(M/N)`            | Eq. 5; positive, so chance pairs look like matches |
    | `calibrated` | `−log N − log E[e^u]` | what the reference code's normaliser amounts to    |
    | `learned`    | `−log N + b`          | b is trained, from 0, as SigLIP does               |

    E is estimated from the negative pairs of the first batch, then kept, and saved with the run.
    With `crd_symmetric` the teacher also picks among the clips' mean student vectors.

    A batch has some thirty times as many words as clips. So at the level of words the pairs of a
    batch are computed chunk by chunk, as those of the extra negatives are, and E is estimated from
    pairs among `ESTIMATED_FROM` words, evenly spread. Where the student is much narrower than the
    teacher, their products are made in its width.
    """

    title = "contrastive representation distillation"
    default_temperature = 0.01

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        options = context.options
        directions = 2 if options.crd_symmetric else 1
        self.register_buffer("log_mean", torch.full((directions,), math.nan))
        self.log_mean: Tensor
        self.learned = nn.Parameter(torch.zeros(directions))
        self.learned.requires_grad_(options.crd_bias == "learned")

    def notices(self) -> list[str]:
        """A warning about the paper's bias."""
        if self.options.crd_bias == "paper":
            return [
                "WARNING: --crd-bias paper is Eq. 5 as printed. Its bias log(M/N) is positive, so "
                "every chance pair starts as a match, the loss is in the thousands, and in a "
                "planted-signal test it did not distil. --crd-bias calibrated does."
            ]
        return []

    def forward(self, batch: KDBatch) -> Tensor:
        """The loss of a batch; words of a narrow student meet the teacher's in its own width."""
        few = None
        if self.level == "word" and not self.options.crd_symmetric:
            few = narrow(self.projection, batch.states_ND)
        if few is None:
            return super().forward(batch)
        with torch.autocast(few.unit_NR.device.type, enabled=False):
            teacher_BE = functional.normalize(self.teacher(batch.whole.teacher_BE), dim=-1)
            return self._of_words(few.unit_NR / self.temperature, teacher_BE, batch, few.meet)

    def loss(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """Mean over tokens, plus the mean over clips if symmetric."""
        student_NE = functional.normalize(student_NE, dim=-1) / self.temperature
        teacher_BE = functional.normalize(teacher_BE, dim=-1)
        if self.level == "word":
            total = self._of_words(student_NE, teacher_BE, batch, lambda teacher_KE: teacher_KE)
        else:
            total = self._of_clips(student_NE, teacher_BE, batch)
        if self.options.crd_symmetric:
            total = total + self._teacher_picks(student_NE, teacher_BE, batch)
        return total

    def _of_clips(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """The mean over tokens."""
        rival_BB = batch.whole.rivals_BB()
        logit_NB = student_NE @ teacher_BE.T
        rival_NB = rival_BB[batch.clip_N]
        count_B = rival_BB.sum(1, dtype=torch.int32)
        extra_KE, rival_BK = None, None
        if batch.whole.negative_KE is not None:
            extra_KE = functional.normalize(self.teacher(batch.whole.negative_KE), dim=-1)
            rival_BK = batch.whole.rivals_BK()
            count_B = count_B + rival_BK.sum(1)
        weight_N = batch.weight_N.to(logit_NB.dtype)

        def chance() -> tuple[Tensor, Tensor]:
            return logit_NB, rival_NB & (weight_N > 0)[:, None]

        bias_N = self._bias(0, chance, count_B, batch, shared=False)[batch.clip_N]
        total = batch.token_mean(_pairs(logit_NB + bias_N[:, None], batch.clip_N, rival_NB))
        if extra_KE is None or rival_BK is None:
            return total
        sums = negative_sum(student_NE, bias_N, extra_KE, rival_BK, batch.clip_N, weight_N)
        return total + batch.mean_of(sums)

    def _of_words(
        self,
        student_NR: Tensor,
        teacher_BE: Tensor,
        batch: KDBatch,
        meet: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """The mean over words, in bounded memory: no logits of all pairs exist at once.

        Args:
            student_NR: unit vectors over τ, or what stands for them.
            teacher_BE: unit vectors of all words of the batch.
            batch: the words.
            meet: from teacher vectors to what `student_NR` is multiplied with.
        """
        word_N = batch.clip_N
        weight_N = batch.weight_N.to(student_NR.dtype)
        rival_BB = batch.whole.rivals_BB()
        negatives, rivals = [meet(teacher_BE)], [rival_BB]
        count_B = rival_BB.sum(1, dtype=torch.int32)
        if batch.whole.negative_KE is not None:
            extra_KE = functional.normalize(self.teacher(batch.whole.negative_KE), dim=-1)
            negatives.append(meet(extra_KE))
            rivals.append(batch.whole.rivals_BK())
            count_B = count_B + rivals[1].sum(1)

        def chance() -> tuple[Tensor, Tensor]:
            # every so many words, whoever has them, so that processes estimate as one does
            every = -(-len(teacher_BE) // ESTIMATED_FROM)
            counts_N = (batch.weight_N > 0) & (word_N % every == 0)
            rival_few = rival_BB[:, ::every][word_N] & counts_N[:, None]
            return student_NR.detach() @ negatives[0][::every].detach().T, rival_few

        bias_N = self._bias(0, chance, count_B, batch, shared=False)[word_N]
        own_N = (student_NR * negatives[0].index_select(0, word_N)).sum(-1) + bias_N
        total = batch.token_mean(functional.softplus(-own_N))
        for teacher_KR, rival_BK in zip(negatives, rivals, strict=True):
            sums = negative_sum(student_NR, bias_N, teacher_KR, rival_BK, word_N, weight_N)
            total = total + batch.mean_of(sums)
        return total

    def _teacher_picks(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        rival_BB = batch.whole.rivals_BB()
        mean_BE = functional.normalize(batch.clip_means(student_NE), dim=-1) / self.temperature
        logit_BB = teacher_BE @ mean_BE.T
        bias_B = self._bias(1, lambda: (logit_BB, rival_BB), rival_BB.sum(1), batch, shared=True)
        own_B = torch.arange(len(teacher_BE), device=teacher_BE.device)
        return _pairs(logit_BB + bias_B[:, None], own_B, rival_BB).mean()

    def _bias(
        self,
        direction: int,
        chance: Callable[[], tuple[Tensor, Tensor]],
        count_B: Tensor,
        batch: KDBatch,
        *,
        shared: bool,
    ) -> Tensor:
        """The bias of each clip's pairs.

        Args:
            direction: whose choice it is, 0 of the student and 1 of the teacher.
            chance: gives logits of pairs, and which of them are those of rivals.
            count_B: how many rivals each clip has.
            batch: the clips.
            shared: whether all processes have the same logits.
        """
        log_count_B = count_B.clamp(min=1).to(self.log_mean.dtype).log()
        if self.options.crd_bias == "paper":
            return math.log(batch.whole.corpus_clips) - log_count_B
        if self.options.crd_bias == "learned":
            return self.learned[direction] - log_count_B
        with torch.no_grad():
            earlier = self.log_mean[direction]
            # not asked of a GPU, which would have to finish its work before it answered
            if earlier.is_cpu and earlier.isfinite():
                return -log_count_B - earlier
            estimate = self._estimate(chance, batch, shared=shared).to(earlier.dtype)
            value = torch.where(earlier.isnan(), estimate, earlier)
            if self.training:
                self.log_mean[direction] = torch.where(value.isfinite(), value, math.nan)
            value = torch.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0)
        return -log_count_B - value

    def _estimate(
        self, chance: Callable[[], tuple[Tensor, Tensor]], batch: KDBatch, *, shared: bool
    ) -> Tensor:
        """The logarithm of the mean of e^u over the pairs of rivals; see `_bias`."""
        logit_XB, rival_XB = chance()
        highest = 1 / self.temperature  # of any cos/τ: makes the sum safe
        rivals_XB = torch.where(rival_XB, logit_XB - highest, -torch.inf)
        sums = torch.stack([rivals_XB.double().exp().sum(), rival_XB.double().sum()])
        if not shared:
            sums = batch.sum_over_processes(sums)
        return (sums[0] / sums[1].clamp(min=1)).log() + highest


def _pairs(logit_XB: Tensor, own_X: Tensor, rival_XB: Tensor) -> Tensor:
    """Loss of each anchor from the logits of all its pairs."""
    positive_X = logit_XB.gather(1, own_X[:, None])[:, 0]
    negative_X = torch.where(rival_XB, functional.softplus(logit_XB), 0).sum(1)
    return functional.softplus(-positive_X) + negative_X


def negative_sum(
    student_NR: Tensor,
    bias_N: Tensor,
    teacher_KR: Tensor,
    rival_BK: Tensor,
    clip_N: Tensor,
    weight_N: Tensor,
) -> Tensor:
    """`Σ_n w_n Σ_k softplus(sᵀt_k + bias)` over the valid negatives of each token.

    Value and gradient are computed together, one chunk of negatives at a time, so the N × K logits
    never exist as a whole and are computed only once.

    Args:
        student_NR: student vectors, already divided by τ.
        bias_N: bias of each token's pairs.
        teacher_KR: the negatives; takes a gradient if it asks for one.
        rival_BK: which of them count for which clip.
        clip_N: the clip of each token.
        weight_N: w, the weight of each token.
    """
    total: Tensor = _NegativeSum.apply(  # type: ignore[no-untyped-call]
        student_NR, bias_N, teacher_KR, rival_BK, clip_N, weight_N
    )
    return total


class _NegativeSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student_NR: Tensor,
        bias_N: Tensor,
        teacher_KR: Tensor,
        rival_BK: Tensor,
        clip_N: Tensor,
        weight_N: Tensor,
    ) -> Tensor:
        _, of_bias, of_teacher, *_ = ctx.needs_input_grad
        sum_N = torch.zeros_like(bias_N)
        slope_N = torch.zeros_like(bias_N) if of_bias else None
        slope_NR = torch.zeros_like(student_NR)
        slope_KR = torch.empty_like(teacher_KR) if of_teacher else None
        weighted_NR = student_NR * weight_N[:, None] if of_teacher else student_NR
        size = CPU_CHUNK if teacher_KR.is_cpu else CHUNK
        for first in range(0, len(teacher_KR), size):
            chunk = slice(first, first + size)
            logit_NK = only(rival_BK[:, chunk][clip_N], bias_N)
            logit_NK.addmm_(student_NR, teacher_KR[chunk].T)
            sum_N += functional.softplus(logit_NK).sum(1)
            logit_NK.sigmoid_()
            slope_NR.addmm_(logit_NK, teacher_KR[chunk])
            if slope_N is not None:
                slope_N += logit_NK.sum(1)
            if slope_KR is not None:
                slope_KR[chunk] = (weighted_NR.T @ logit_NK).T
        slope_NR *= weight_N[:, None]
        ctx.save_for_backward(slope_NR, None if slope_N is None else slope_N * weight_N, slope_KR)
        return sum_N @ weight_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        slopes = [None if slope is None else upstream * slope for slope in ctx.saved_tensors]
        return (*slopes, None, None, None)
