"""Rows of a cache as training sees them: a clip's own, another's, or noise, laid end to end.

Nothing is copied beforehand: a batch's rows are read where the cache stores them.

Shapes: B clips of a batch, C clips of the corpus, N rows of a batch, W width of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.statistics import Statistics
from pipeline.corpus.vectors import normal
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import derive, generator
from pipeline.models.lengths import Lengths

RowControl = Literal["real", "shuffled", "random", "relabelled"]


@dataclass(frozen=True)
class Rows(Lengths):
    """Rows of several clips laid end to end: frames, words, or tokens of a frozen encoder.

    Attributes:
        values_NW: the rows, float32.
    """

    values_NW: Tensor


@dataclass(frozen=True)
class TextRows(Rows):
    """Rows of a cache of kind `text`: the states of a frozen text encoder.

    Attributes:
        ids_N: the token of each row, int32.
    """

    ids_N: Tensor


@dataclass(frozen=True)
class Sequences:
    """The rows of each clip of a corpus, read from one cache as they are needed.

    Attributes:
        reader: reads them.
        place_C: which clip of the reader each clip of the corpus takes its rows from.
        statistics: mean and spread of all rows, for the control `random`.
        noise_seed: seed of that control.
    """

    reader: SequenceReader
    place_C: Tensor
    statistics: Statistics
    noise_seed: int | None = None

    @property
    def width(self) -> int:
        """W, the width of a row."""
        return self.reader.identity.width

    @cached_property
    def _extent_C(self) -> tuple[Tensor, Tensor]:
        """First row and number of rows of the reader's clips."""
        clips = self.reader.clips
        return torch.from_numpy(clips.row), torch.from_numpy(clips.rows).long()

    def lengths_of(self, clip_B: Tensor) -> Tensor:
        """How many rows each clip `[B]` has; nothing is read."""
        return self._extent_C[1][self.place_C[clip_B]]

    def of(self, clip_B: Tensor) -> Rows:
        """The rows of some clips, packed in the order of `clip_B`, in this machine's memory.

        They are `TextRows` if the cache is of kind `text`.
        """
        place_B = self.place_C[clip_B]
        first_B, rows_B = (extent_C[place_B] for extent_C in self._extent_C)
        parts = Lengths.parts(rows_B, int(rows_B.sum()))
        if self.noise_seed is None:
            values_NW = self.reader.values(place_B.numpy()).float()
        else:
            values_NW = self._noise(first_B[parts["sequence_N"]] + parts["offset_N"])
        if self.reader.identity.kind == "text":
            ids_N = self.reader.ids(first_B.numpy(), rows_B.numpy())
            return TextRows(**parts, values_NW=values_NW, ids_N=ids_N)
        return Rows(**parts, values_NW=values_NW)

    def _noise(self, row_N: Tensor) -> Tensor:
        """Noise with the mean and spread of each column, a function of a row's number alone."""
        mean_W, std_W = (
            torch.from_numpy(values_W).float()
            for values_W in (self.statistics.mean_E, self.statistics.std_E)
        )
        return normal(row_N, self.width, self.noise_seed or 0) * std_W + mean_W


def control_rows(
    sequences: Sequences, control: RowControl, seed: int, texts: Sequence[str]
) -> Sequences:
    """Give each clip rows that cannot teach it anything, as a control.

    | control      | a clip's rows are those of                                               |
    |--------------|--------------------------------------------------------------------------|
    | `real`       | itself                                                                   |
    | `shuffled`   | another clip, each clip's taken once                                     |
    | `relabelled` | a clip of another text: every distinct text has one other text's, always |
    | `random`     | nobody: noise with the mean and spread of each column                    |

    Args:
        sequences: the clips' own rows.
        control: one of these.
        seed: of the exchange, or of the noise.
        texts: of the clips, for `relabelled`.

    Raises:
        SpeechkdError: there are not two clips, or not two texts, to exchange.
    """
    if control == "random":
        return replace(sequences, noise_seed=derive(seed, "control random"))
    if control == "shuffled":
        return replace(sequences, place_C=sequences.place_C[_one_cycle(len(texts), seed, control)])
    if control == "relabelled":
        _, first, text_C = np.unique(np.array(texts), return_index=True, return_inverse=True)
        other_T = _one_cycle(len(first), seed, control)
        giver_C = torch.from_numpy(first)[other_T][torch.from_numpy(text_C)]
        return replace(sequences, place_C=sequences.place_C[giver_C])
    return sequences


def _one_cycle(count: int, seed: int, control: str) -> Tensor:
    """An exchange in which nothing keeps its place: a random order rolled by one is one cycle."""
    if count < 2:
        raise SpeechkdError(f"the control {control} exchanges rows, but there is one clip or text.")
    order = torch.randperm(count, generator=generator(seed, f"control {control}"))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other
