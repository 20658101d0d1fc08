"""Alignment: a speech module is drawn towards the cached vectors of a text encoder.

Shapes: b clips of this process, B clips of the whole batch, M tokens, N positions of frames, D
width of speech, E width of text.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.corpus.row_batches import RowBatch
from pipeline.corpus.rows import Sequences, TextRows
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.lengths import Lengths, Movable
from pipeline.models.speech import SpeechModule
from pipeline.pretraining.splat.filling import Filling
from pipeline.pretraining.splat.reading import SpeechBatch, SpeechReading
from pipeline.pretraining.splat.similarity import all_scores, contrast, own_scores
from pipeline.pretraining.splat.texts import TextVectors, TokenWeights

Align = Literal["seq", "tok", "tok-contrast"]
Projection = Literal["auto", "linear", "none"]
TEXT = "text"
"""Name of the part that holds states of texts."""


@dataclass(frozen=True)
class Tokens(Movable):
    """The tokens of some texts, end to end.

    Attributes:
        states_ME: the text encoder's states.
        weight_M: what each counts; those of a text add up to 1.
        text_M: the text that each is of, by its place among these.
        counts: tokens of each text.
    """

    states_ME: Tensor
    weight_M: Tensor
    text_M: Tensor
    counts: list[int]

    def some(self, places: list[int]) -> "Tokens":
        """The tokens of the texts at some places, in that order."""
        states, weights = (torch.split(x, self.counts) for x in (self.states_ME, self.weight_M))
        counts = [self.counts[place] for place in places]
        text_M = torch.arange(len(places)).repeat_interleave(torch.tensor(counts))
        return Tokens(
            torch.cat([states[place] for place in places]),
            torch.cat([weights[place] for place in places]),
            text_M.to(self.text_M.device),
            counts,
        )


@dataclass(frozen=True)
class AlignBatch(Movable):
    """Frames of a batch, and the texts that they are to be near to.

    Attributes:
        speech: the frames of this process's clips.
        vector_bE: of each clip, what stands for its text; of `seq` alone.
        tokens: of each clip, the tokens of its text, by the clip's place; of the whole batch if
            clips choose among its texts. None of `seq`.
        own_b: the place of each clip's own text among `tokens`.
        same_bB: whether a text of `tokens` is a clip's own, or spelled alike.
        counts_b: whether a clip counts; its text may have been cut.
        counted: how many clips count, over all processes.
        frames_b: positions of frames of each clip.
    """

    speech: SpeechBatch
    vector_bE: Tensor | None
    tokens: Tokens | None
    own_b: list[int]
    same_bB: Tensor
    counts_b: Tensor
    counted: int
    frames_b: list[int]

    @property
    def frames(self) -> int:
        """Frames of the whole batch."""
        return self.speech.frames


@dataclass(frozen=True)
class AlignReading:
    """Makes batches of frames and texts ready.

    Attributes:
        speech: makes the frames ready.
        vectors: of whole texts, for `seq`.
        part: the states of tokens, for the others.
        weights: of tokens.
        text_C: number of the text that each clip of the corpus is aligned to, for equal texts.
        whole_C: whether that text was not cut.
        among_all: whether clips choose among the texts of the whole batch.
    """

    speech: SpeechReading
    vectors: TextVectors | None
    part: Sequences | None
    weights: TokenWeights | None
    text_C: Tensor
    whole_C: Tensor
    among_all: bool

    def __call__(self, batch: RowBatch) -> AlignBatch:
        """A batch with its texts."""
        speech = self.speech(batch)
        own_B, all_B = batch.own_B, batch.clip_B if self.among_all else batch.own_B
        place_of = {clip: place for place, clip in enumerate(all_B.tolist())}
        text_B = self.text_C[all_B]
        is_tok = self.vectors is None
        counts_b = self.whole_C[own_B] if is_tok else torch.ones(len(own_B), dtype=torch.bool)
        counted = int(self.whole_C[batch.clip_B].sum()) if is_tok else len(batch.clip_B)
        return AlignBatch(
            speech=speech,
            vector_bE=self.vectors.of(own_B) if self.vectors else None,
            tokens=self._tokens(all_B) if is_tok else None,
            own_b=[place_of[clip] for clip in own_B.tolist()],
            same_bB=self.text_C[own_B][:, None] == text_B,
            counts_b=counts_b,
            counted=counted,
            frames_b=speech.clips.frames.lengths_B.tolist(),
        )

    def _tokens(self, clip_B: Tensor) -> Tokens:
        if self.part is None or self.weights is None:
            raise ValueError("there are no tokens to align to")
        rows = self.part.of(clip_B)
        texts = Lengths(**Lengths.parts(rows.lengths_B, len(rows.values_NW)))
        ids_M = rows.ids_N if isinstance(rows, TextRows) else torch.zeros(0, dtype=torch.int32)
        weight_M = self.weights.weights(ids_M, texts)
        return Tokens(rows.values_NW, weight_M, texts.sequence_N, texts.lengths_B.tolist())


class Alignment(nn.Module):
    """A speech module and the head by which it is compared with text; the head is thrown away.

    | align          | loss of a clip                                                             |
    |----------------|----------------------------------------------------------------------------|
    | `seq`          | mean absolute difference of the clip's vector and its text's (Eq. 2)       |
    | `tok`          | − `own_scores`: each token with its nearest frame (Eq. 3), from −1 to 1    |
    | `tok-contrast` | cross-entropy of picking the own text by that score among the batch's texts |

    Args:
        speech: the module that is kept.
        align: one of these.
        projection: head from D to E; `auto` is none where they are equal.
        median_E: the best constant vector, for `seq`.
        text_width: E.
        temperature: τ of `tok-contrast`.
        filling: masked audio that goes on beside the alignment; None for none. It has the same
            speech module.
        filling_weight: its weight.

    Raises:
        SpeechkdError: no projection was asked for and the widths differ.
    """

    def __init__(
        self,
        speech: SpeechModule,
        align: Align,
        projection: Projection,
        *,
        text_width: int,
        median_E: Tensor,
        temperature: float = 0.05,
        filling: Filling | None = None,
        filling_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if projection == "none" and speech.width != text_width:
            raise SpeechkdError(
                f"--projection none: speech is {speech.width} wide and the text states "
                f"{text_width}. Use --projection linear."
            )
        is_direct = projection == "none" or (projection == "auto" and speech.width == text_width)
        self.speech, self.align, self.temperature = speech, align, temperature
        self.head = nn.Identity() if is_direct else nn.Linear(speech.width, text_width)
        self.filling_head = filling.head if filling else None
        self._filling = (filling,)  # in a tuple, so that its parameters are not registered twice
        self.filling_weight = filling_weight
        self.register_buffer("median_E", median_E, persistent=False)
        self.median_E: Tensor

    def forward(self, batch: AlignBatch, *, measure: bool = False) -> dict[str, Tensor]:
        """The loss; with `measure` also how near speech and text are, and whether it hedges."""
        speech = batch.speech
        if self.training:
            self.speech.begin(speech.clips, speech.number_B, speech.key)
        losses = self._seq(batch) if self.align == "seq" else self._tok(batch, measure=measure)
        losses["loss"] = losses["loss/align"]
        losses["loss/align"] = losses["loss/align"].detach()
        (filling,) = self._filling
        if filling is not None:
            again = replace(speech, key=speech.key + 1)  # dropout of a pass of its own
            filled = filling(again, measure=measure)
            losses["loss"] = losses["loss"] + self.filling_weight * filled.pop("loss")
            losses |= filled
        return losses

    def _seq(self, batch: AlignBatch) -> dict[str, Tensor]:
        text_bE = batch.vector_bE
        if text_bE is None:
            raise ValueError("the batch has no vectors of texts")
        vector_bE = self.head(self.speech.vectors(batch.speech.clips))
        with torch.autocast(vector_bE.device.type, enabled=False):
            apart_b = (vector_bE.float() - text_bE).abs().mean(1)
            constant_b = (self.median_E - text_bE).abs().mean(1)
            loss, constant = (self._mean(x_b, batch) for x_b in (apart_b, constant_b))
        return {
            "loss/align": loss,
            "align/constant": constant,
            "align/over_constant": (loss / constant.clamp(min=1e-12)).detach(),
        }

    def _tok(self, batch: AlignBatch, *, measure: bool) -> dict[str, Tensor]:
        tokens = batch.tokens
        if tokens is None:
            raise ValueError("the batch has no tokens")
        frames_NE = self.head(self.speech(batch.speech.clips).frames_ND)
        with torch.autocast(frames_NE.device.type, enabled=False):
            if self.align == "tok":
                score_b = _scores(frames_NE, batch, tokens.some(batch.own_b))
                loss_b = -score_b
            else:
                scores_bB = all_scores(
                    frames_NE, batch.frames_b, tokens.states_ME, tokens.text_M,
                    len(tokens.counts), tokens.weight_M,
                )  # fmt: skip
                loss_b = contrast(scores_bB, batch.same_bB, self.temperature)
            losses = {"loss/align": self._mean(loss_b, batch)}
            if self.align == "tok":
                losses["align/missing"] = (1 + losses["loss/align"]).detach()
            if measure:
                losses |= self._matches(frames_NE, batch, tokens)
        return losses

    @staticmethod
    def _mean(value_b: Tensor, batch: AlignBatch) -> Tensor:
        """Mean over the clips of the whole batch that count; scaled as several processes need."""
        counting_b = torch.where(batch.counts_b, value_b, 0)
        return counting_b.sum() * batch.speech.processes / max(batch.counted, 1)

    @torch.no_grad()
    def _matches(self, frames_NE: Tensor, batch: AlignBatch, tokens: Tokens) -> dict[str, Tensor]:
        """Mean scores against the own text and another one, and what true tokens would score.

        A clip whose frames match another text better than its own true tokens would match it does
        not tell texts apart: its frames hedge.
        """
        others = [_another(batch.same_bB[b], place) for b, place in enumerate(batch.own_b)]
        has_other = [place for place, other in enumerate(others) if other is not None]
        own = tokens.some(batch.own_b)
        matches = {"match/own": _scores(frames_NE, batch, own).mean()}
        if len(has_other) < len(others):
            return matches  # all texts of the share are alike
        other = tokens.some([place for place in others if place is not None])
        matches["match/other"] = _scores(frames_NE, batch, other).mean()
        matches["match/other_true"] = own_scores(
            own.states_ME, own.counts, other.states_ME, other.counts, other.weight_M
        ).mean()
        return matches


def _scores(frames_NE: Tensor, batch: AlignBatch, tokens: Tokens) -> Tensor:
    return own_scores(frames_NE, batch.frames_b, tokens.states_ME, tokens.counts, tokens.weight_M)


def _another(same_B: Tensor, place: int) -> int | None:
    """The next text after a place that is spelled otherwise; None if there is none."""
    different = (~same_B).nonzero()[:, 0].tolist()
    return next(
        (other for other in different if other > place), different[0] if different else None
    )
