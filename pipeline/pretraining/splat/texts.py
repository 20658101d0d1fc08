"""The text side of an alignment: vectors of whole texts, and weights of their tokens.

All of it comes from the cache of a frozen text encoder; nothing here can be trained.

Shapes: S clips of the cache of texts, C clips of the corpus, M tokens, B clips, V vocabulary, E
width.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.corpus.arrays import ArrayWriter
from pipeline.corpus.prepared import Prepared
from pipeline.corpus.row_corpus import numbered
from pipeline.corpus.rows import Sequences
from pipeline.corpus.vectors import normal
from pipeline.foundation.progress import Meter
from pipeline.models.lengths import Lengths

TextVector = Literal["cls", "mean"]
Weighing = Literal["idf", "uniform"]
CLIPS_AT_ONCE = 256
VECTORS_VERSION = 1
SAMPLED = 20_000
"""Vectors whose median is taken; more would take memory and change it little."""
LEAST_DEVIATION = 1e-3
"""Share of the median deviation; a dimension that varies less carries nothing."""


@dataclass(frozen=True)
class TextVectors:
    """One vector per text, and what is known of all of them.

    Attributes:
        stored_SE: as cached, float32; it may be mapped from a file.
        place_C: which of them each clip of the corpus has.
        noise_seed: of made-up vectors in their place; None for their own.
        shift_E: what is taken away from each.
        scale_E: what each is multiplied with afterwards.
        median_E: of the result over clips to train on: the best constant in L1.
    """

    stored_SE: Tensor
    place_C: Tensor
    noise_seed: int | None
    shift_E: Tensor
    scale_E: Tensor
    median_E: Tensor

    def of(self, clip_B: Tensor) -> Tensor:
        """The vectors `[B, E]` of some clips."""
        return (self._raw(clip_B) - self.shift_E) * self.scale_E

    def _raw(self, clip_B: Tensor) -> Tensor:
        if self.noise_seed is None:
            return self.stored_SE[self.place_C[clip_B]]
        return normal(clip_B, self.stored_SE.shape[1], self.noise_seed)


def text_vectors(
    cache: TeacherCache,
    part: Sequences,
    train: Tensor,
    kind: TextVector,
    *,
    standardize: bool,
    folder: Path | None,
) -> TextVectors:
    """Vectors of the texts of a corpus.

    Args:
        cache: of a text encoder's states.
        part: says which clip of it each clip of the corpus has, its control included.
        train: clips to train on, whose statistics are taken.
        kind: the state of the first token, or the mean of all.
        standardize: whether each dimension gets mean 0 and deviation 1.
        folder: for prepared files; None for the usual one.
    """
    reader = part.reader

    def fill(writer: ArrayWriter) -> None:
        with Meter("vectors of texts", len(reader.clips), "clips") as meter:
            for start in range(0, len(reader.clips), CLIPS_AT_ONCE):
                place_B = np.arange(start, min(start + CLIPS_AT_ONCE, len(reader.clips)))
                writer.append("vectors", _vectors(reader, place_B, kind).numpy())
                meter.advance(len(place_B))
        writer.close({})

    store = Prepared(cache, folder).made("text-vectors", [kind, VECTORS_VERSION], fill)
    stored_SE = store.map("vectors")
    width = stored_SE.shape[1]
    plain = TextVectors(
        stored_SE, part.place_C, part.noise_seed, torch.zeros(width), torch.ones(width),
        torch.zeros(width),
    )  # fmt: skip
    mean_E, std_E = _statistics(plain, train)
    shift_E, scale_E = plain.shift_E, plain.scale_E
    if standardize:
        least = float(std_E.median()) * LEAST_DEVIATION
        shift_E = mean_E.float()
        scale_E = torch.where(std_E > least, 1 / std_E.clamp(min=1e-30), 0.0).float()
    scaled = TextVectors(stored_SE, part.place_C, part.noise_seed, shift_E, scale_E, plain.median_E)
    every = max(1, len(train) // SAMPLED)
    median_E = scaled.of(train[::every]).median(0).values
    return TextVectors(stored_SE, part.place_C, part.noise_seed, shift_E, scale_E, median_E)


def _vectors(reader: SequenceReader, place_B: NDArray[np.int64], kind: TextVector) -> Tensor:
    rows = Lengths.of(torch.from_numpy(reader.clips.rows[place_B]))
    states_ME = reader.values(place_B).float()
    if kind == "cls":
        return states_ME[rows.starts_B]
    sum_BE = states_ME.new_zeros(len(place_B), states_ME.shape[1], dtype=torch.float64)
    sum_BE.index_add_(0, rows.sequence_N, states_ME.double())
    return (sum_BE / rows.lengths_B[:, None]).float()


def _statistics(vectors: TextVectors, train: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation `[E]` over clips to train on, float64."""
    total = torch.zeros(2, vectors.stored_SE.shape[1], dtype=torch.float64)
    pieces = torch.split(train, CLIPS_AT_ONCE)
    for clip_B in pieces:
        total[0] += vectors.of(clip_B).double().sum(0)
    mean_E = total[0] / len(train)
    for clip_B in pieces:
        total[1] += (vectors.of(clip_B).double() - mean_E).square().sum(0)
    return mean_E, (total[1] / len(train)).sqrt()


