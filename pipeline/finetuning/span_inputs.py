"""Questions and spoken passages as a reader takes them: packed clips, cells of them, tokens.

Shapes: B questions of a batch, N positions of the clips of all its passages, K cells of these, T
tokens of its questions, J places of the joint sequences (cells, marks and tokens of each question),
A places of cells among them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.frame_statistics import Frames
from pipeline.finetuning.audio_inputs import speech_input
from pipeline.finetuning.inputs import TextInputs, WithTexts, device_of
from pipeline.finetuning.settings import Pooling
from pipeline.finetuning.span_cells import Cells
from pipeline.foundation.arrays import Array
from pipeline.foundation.units import Seconds
from pipeline.models.lengths import Lengths, Movable
from pipeline.models.speech import SpeechInput
from pipeline.models.speech_front import SpeechFront

SCORED_PLACES = 16_384
"""Positions of passages, and places of questions joined with them, that are scored at once."""
NOTHING_ASKED = np.zeros(1, np.int32)
"""The token that takes the place of every question where a reader is to be blind to them."""
SPEECH, WORDS = 0, 1
"""Types of the places of a joint sequence."""


@dataclass(frozen=True)
class SpokenPassage:
    """A passage in a cache of frames.

    Attributes:
        clips: places of its clips in the cache.
        positions: how many an encoder has of each clip.
        cells: where an answer can begin and end.
    """

    clips: tuple[int, ...]
    positions: tuple[int, ...]
    cells: Cells


@dataclass(frozen=True)
class SpanBatch(Movable):
    """Some questions, each joined with the cells of its passage; a passage is encoded once.

    Attributes:
        clips: of the passages.
        cell_N: the cell of each position.
        positions_K: how many positions each cell has.
        ids_T: tokens of the questions.
        joint: places of each question: the cells of its passage with a mark between clips, then its
            tokens.
        source_J: what stands at each place: a cell, from 0; K for a mark; K + 1 + t for a token.
        place_J: its position, among cells and marks or among tokens.
        type_J: `SPEECH` or `WORDS`.
        cell_A: the places of cells.
    """

    clips: SpeechInput
    cell_N: Tensor
    positions_K: Tensor
    ids_T: Tensor
    joint: Lengths
    source_J: Tensor
    place_J: Tensor
    type_J: Tensor
    cell_A: Tensor


@dataclass(frozen=True, kw_only=True)
class SpanInputs(WithTexts):
    """Questions about passages, as one speech encoder hears and one tokenizer reads them.

    Attributes:
        frames: the cache.
        front: of the encoder.
        pool: positions that become one cell.
        cell_seconds: how long a cell is, but for the last of a clip.
        passages: all that is asked about.
        passage_n: which of them each question is about.
        answers_n: the true answers of each question, in seconds.
        texts: tokens of the questions.
        reads_n: the question whose tokens are read for each; None to read none.
    """

    frames: Frames
    front: SpeechFront
    pool: int
    cell_seconds: Seconds
    passages: Sequence[SpokenPassage]
    passage_n: Sequence[int]
    answers_n: Sequence[Sequence[tuple[Seconds, Seconds]]]
    texts: TextInputs
    reads_n: Sequence[int] | None

    def passage(self, place: int) -> SpokenPassage:
        """The passage of a question."""
        return self.passages[self.passage_n[place]]

    def tokens(self, place: int) -> Array:
        """The tokens that are read as a question."""
        return NOTHING_ASKED if self.reads_n is None else self.texts.ids[self.reads_n[place]]

    def size(self, places: Sequence[int]) -> int:
        """Cells, marks and tokens of some questions."""
        return sum(self._joint(place) for place in places)

    def _joint(self, place: int) -> int:
        return self.passage(place).cells.places + len(self.tokens(place))

    def batches(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Group questions of like length, those of one passage together."""
        order = sorted(
            range(len(places)),
            key=lambda i: (self.passage(places[i]).cells.places, self.passage_n[places[i]]),
        )
        batch: list[int] = []
        size, inside = 0, set[int]()
        for i in order:
            number = self.passage_n[places[i]]
            own = self._joint(places[i])
            new = 0 if number in inside else sum(self.passages[number].positions)
            if batch and size + own + new > SCORED_PLACES:
                yield batch
                batch, size, inside = [], 0, set()
                new = sum(self.passages[number].positions)
            batch.append(i)
            inside.add(number)
            size += own + new
        if batch:
            yield batch

    def batch(self, places: Sequence[int]) -> SpanBatch:
        """Some questions with their passages, on the host."""
        numbers = list(dict.fromkeys(self.passage_n[place] for place in places))
        spoken = [self.passages[number] for number in numbers]
        place_B = torch.tensor([clip for passage in spoken for clip in passage.clips])
        clips = speech_input(self.frames, self.front, place_B)
        counts = [passage.cells.count for passage in spoken]
        first = dict(zip(numbers, np.cumsum([0, *counts]).tolist(), strict=False))
        cells = sum(counts)
        cell_N = np.concatenate(
            [
                np.arange(positions) // self.pool + start
                for passage, at in zip(spoken, first.values(), strict=True)
                for positions, start in zip(
                    passage.positions,
                    at + np.cumsum([0, *passage.cells.per_clip]),
                    strict=False,
                )
            ]
        )
        source, position, kind, answer = [], [], [], []
        lengths, tokens, at, words = [], [], 0, 0
        for place in places:
            own, ids = self.passage(place).cells, self.tokens(place)
            heard = np.full(own.places, cells)  # marks, where no cell is
            heard[own.place_C] = first[self.passage_n[place]] + np.arange(own.count)
            read = cells + 1 + words + np.arange(len(ids))
            source += [heard, read]
            position += [np.arange(own.places), np.arange(len(ids))]
            kind += [np.full(own.places, SPEECH), np.full(len(ids), WORDS)]
            answer.append(at + own.place_C)
            lengths.append(own.places + len(ids))
            tokens.append(ids)
            at, words = at + lengths[-1], words + len(ids)
        source_J, place_J, type_J, cell_A, ids_T = (
            torch.from_numpy(np.concatenate(parts).astype(np.int64))
            for parts in (source, position, kind, answer, tokens)
        )
        return SpanBatch(
            clips=clips,
            cell_N=torch.from_numpy(cell_N),
            positions_K=torch.from_numpy(np.bincount(cell_N, minlength=cells)),
            ids_T=ids_T,
            joint=Lengths.of(torch.tensor(lengths)),
            source_J=source_J,
            place_J=place_J,
            type_J=type_J,
            cell_A=cell_A,
        )

    def vectors(self, encoder: Any, places: Sequence[int], pooling: Pooling) -> Tensor:
        """A vector per cell `[A, D]`, question after question, by a `SpanEncoder`.

        Raises:
            ValueError: another pooling than `auto` is asked for; nothing is pooled.
        """
        if pooling != "auto":
            raise ValueError(f"cells have no pooling {pooling}")
        vectors_AD: Tensor = encoder(self.batch(places).to(device_of(encoder)))
        return vectors_AD
