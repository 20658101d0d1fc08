"""NST: neuron selectivity transfer, in four readings, each in closed form."""

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.distillation.objectives.contract import (
    Context,
    KDBatch,
    Objective,
    TeacherSide,
)
from pipeline.distillation.objectives.narrow import coordinates
from pipeline.foundation.errors import SpeechkdError

WORD_SIDES: dict[str, TeacherSide] = {
    "vector": "none",
    "batch": "standardize",
    "sequence": "standardize",
}
"""At the level of words, where the patterns of `sequence` differ from word to word."""
WORD_GAMMAS = {"vector": 100.0, "batch": 10.0, "sequence": 10.0}
SIDES: dict[str, TeacherSide] = {
    "vector": "none",
    "batch": "standardize",
    "token": "none",
    "sequence": "none",
}
GAMMAS = {"vector": 100.0, "batch": 10.0, "token": 1.0, "sequence": 1.0}
"""Default weights: of 1, 10 and 100 the smallest that carried a planted signal well (docs/nst.md),
and 1, the paper's, for the readings that see no direction of the teacher."""
EPSILON = 1e-8
BLOCK = 128
"""Columns of the teacher's whose products with others are made at a time."""


class NST(Objective):
    """Squared maximum mean discrepancy between neurons' patterns (Eq. 3; Huang and Wang 2017).

    With the paper's kernel `k(x, y) = (xᵀy)²`, and columns of S `[P, D]` and T `[P, E]` as the
    neurons' patterns over P positions, it is `‖SSᵀ/D − TTᵀ/E‖²_F`: no D × D kernel is ever made.
    The paper leaves open what the positions are:

    | pattern    | positions       | loss per unit              | what it sees of the teacher |
    |------------|-----------------|----------------------------|-----------------------------|
    | `vector`   | one sample each | `‖ssᵀ − ttᵀ‖²_F`           | direction, without sign     |
    | `batch`    | the clips       | `‖UUᵀ/D − VVᵀ/E‖²_F`       | geometry between clips      |
    | `token`    | the token alone | `(mean s² − mean t²)²`     | one number per clip         |
    | `sequence` | a clip's tokens | `‖SSᵀ/D − mean t² 11ᵀ‖²_F` | one number, or none         |

    `vector` takes each hidden vector as one sample; normalised it is `2 (1 − cos²(s, t))`. `token`
    is Eq. 3 read literally. U holds the clips' mean student vectors, V the teacher's.
    `vector` and `token` are averaged over tokens, `sequence` over clips. With `nst_normalize` each
    pattern has length 1 first, as in the reference codes; `token` never is, since it would vanish.

    At the level of words there is a vector per word instead of one per clip:

    | pattern    | positions       | loss per unit              | what it sees of the teacher |
    |------------|-----------------|----------------------------|-----------------------------|
    | `vector`   | one sample each | `‖ssᵀ − ttᵀ‖²_F`           | direction, without sign     |
    | `batch`    | the words       | `‖UUᵀ/D − VVᵀ/E‖²_F`       | geometry between words      |
    | `sequence` | a clip's words  | `‖SSᵀ/D − TTᵀ/E‖²_F`       | geometry within a clip      |

    `sequence` is then VidLanKD's own form, whose teacher has a vector per token. `token` would see
    one number per word, and is refused.

    Relations: `vector` is `cosine` without the sign, so it must meet uncentred teacher vectors.
    """

    title = "neuron selectivity transfer"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pattern = context.options.nst_pattern
        self.normalize = context.options.nst_normalize
        if self.level == "word" and self.pattern == "token":
            raise SpeechkdError(
                "--nst-pattern token sees one number of the teacher per word, its mean square, and "
                "does not go with --level word. Use vector, batch or sequence."
            )

    @property
    def default_side(self) -> TeacherSide:
        """By pattern, see `SIDES` and `WORD_SIDES`."""
        sides = WORD_SIDES if self.level == "word" else SIDES
        return sides.get(self.options.nst_pattern, "none")

    @property
    def default_gamma(self) -> float:
        """By pattern, see `GAMMAS` and `WORD_GAMMAS`."""
        gammas = WORD_GAMMAS if self.level == "word" else GAMMAS
        return gammas[self.options.nst_pattern]

    @property
    def compares_vectors(self) -> bool:
        """Only `vector` does; the others compare matrices over positions."""
        return self.options.nst_pattern == "vector"

    def notices(self) -> list[str]:
        """What a degenerate reading reduces to; a warning if `vector` meets a centred teacher."""
        if self.pattern == "token":
            return [
                "nst `token` is Eq. 3 read literally. It reduces to (mean s² − mean t²)²: it sees "
                "one number of the teacher per clip, its mean square, and no direction. It is here "
                "for comparison, not for distilling."
            ]
        if self.pattern == "sequence" and self.level == "word":
            return []
        if self.pattern == "sequence" and self.normalize:
            return [
                "nst `sequence` with normalised patterns does not depend on the teacher at all: a "
                "vector repeated over the clip has patterns ±1/√L, and the squared kernel drops "
                "the sign. Whatever it gives, the teacher did not give it."
            ]
        if self.pattern == "sequence":
            return [
                "nst `sequence` sees one number of the teacher per clip, its mean square, and "
                "pulls all tokens of a clip together. It is here for comparison, not for "
                "distilling."
            ]
        if self.pattern == "vector" and self.side != "none":
            return [
                f"WARNING: nst `vector` is blind to sign, and --teacher-side {self.side} makes "
                "the vectors of opposite voices opposite: it loses most of what tells them apart. "
                "Use --teacher-side none, or --nst-pattern batch."
            ]
        return []

    def forward(self, batch: KDBatch) -> Tensor:
        """The loss of a batch; many words of a narrow student are compared in its own width."""
        few = None
        many = len(batch.whole.row_B) > batch.states_ND.shape[1]
        if self.level == "word" and self.pattern == "batch" and many:
            few = coordinates(self.projection, batch.states_ND)
        if few is None:
            return super().forward(batch)
        coordinate_NR, basis_ER = few
        with torch.autocast(basis_ER.device.type, enabled=False):
            teacher_BE = self.teacher(batch.whole.teacher_BE)
            if self.normalize:
                teacher_BE = functional.normalize(teacher_BE, dim=0, eps=EPSILON)
            coordinate_BR = batch.clip_means(coordinate_NR)  # a mean of vectors has the mean of c
            return _between_bases(coordinate_BR, basis_ER, teacher_BE, normalize=self.normalize)

    def loss(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """The mean discrepancy of the batch."""
        form = {
            "vector": self._vector,
            "batch": self._batch,
            "token": self._token,
            "sequence": self._sequence if self.level == "clip" else self._sentences,
        }[self.pattern]
        return form(student_NE, teacher_BE, batch)

    def _vector(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        if self.normalize:
            student_NE = functional.normalize(student_NE, dim=-1, eps=EPSILON)
            teacher_BE = functional.normalize(teacher_BE, dim=-1, eps=EPSILON)
        teacher_NE = teacher_BE[batch.clip_N]
        cross_N = (student_NE * teacher_NE).sum(-1)
        own_N = student_NE.square().sum(-1).square() + teacher_NE.square().sum(-1).square()
        return batch.token_mean(own_N - 2 * cross_N.square())

    def _token(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        teacher_N = teacher_BE.square().mean(-1)[batch.clip_N]
        return batch.token_mean((student_NE.square().mean(-1) - teacher_N).square())

    def _batch(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        student_BE = batch.clip_means(student_NE)
        if self.normalize:
            student_BE = functional.normalize(student_BE, dim=0, eps=EPSILON)
            teacher_BE = functional.normalize(teacher_BE, dim=0, eps=EPSILON)
        if self.level == "word" and len(teacher_BE) > max(student_BE.shape[1], teacher_BE.shape[1]):
            return _between_columns(student_BE, teacher_BE)
        student_BB = student_BE @ student_BE.T / student_BE.shape[1]
        teacher_BB = teacher_BE @ teacher_BE.T / teacher_BE.shape[1]
        return (student_BB - teacher_BB).square().sum()

    def _sequence(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        width = student_NE.shape[1]
        clips = len(teacher_BE)
        student_BLE = student_NE.new_zeros(clips, batch.longest, width).index_put(
            (batch.clip_N, batch.place_N),
            student_NE * batch.weight_N[:, None],
            accumulate=True,
        )
        length_B = student_NE.new_zeros(clips).index_add(
            0, batch.clip_N, batch.weight_N.to(student_NE.dtype)
        )
        if self.normalize:
            student_BLE = functional.normalize(student_BLE, dim=1, eps=EPSILON)
            teacher_B = 1 / length_B.clamp(min=1)
        else:
            teacher_B = teacher_BE.square().mean(-1)
        own_B = torch.bmm(student_BLE, student_BLE.transpose(1, 2)).square().sum((1, 2)) / width**2
        cross_B = student_BLE.sum(1).square().sum(-1) / width
        here_B = (length_B > 0).to(student_NE.dtype)
        loss_B = own_B + (length_B * teacher_B).square() - 2 * teacher_B * cross_B
        return (loss_B * here_B).sum() * batch.whole.processes / clips

    def _sentences(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """Patterns over the words of a clip, each with a vector of the teacher's of its own."""
        sentences = batch.sentences
        if sentences is None:
            raise ValueError("the batch does not say which words share a clip")
        at = (sentences.clip_W[batch.clip_N], sentences.place_W[batch.clip_N])
        grids = []
        for values_NE in (student_NE, teacher_BE[batch.clip_N]):
            grid_CLE = values_NE.new_zeros(
                sentences.clips, sentences.longest, values_NE.shape[1]
            ).index_put(at, values_NE * batch.weight_N[:, None], accumulate=True)
            if self.normalize:
                grid_CLE = functional.normalize(grid_CLE, dim=1, eps=EPSILON)
            grids.append(torch.bmm(grid_CLE, grid_CLE.transpose(1, 2)) / values_NE.shape[1])
        loss = (grids[0] - grids[1]).square().sum()
        return loss * batch.whole.processes / max(sentences.clips, 1)


def _between_columns(student_BE: Tensor, teacher_BE: Tensor) -> Tensor:
    """`‖SSᵀ/D − TTᵀ/E‖²_F` by way of D × E matrices, which are smaller where B is larger than both.

    `‖SSᵀ‖² = ‖SᵀS‖²` and `⟨SSᵀ, TTᵀ⟩ = ‖SᵀT‖²`.
    """
    width_s, width_t = student_BE.shape[1], teacher_BE.shape[1]
    own = (student_BE.T @ student_BE).square().sum() / width_s**2
    cross = (student_BE.T @ teacher_BE).square().sum() / (width_s * width_t)
    return own + _square_of_products(teacher_BE) / width_t**2 - 2 * cross


def _between_bases(
    coordinate_BR: Tensor, basis_ER: Tensor, teacher_BE: Tensor, *, normalize: bool
) -> Tensor:
    """`‖SSᵀ − TTᵀ‖²_F / E²` of S = C Vᵀ, without S: only the teacher's own term has E × E numbers.

    With `G = CᵀC`, `H = VᵀV` and `X = CᵀT`: `‖SᵀS‖² = tr(GHGH)`, `‖SᵀT‖² = ⟨X, HX⟩`, and column e
    of S has the length `√(v_eᵀ G v_e)`, in float64: it may be the small rest of large terms.
    Student states have much in common, and V's bias takes it away again where the teacher's vectors
    are centred. C is centred first, because in float32 that would cost G and X their last digits.

    Args:
        coordinate_BR: C, its last column 1, or a row 0 throughout.
        basis_ER: V.
        teacher_BE: T, normalised if S is to be.
        normalize: whether the columns of S are to have length 1.
    """
    coordinate_BR, basis_ER = _centred(coordinate_BR, basis_ER)
    wide_BR = coordinate_BR.double()
    gram_RR = wide_BR.T @ wide_BR
    if normalize:
        wide_ER = basis_ER.double()
        square_E = ((wide_ER @ gram_RR) * wide_ER).sum(1)
        length_E = square_E.clamp(min=EPSILON**2).sqrt()
        basis_ER = basis_ER / length_E[:, None].to(basis_ER.dtype)
    inner_RR = basis_ER.T @ basis_ER
    both_RR = gram_RR.to(basis_ER.dtype) @ inner_RR
    met_RE = coordinate_BR.T @ teacher_BE
    cross = ((inner_RR @ met_RE) * met_RE).sum()
    own = (both_RR * both_RR.T).sum()
    return (own + _square_of_products(teacher_BE) - 2 * cross) / len(basis_ER) ** 2


def _centred(coordinate_BR: Tensor, basis_ER: Tensor) -> tuple[Tensor, Tensor]:
    """Other C and V with the same C Vᵀ: what all rows of C share has moved to V's last column.

    It is moved as a number, and so for any number the gradients stay what they were.
    """
    counts_B1 = coordinate_BR[:, -1:]
    with torch.no_grad():
        sums_R = coordinate_BR.sum(0)
        shared_R = sums_R / sums_R[-1].clamp(min=1)
        shared_R[-1] = 0
    moved_E1 = (basis_ER.double() @ shared_R.double()[:, None]).to(basis_ER.dtype)
    basis_ER = torch.cat([basis_ER[:, :-1], basis_ER[:, -1:] + moved_E1], dim=1)
    return coordinate_BR - counts_B1 * shared_R, basis_ER


@torch.no_grad()
def _square_of_products(teacher_BE: Tensor) -> Tensor:
    """`‖TᵀT‖²_F`; of its E × E products, which are symmetric, few are made twice."""
    total = teacher_BE.new_zeros(())
    width = teacher_BE.shape[1]
    for first in range(0, width, BLOCK):
        here = slice(first, first + BLOCK)
        products_CE = teacher_BE[:, here].T @ teacher_BE[:, first:]
        total += 2 * products_CE.square().sum() - products_CE[:, :BLOCK].square().sum()
    return total
