"""What is trained: a student and the objectives that pull it towards its teacher.

Shapes: N tokens, B clips, K chosen tokens, W words of a batch, w those of this process, D width of
the student, E width of the teacher.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.corpus.batch import SpokenBatch, TokenBatch
from pipeline.distillation.objectives import KDBatch, Objective
from pipeline.distillation.objectives.contract import Level, at_least_float32
from pipeline.models.compiled import BatchShape, compile_forward
from pipeline.models.packing import Packed
from pipeline.models.student import Student
from pipeline.training import processes

Tokens = Literal["all", "cls", "mean"]
Pass = Literal["masked", "clean"]
WordTokens = Literal["first", "mean"]
WORD_PREFIX = "word_"
"""Begins the names of objectives at the level of words, in logs and records."""


@dataclass(frozen=True)
class View:
    """Which student vectors the objectives compare with the teacher's.

    Attributes:
        tokens: `all` tokens, the first (`cls`), or the clip's `mean`.
        sees: the `masked` tokens, or the `clean` ones in a pass of their own.
        special: whether special tokens count, for `all` and `mean`.
        word_tokens: at the level of words, a word's `first` token or the `mean` of its tokens.
    """

    tokens: Tokens = "all"
    sees: Pass = "masked"
    special: bool = True
    word_tokens: WordTokens = "first"


class Distillation(nn.Module):
    """Masked-LM loss plus weighted objectives: `L = L_MLM + Σ γ L_KD` (Eq. 1).

    Args:
        student: the model that is kept.
        objectives: by name; they and their projections are thrown away after training. Those at the
            level of words see the batch's words, and have names that begin with `WORD_PREFIX`.
        gammas: the weight of each.
        view: which vectors of the student they compare.
    """

    def __init__(
        self,
        student: Student,
        objectives: dict[str, Objective],
        gammas: dict[str, float],
        view: View,
    ) -> None:
        super().__init__()
        self.student = student
        self.objectives = nn.ModuleDict(objectives)
        self.gammas, self.view = gammas, view
        self._compiled: Callable[[Packed], Tensor] | None = None

    def compile_for(self, shapes: Sequence[BatchShape]) -> None:
        """Run the encoder compiled, with every batch padded up to one of these shapes."""
        self._compiled = compile_forward(self.student.encoder, shapes, self.student.draws)

    @property
    def passes(self) -> int:
        """How often a batch goes through the encoder."""
        return 2 if self.objectives and self.view.sees == "clean" else 1

    def encode(self, packed: Packed) -> Tensor:
        """Hidden states `[N, D]` of the student."""
        states_ND: Tensor = (self._compiled or self.student)(packed)
        return states_ND

    def _encode_of(self, batch: TokenBatch, packed: Packed, number: int) -> Tensor:
        """Encode tokens of a batch; the number of the pass names what its dropout drops."""
        self.student.draws.begin(batch.number_N, batch.dropout_key + number)
        return self.encode(packed)

    def named_objectives(self) -> Iterator[tuple[str, Objective]]:
        """The objectives, by name."""
        for name, objective in self.objectives.items():
            yield name, cast(Objective, objective)

    def forward(self, batch: TokenBatch, *, measure: bool = False) -> dict[str, Tensor]:
        """Losses of a batch by name: `loss`, `loss/mlm`, `loss/kd` (unweighted), one per objective.

        With `measure` there are two more groups: how objectives and masked-LM weigh against each
        other (norms of their gradients at the hidden states), and how near the student is to its
        teacher. An objective that nothing of the batch is taught by has no loss.
        """
        packed = batch.packed
        hidden_ND = self._encode_of(batch, packed.with_ids(batch.masked_N), 0)
        mlm = self.student.masked_lm_loss(hidden_ND, packed.ids_N, batch.chosen_K)
        mlm = mlm * (batch.whole.processes / batch.chosen_total)
        losses = {"loss": mlm, "loss/mlm": mlm}
        if not self.objectives:
            return losses
        kd_ND = hidden_ND if self.view.sees == "masked" else self._encode_of(batch, packed, 1)
        pairs_of = {level: self.pairs(kd_ND, batch, level) for level in self.levels}
        weighted = mlm.new_zeros(())
        raw = mlm.new_zeros(())
        for name, objective in self.named_objectives():
            pairs = pairs_of[objective.level]
            if not len(pairs.whole.row_B):
                # no clip or word of this batch is taught: zero is no figure, and lowers means
                weighted = weighted + _nothing(objective, objective.student(pairs.states_ND))
                continue
            kd = objective(pairs)
            losses[f"loss/{name}"] = kd
            raw = raw + kd
            weighted = weighted + self.gammas[name] * kd
            if measure:
                losses |= nearness(name, objective, pairs)
        losses["loss"] = mlm + weighted
        if any(len(pairs.whole.row_B) for pairs in pairs_of.values()):
            losses |= {"loss/kd": raw, "loss/kd_weighted": weighted}
            if measure and torch.is_grad_enabled():
                losses |= gradient_norms(mlm, hidden_ND, weighted, kd_ND)
        return losses

    @property
    def levels(self) -> set[Level]:
        """Whether objectives see clips, words or both."""
        return {objective.level for _, objective in self.named_objectives()}

    def pairs(self, hidden_ND: Tensor, batch: TokenBatch, level: Level = "clip") -> KDBatch:
        """Student vectors of a batch, as this view has them, with the clips that they are of.

        At the level of words there is one per word.
        """
        if level == "word":
            return _words(hidden_ND, batch, self.view.word_tokens)
        if self.view.tokens == "cls":
            return _spoken(_first_tokens(hidden_ND, batch), batch)
        tokens = _all_tokens(hidden_ND, batch, special=self.view.special)
        if self.view.tokens == "mean":
            return _spoken(_means(tokens, batch), batch)
        if batch.spoken is None:
            return tokens
        every = self.view.special
        return _of_spoken(
            tokens, batch, batch.spoken.token_T, batch.spoken.tokens if every else None
        )


def _all_tokens(hidden_ND: Tensor, batch: TokenBatch, *, special: bool) -> KDBatch:
    weight_N = (torch.ones_like(batch.special_N) if special else ~batch.special_N).float()
    return KDBatch(
        states_ND=hidden_ND,
        clip_N=batch.clip_N,
        place_N=batch.packed.offset_N,
        longest=batch.packed.grid_BL.shape[1],
        weight_N=weight_N,
        total=batch.lengths_B.sum() if special else processes.differentiable_sum(weight_N.sum()),
        whole=batch.whole,
        sum_over_processes=processes.differentiable_sum,
    )


def _first_tokens(hidden_ND: Tensor, batch: TokenBatch) -> KDBatch:
    return _one_per_clip(hidden_ND[batch.packed.starts_B], batch)


def _means(tokens: KDBatch, batch: TokenBatch) -> KDBatch:
    packed, hidden_ND = batch.packed, tokens.states_ND
    weight_N = tokens.weight_N.to(hidden_ND.dtype)
    clips = len(packed.lengths_B)
    sum_BD = hidden_ND.new_zeros(clips, hidden_ND.shape[1]).index_add(
        0, packed.sequence_N, hidden_ND * weight_N[:, None]
    )
    count_B = hidden_ND.new_zeros(clips).index_add(0, packed.sequence_N, weight_N)
    return _one_per_clip(sum_BD / count_B[:, None].clamp(min=1), batch)


def _one_per_clip(states_BD: Tensor, batch: TokenBatch) -> KDBatch:
    clip_B = batch.clip_N[batch.packed.starts_B]
    return KDBatch(
        states_ND=states_BD,
        clip_N=clip_B,
        place_N=torch.zeros_like(clip_B),
        longest=1,
        weight_N=torch.ones_like(clip_B, dtype=torch.float32),
        total=torch.full((), float(len(batch.clip_B)), device=clip_B.device),
        whole=batch.whole,
        sum_over_processes=processes.differentiable_sum,
    )


def _spoken(pairs: KDBatch, batch: TokenBatch) -> KDBatch:
    """Of one vector per clip, those of clips with speech."""
    if batch.spoken is None:
        return pairs
    return _of_spoken(pairs, batch, batch.spoken.own_b, batch.spoken.clips)


def _of_spoken(pairs: KDBatch, batch: TokenBatch, place_T: Tensor, total: int | None) -> KDBatch:
    """The student vectors at some places, all of clips with speech.

    Their sum of weights over all processes is `total`, or is added up if that is None.
    """
    spoken = cast(SpokenBatch, batch.spoken)
    weight_T = pairs.weight_N[place_T]
    return replace(
        pairs,
        states_ND=pairs.states_ND.index_select(0, place_T),
        clip_N=spoken.number_B[pairs.clip_N[place_T]],
        place_N=pairs.place_N[place_T],
        weight_N=weight_T,
        total=processes.differentiable_sum(weight_T.sum())
        if total is None
        else torch.full((), float(total), device=weight_T.device),
    )


def _words(hidden_ND: Tensor, batch: TokenBatch, tokens: WordTokens) -> KDBatch:
    words = batch.words
    if words is None:
        raise ValueError("the batch carries no words")
    own = words.own
    if tokens == "first":
        states_wD = hidden_ND.index_select(0, own.first_w)
    else:
        sum_wD = hidden_ND.new_zeros(len(own.word_w), hidden_ND.shape[1]).index_add(
            0, own.owner_T, hidden_ND.index_select(0, own.token_T)
        )
        states_wD = sum_wD / own.count_w[:, None]
    return KDBatch(
        states_ND=states_wD,
        clip_N=own.word_w,
        place_N=torch.zeros_like(own.word_w),
        longest=1,
        weight_N=torch.ones_like(own.word_w, dtype=torch.float32),
        total=torch.full((), float(words.total), device=own.word_w.device),
        whole=words.whole,
        sentences=words.sentences,
        sum_over_processes=processes.differentiable_sum,
    )


def _nothing(objective: Objective, student_NE: Tensor) -> Tensor:
    """A loss of zero through all that is trained, because processes wait for every gradient."""
    trained = [p for p in objective.parameters() if p.requires_grad]
    return sum((0 * p.sum() for p in trained), start=0 * student_NE.sum())


@torch.no_grad()
def nearness(name: str, objective: Objective, pairs: KDBatch) -> dict[str, Tensor]:
    """Cosine of student and teacher, of the batch's mean and teacher, and the student's spread.

    Nothing if their vectors differ in width, which only objectives that never compare them allow.

    A student that has learnt nothing about single clips does no better than the mean vector. One
    that has collapsed gives every clip the same direction, which is a spread of 0. The spread is a
    share of the teacher's own.
    """
    student_NE = objective.student(pairs.states_ND)
    if student_NE.shape[1] != pairs.whole.teacher_BE.shape[1]:
        return {}
    teacher_BE = functional.normalize(
        at_least_float32(objective.teacher(pairs.whole.teacher_BE)), dim=-1
    )
    student_NE = functional.normalize(at_least_float32(student_NE), dim=-1)
    mean_BE = pairs.clip_means(student_NE)
    own_B = (functional.normalize(mean_BE, dim=-1) * teacher_BE).sum(-1)
    mean_E = functional.normalize(teacher_BE.mean(0), dim=-1)
    spread, of_teacher = (
        1 - unit_BE.mean(0).square().sum()
        for unit_BE in (functional.normalize(mean_BE, dim=-1), teacher_BE)
    )
    return {
        f"cosine/{name}": own_B.mean(),
        f"cosine/{name}_mean_vector": (teacher_BE @ mean_E).mean(),
        f"spread/{name}": spread / of_teacher.clamp(min=1e-12),
    }


def gradient_norms(
    mlm: Tensor, mlm_ND: Tensor, weighted: Tensor, kd_ND: Tensor
) -> dict[str, Tensor]:
    """Norms of the gradients of both losses at the hidden states that they are computed from."""
    with torch.autocast(mlm.device.type, enabled=False):  # as training's own backward pass
        mlm_norm = torch.autograd.grad(mlm, mlm_ND, retain_graph=True)[0].float().norm()
        kd_norm = torch.autograd.grad(weighted, kd_ND, retain_graph=True)[0].float().norm()
    return {
        "gradient/mlm": mlm_norm.detach(),
        "gradient/kd": kd_norm.detach(),
        "gradient/kd_over_mlm": (kd_norm / mlm_norm.clamp(min=1e-30)).detach(),
    }
