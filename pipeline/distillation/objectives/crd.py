"""CRD: contrastive representation distillation, computed as logits."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.distillation.objectives.contract import Context, KDBatch, Objective

CHUNK = 2048
"""Extra negatives compared at a time: bounds memory at N × CHUNK logits."""
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
    pairs among `ESTIMATED_FROM` words, evenly spread.
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

    def loss(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """Mean over tokens, plus the mean over clips if symmetric."""
        student_NE = functional.normalize(student_NE, dim=-1) / self.temperature
        teacher_BE = functional.normalize(teacher_BE, dim=-1)
        rival_BB = batch.whole.rivals_BB()
        if self.level == "word":
            total = self._of_words(student_NE, teacher_BE, rival_BB, batch)
            if self.options.crd_symmetric:
                total = total + self._teacher_picks(student_NE, teacher_BE, rival_BB, batch)
            return total
        logit_NB = student_NE @ teacher_BE.T
        rival_NB = rival_BB[batch.clip_N]
        count_B = rival_BB.sum(1)
        extra_KE, rival_BK = None, None
        if batch.whole.negative_KE is not None:
            extra_KE = functional.normalize(self.teacher(batch.whole.negative_KE), dim=-1)
            rival_BK = batch.whole.rivals_BK()
            count_B = count_B + rival_BK.sum(1)
        weight_N = batch.weight_N.to(logit_NB.dtype)
        bias_N = self._bias(
            0, logit_NB, rival_NB & (weight_N > 0)[:, None], count_B, batch, shared=False
        )[batch.clip_N]
        loss_N = _pairs(logit_NB + bias_N[:, None], batch.clip_N, rival_NB)
        if extra_KE is not None and rival_BK is not None:
            loss_N = loss_N + negative_sum(student_NE, bias_N, extra_KE, rival_BK, batch.clip_N)
        total = batch.token_mean(loss_N)
        if self.options.crd_symmetric:
            total = total + self._teacher_picks(student_NE, teacher_BE, rival_BB, batch)
        return total

    def _of_words(
        self, student_NE: Tensor, teacher_BE: Tensor, rival_BB: Tensor, batch: KDBatch
    ) -> Tensor:
        """The mean over words, in bounded memory: no logits of all pairs exist at once."""
        word_N = batch.clip_N
        negatives, rivals = [teacher_BE], [rival_BB]
        count_B = rival_BB.sum(1)
        if batch.whole.negative_KE is not None:
            negatives.append(functional.normalize(self.teacher(batch.whole.negative_KE), dim=-1))
            rivals.append(batch.whole.rivals_BK())
            count_B = count_B + rivals[1].sum(1)
        # every so many words, whoever has them, so that processes estimate as one does
        every = -(-len(teacher_BE) // ESTIMATED_FROM)
        counts_N = (batch.weight_N > 0) & (word_N % every == 0)
        rival_few = rival_BB[:, ::every][word_N] & counts_N[:, None]
        logit_few = student_NE.detach() @ teacher_BE[::every].T
        bias_N = self._bias(0, logit_few, rival_few, count_B, batch, shared=False)[word_N]
        own_N = (student_NE * teacher_BE[word_N]).sum(-1) + bias_N
        loss_N = functional.softplus(-own_N)
        for teacher_KE, rival_BK in zip(negatives, rivals, strict=True):
            loss_N = loss_N + negative_sum(student_NE, bias_N, teacher_KE, rival_BK, word_N)
        return batch.token_mean(loss_N)

    def _teacher_picks(
        self, student_NE: Tensor, teacher_BE: Tensor, rival_BB: Tensor, batch: KDBatch
    ) -> Tensor:
        mean_BE = functional.normalize(batch.clip_means(student_NE), dim=-1) / self.temperature
        logit_BB = teacher_BE @ mean_BE.T
        bias_B = self._bias(1, logit_BB, rival_BB, rival_BB.sum(1), batch, shared=True)
        own_B = torch.arange(len(teacher_BE), device=teacher_BE.device)
        return _pairs(logit_BB + bias_B[:, None], own_B, rival_BB).mean()

    def _bias(
        self,
        direction: int,
        logit_XB: Tensor,
        rival_XB: Tensor,
        count_B: Tensor,
        batch: KDBatch,
        *,
        shared: bool,
    ) -> Tensor:
        """The bias of each clip's pairs; `shared` means that all processes have the same logits."""
        log_count_B = count_B.clamp(min=1).to(logit_XB.dtype).log()
        if self.options.crd_bias == "paper":
            return math.log(batch.whole.corpus_clips) - log_count_B
        if self.options.crd_bias == "learned":
            return self.learned[direction] - log_count_B
        with torch.no_grad():
            highest = 1 / self.temperature  # of any cos/τ: makes the sum safe
            rivals_XB = torch.where(rival_XB, logit_XB - highest, -torch.inf)
            sums = torch.stack([rivals_XB.double().exp().sum(), rival_XB.double().sum()])
            if not shared:
                sums = batch.sum_over_processes(sums)
            estimate = (sums[0] / sums[1].clamp(min=1)).log() + highest
            earlier = self.log_mean[direction]
            value = torch.where(earlier.isnan(), estimate.to(earlier.dtype), earlier)
            if self.training:
                self.log_mean[direction] = torch.where(value.isfinite(), value, math.nan)
            value = torch.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0)
        return -log_count_B - value