@dataclass(frozen=True)
class TokenWeights:
    """What each token of a text counts, per text adding up to 1.

    `idf(v) = ln((N + 1) / (df_v + 1))` over the N transcripts to train on, as BERTScore has it
    (Zhang et al. 2020, section 3); a token that all have, such as [CLS], weighs exactly 0. A text
    without any weight takes all its tokens alike.

    Attributes:
        weight_V: weight of each token id before texts are made to add up to 1, float64.
        unseen: that of a token which no text to train on has.
        documents: N.
        even: how many texts to train on have no weight of their own.
    """

    weight_V: Tensor
    unseen: float
    documents: int
    even: int

    @classmethod
    def of(cls, part: Sequences, train: Tensor, weighing: Weighing) -> "TokenWeights":
        """Count the tokens of the texts to train on.

        Args:
            part: the text states of the corpus's clips.
            train: clips to train on.
            weighing: `idf`, or `uniform`, in which only tokens around every text weigh 0.
        """
        texts = _ids(part, train)
        documents = len(texts)
        frequency = Counter(token for ids in texts for token in set(ids.tolist()))
        size = 1 + max(frequency)
        if weighing == "idf":
            unseen = math.log(documents + 1)
            weight_V = torch.full((size,), unseen, dtype=torch.float64)
            for token, count in frequency.items():
                weight_V[token] = math.log((documents + 1) / (count + 1))
        else:
            unseen = 1.0
            weight_V = torch.ones(size, dtype=torch.float64)
            for end in (0, -1):  # a special token stands there in every text
                token, count = Counter(int(ids[end]) for ids in texts).most_common(1)[0]
                if count == documents:
                    weight_V[token] = 0.0
        weights = cls(weight_V, unseen, documents, 0)
        even = sum(not bool(weights.raw(torch.from_numpy(ids)).any()) for ids in texts)
        return replace(weights, even=even)

    def raw(self, ids_M: Tensor) -> Tensor:
        """Weights of tokens before texts are made to add up to 1, float64."""
        known_M = ids_M < len(self.weight_V)
        weight_M = self.weight_V[torch.where(known_M, ids_M, 0).long()]
        return torch.where(known_M, weight_M, self.unseen)

    def sha256(self) -> str:
        """Digest of the weights, for the record of a run."""
        return hashlib.sha256(self.weight_V.numpy().tobytes()).hexdigest()

    def weights(self, ids_M: Tensor, texts: Lengths) -> Tensor:
        """Weights `[M]` of the tokens of some texts, float32, per text adding up to 1."""
        raw_M = self.raw(ids_M)
        sum_B = raw_M.new_zeros(len(texts.lengths_B)).index_add(0, texts.sequence_N, raw_M)
        even_M = (1 / texts.lengths_B.double())[texts.sequence_N]
        of_text_M = sum_B[texts.sequence_N]
        return torch.where(of_text_M > 0, raw_M / of_text_M.clamp(min=1e-30), even_M).float()


def _ids(part: Sequences, clips: Tensor) -> list[NDArray[np.int32]]:
    """The token ids of each clip's text."""
    reader, place_C = part.reader, part.place_C[clips].numpy()
    rows_C = reader.clips.rows[place_C]
    ids_M: NDArray[np.int32] = reader.ids(reader.clips.row[place_C], rows_C).numpy()
    return np.split(ids_M, rows_C.cumsum()[:-1])


def cut_texts(cache: TeacherCache) -> Tensor:
    """Which clips of a cache `[S]` have a text that was cut, in the order of its clips."""
    return torch.tensor(
        ["cut" in s for shard in cache.receipts() for s in cache.shard_samples(shard)],
        dtype=torch.bool,
    )


def text_numbers(texts: Sequence[str]) -> Tensor:
    """A number per text; texts that are spelled alike have the same one."""
    return numbered(list(texts))
