"""What WhisBERT takes of a batch: masked text, frames with hidden patches, pairs, rivals.

All of it is made on the host, beside the step before, and is a function of seed, epoch and step.
Each draw has a name of its own, so that a loss more changes no other draw: the twin (masked-LM
alone) reads the same texts under the same masks.

Shapes: B clips of the whole batch, b those of this process, N tokens, K chosen tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.corpus.draws import PLACES
from pipeline.corpus.masking import Masking
from pipeline.corpus.row_batches import RowBatch
from pipeline.corpus.row_corpus import TOKENS, RowCorpus, Tokens, numbered
from pipeline.foundation.seeds import derive
from pipeline.models.lengths import Movable
from pipeline.models.packing import Packed
from pipeline.models.whisbert.fusion import Pairing
from pipeline.models.whisbert.patches import PatchFrames, lay_out
from pipeline.models.whisbert.speech_encoder import WithFirst
from pipeline.pretraining.whisbert.hiding import Candidates, Hidden, hide
from pipeline.pretraining.whisbert.partners import partners

FRAMES = "frames"
"""The part of a batch that holds rows of the cache."""


@dataclass(frozen=True)
class Text(Movable):
    """The texts of this process's clips.

    Attributes:
        packed: their tokens as they are.
        masked_N: the same with masks.
        chosen_K: places of those to predict.
        chosen_total: how many all processes predict together.
        number_N: a number of each token that no other one of the corpus has.
        dropout_key: names the dropout of this step, int64 `[]`.
    """

    packed: Packed
    masked_N: Tensor
    chosen_K: Tensor
    chosen_total: int
    number_N: Tensor
    dropout_key: Tensor


@dataclass(frozen=True)
class Audio(Movable):
    """The audio of this process's clips.

    Attributes:
        frames: laid out for the stem.
        places: of patches, and of states with a CLS before them.
        hidden: which patches are hidden, and their negatives.
    """

    frames: PatchFrames
    places: WithFirst
    hidden: Hidden


@dataclass(frozen=True)
class PairBatch(Movable):
    """A process's share of one batch.

    Attributes:
        text: of its clips.
        audio: of its clips; None if no loss hears any.
        matched: each clip's audio with its own text; None if no loss joins them.
        unmatched: audio with texts of other clips; None if no loss asks, or there are none.
        rivals_BB: clips of the whole batch that may be told from each other: neither of one
            recording nor of one text.
        tokens: of the whole batch.
        processes: how many share it.
        process: which of them this is.
    """

    text: Text
    audio: Audio | None
    matched: Pairing | None
    unmatched: Pairing | None
    rivals_BB: Tensor
    tokens: int
    processes: int
    process: int


@dataclass(frozen=True)
class Hides:
    """How patches are hidden; see `hiding.hide`."""

    share: float
    span: int
    negatives: int
    among: Candidates


class Maker:
    """Makes a `PairBatch` of the rows and tokens of a batch.

    Args:
        corpus: what batches are of.
        masking: of tokens.
        hides: of patches; None if no loss hears audio.
        per_patch: frames per patch.
        joins: whether audio and text are joined at all.
        unmatched: whether unmatched pairs are wanted.
        process: number of this process.
    """

    def __init__(
        self,
        corpus: RowCorpus,
        masking: Masking,
        hides: Hides | None,
        per_patch: int,
        *,
        joins: bool,
        unmatched: bool,
        process: int = 0,
    ) -> None:
        self.corpus, self.masking, self.hides = corpus, masking, hides
        self.per_patch, self.joins, self.unmatched = per_patch, joins, unmatched
        self.process = process
        self.text_C = text_numbers(corpus.texts)

    def __call__(self, batch: RowBatch) -> PairBatch:
        """What the module takes of a batch."""
        text = self._text(batch)
        audio = self._audio(batch, self.hides) if self.hides else None
        matched = unmatched = None
        if audio and self.joins:
            matched = Pairing.of(audio.places.outer, text.packed)
            unmatched = self._unmatched(batch, audio, text) if self.unmatched else None
        return PairBatch(
            text=text,
            audio=audio,
            matched=matched,
            unmatched=unmatched,
            rivals_BB=self.rivals(batch.clip_B),
            tokens=batch.totals[TOKENS],
            processes=batch.processes,
            process=self.process,
        )

    def _text(self, batch: RowBatch) -> Text:
        """Masks are drawn over the whole batch, of which each process predicts its own."""
        seed, stream, epoch, step = batch.name
        tokens = self.corpus.parts[TOKENS]
        assert isinstance(tokens, Tokens)  # noqa: S101 - what a tokenizer makes
        whole = tokens.of(batch.clip_B)
        number_N = batch.clip_B[whole.sequence_N] * PLACES + whole.offset_N
        chosen_K, masked_N = self.masking.choose(
            whole.ids_N, number_N, seed, f"masks {stream}", epoch, step
        )
        key = torch.tensor(derive(seed, f"dropout {stream}", epoch, step))
        if batch.processes == 1:
            return Text(whole, masked_N, chosen_K, len(chosen_K), number_N, key)
        mine_N = whole.sequence_N % batch.processes == self.process
        renumbered_N = mine_N.long().cumsum(0) - 1
        return Text(
            packed=batch.tokens(),
            masked_N=masked_N[mine_N],
            chosen_K=renumbered_N[chosen_K[mine_N[chosen_K]]],
            chosen_total=len(chosen_K),
            number_N=number_N[mine_N],
            dropout_key=key,
        )

    def _audio(self, batch: RowBatch, hides: Hides) -> Audio:
        rows = batch.rows(FRAMES)
        frames = lay_out(rows.values_NW, rows.lengths_B, self.per_patch)
        hidden = hide(
            frames.patches,
            batch.own_B,
            batch.name,
            share=hides.share,
            span=hides.span,
            negatives=hides.negatives,
            among=hides.among,
        )
        return Audio(frames, WithFirst.of(frames.patches), hidden)

    def _unmatched(self, batch: RowBatch, audio: Audio, text: Text) -> Pairing | None:
        own_b = batch.own_B
        audio_k, text_k = partners(
            audio.places.inner.lengths_B,
            text.packed.lengths_B,
            own_b,
            self.text_C[own_b],
            self.corpus.recording_C[own_b],
            batch.name,
        )
        if not len(audio_k):
            return None
        return Pairing.of(audio.places.outer, text.packed, (audio_k, text_k))

    def rivals(self, clip_B: Tensor) -> Tensor:
        """Which clips may be told from each other `[B, B]`."""
        text_B, recording_B = self.text_C[clip_B], self.corpus.recording_C[clip_B]
        same_recording_BB = (recording_B[:, None] == recording_B) & (recording_B >= 0)
        rivals_BB = ~(same_recording_BB | (text_B[:, None] == text_B))
        return rivals_BB.fill_diagonal_(False)


def text_numbers(texts: Sequence[str]) -> Tensor:
    """A number of each text; those that differ in case and spaces alone have the same."""
    return numbered([" ".join(text.casefold().split()) for text in texts])