def _pairs(logit_XB: Tensor, own_X: Tensor, rival_XB: Tensor) -> Tensor:
    """Loss of each anchor from the logits of all its pairs."""
    positive_X = logit_XB.gather(1, own_X[:, None])[:, 0]
    negative_X = torch.where(rival_XB, functional.softplus(logit_XB), 0).sum(1)
    return functional.softplus(-positive_X) + negative_X


def negative_sum(
    student_NE: Tensor, bias_N: Tensor, teacher_KE: Tensor, rival_BK: Tensor, clip_N: Tensor
) -> Tensor:
    """`Σ_k softplus(sᵀt_k + bias)` over the valid negatives of each token, in bounded memory.

    Value and gradient are computed together, one chunk of negatives at a time, so the N × K logits
    never exist as a whole and are computed only once. The teacher's side takes no gradient.

    Args:
        student_NE: student vectors, already divided by τ.
        bias_N: bias of each token's pairs.
        teacher_KE: the extra negatives.
        rival_BK: which of them count for which clip.
        clip_N: the clip of each token.
    """
    sums_N: Tensor = _NegativeSum.apply(student_NE, bias_N, teacher_KE, rival_BK, clip_N)  # type: ignore[no-untyped-call]
    return sums_N


class _NegativeSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student_NE: Tensor,
        bias_N: Tensor,
        teacher_KE: Tensor,
        rival_BK: Tensor,
        clip_N: Tensor,
    ) -> Tensor:
        sum_N = torch.zeros_like(bias_N)
        slope_N = torch.zeros_like(bias_N)
        slope_NE = torch.zeros_like(student_NE)
        for first in range(0, len(teacher_KE), CHUNK):
            chunk_KE = teacher_KE[first : first + CHUNK]
            logit_NK = torch.addmm(bias_N[:, None], student_NE, chunk_KE.T)
            logit_NK.masked_fill_(~rival_BK[:, first : first + CHUNK][clip_N], -torch.inf)
            sum_N += functional.softplus(logit_NK).sum(1)
            logit_NK.sigmoid_()
            slope_N += logit_NK.sum(1)
            slope_NE.addmm_(logit_NK, chunk_KE)
        ctx.save_for_backward(slope_NE, slope_N)
        return sum_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream_N: Tensor) -> tuple[Tensor | None, ...]:
        slope_NE, slope_N = ctx.saved_tensors
        return upstream_N[:, None] * slope_NE, upstream_N * slope_N, None, None, None
