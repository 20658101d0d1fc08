"""The teacher's vectors of single words, and the tokens that each of them teaches.

Shapes: B clips of a batch, C clips of the corpus, P clips of the cache of words, V words that can
be taught, W words of a batch, w those of this process's share, K extra negatives, T tokens of a
share's words, E width of the teacher.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.cache.quantisation import values_of
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.statistics import Statistics
from pipeline.corpus.draws import below, random_bits, random_order
from pipeline.corpus.vectors import normal
from pipeline.foundation.seeds import derive
from pipeline.models.lengths import Movable

WordControl = Literal["real", "shuffled", "shuffled-words", "random"]


@dataclass(frozen=True)
class WordTable:
    """The words of a cache that can be taught, those of a clip one after the other.

    Attributes:
        start_P: where each clip's words begin.
        count_P: how many each clip has.
        first_V: first token of each word in its text.
        tokens_V: how many tokens it has.
        row_V: its row in the cache.
        type_V: number of what it is spelled with.
        seconds_V: how long it is.
    """

    start_P: Tensor
    count_P: Tensor
    first_V: Tensor
    tokens_V: Tensor
    row_V: Tensor
    type_V: Tensor
    seconds_V: Tensor

    @cached_property
    def clip_V(self) -> Tensor:
        """The clip that each word belongs to."""
        return torch.arange(len(self.count_P)).repeat_interleave(self.count_P)


def numbers_in(start_B: Tensor, count_B: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers `[W]` of what lies in stretches, one after the other, and the stretch of each.

    Args:
        start_B: first number of each stretch.
        count_B: how many numbers it has.
    """
    total = int(count_B.sum())
    stretch_W = torch.arange(len(count_B)).repeat_interleave(count_B, output_size=total)
    before_B = count_B.cumsum(0) - count_B
    return torch.arange(total) + (start_B - before_B)[stretch_W], stretch_W


@dataclass(frozen=True)
class WordVectors:
    """Words by clip of a corpus: which tokens they are, and what the teacher heard.

    Attributes:
        table: the words of the cache.
        reader: reads their vectors.
        place_C: which clip of the cache each clip of the corpus is; -1 for none.
        statistics: mean and spread of the vectors, as they are handed out.
        made_of: digest of the table.
        control: whose vectors they are.
        seed: of the control.
        taken_GE: mean vectors by group that are taken away from each vector; None for nothing.
        group_V: the group of each word.
    """

    table: WordTable
    reader: SequenceReader
    place_C: Tensor
    statistics: Statistics
    made_of: str
    control: WordControl = "real"
    seed: int = 0
    taken_GE: Tensor | None = None
    group_V: Tensor | None = None

    @property
    def width(self) -> int:
        """E, the width of the teacher."""
        return self.reader.identity.width

    def counts(self, clip_B: Tensor) -> Tensor:
        """How many words of each clip `[B]` are taught."""
        place_B = self.place_C[clip_B]
        count_B = torch.where(place_B < 0, 0, self.table.count_P[place_B])
        # a single word has no other one in its clip to take the vector of
        return torch.where(count_B < 2, 0, count_B) if self._within_clip else count_B

    @property
    def _within_clip(self) -> bool:
        return self.control == "shuffled-words"

    def of(self, clip_B: Tensor) -> tuple[Tensor, Tensor]:
        """The words of some clips: numbers `[W]` in the table, and each one's place in `clip_B`."""
        place_B = self.place_C[clip_B].clamp(min=0)
        return numbers_in(self.table.start_P[place_B], self.counts(clip_B))

    def vectors(self, word_W: Tensor) -> Tensor:
        """What each word of the table is taught, float32 `[W, E]`, in this machine's memory."""
        giver_W = self._givers(word_W)
        row_W = self.table.row_V[giver_W]
        if self.control == "random":
            mean_E, std_E = (
                torch.from_numpy(values_E).float()
                for values_E in (self.statistics.mean_E, self.statistics.std_E)
            )
            return normal(row_W, self.width, derive(self.seed, "control random")) * std_E + mean_E
        vectors_WE = read_rows(self.reader, row_W)
        if self.taken_GE is None or self.group_V is None:
            return vectors_WE
        return vectors_WE - self.taken_GE[self.group_V[giver_W]].float()

    def _givers(self, word_W: Tensor) -> Tensor:
        """The words whose vectors these words take."""
        if self.control not in ("shuffled", "shuffled-words"):
            return word_W
        table = self.table
        place_W = table.clip_V[word_W]
        within_W = word_W - table.start_P[place_W]
        if self._within_clip:
            return table.start_P[place_W] + self._next_in_clip(place_W, within_W)
        giver_W = self._giver_P[place_W]
        # at the same share of the sentence, because sentences differ in length
        share_W = within_W * table.count_P[giver_W] // table.count_P[place_W]
        return table.start_P[giver_W] + share_W

    @cached_property
    def _giver_P(self) -> Tensor:
        """For each clip the one whose words it takes: one cycle through all clips with words."""
        spoken = (self.table.count_P > 0).nonzero()[:, 0]
        order = spoken[random_order(len(spoken), self.seed, "control shuffled")]
        giver_P = torch.zeros_like(self.table.count_P)
        giver_P[order] = order.roll(1)
        return giver_P

    def _next_in_clip(self, place_W: Tensor, within_W: Tensor) -> Tensor:
        """The place in its clip of the word that comes next in a random cycle through its clip."""
        places, clip_W = torch.unique(place_W, return_inverse=True)
        start_B, count_B = self.table.start_P[places], self.table.count_P[places]
        all_A, clip_A = numbers_in(start_B, count_B)
        bits_A = random_bits(all_A, self.seed, "control shuffled-words")
        order_A = bits_A.argsort()
        order_A = order_A[clip_A[order_A].argsort(stable=True)]
        before_B = count_B.cumsum(0) - count_B
        rank_A = torch.empty_like(order_A)
        rank_A[order_A] = torch.arange(len(order_A)) - before_B[clip_A]
        next_A = order_A[before_B[clip_A] + (rank_A + 1) % count_B[clip_A]]
        return (next_A - before_B[clip_A])[before_B[clip_W] + within_W]

    def draw(
        self, train: Tensor, end_C: Tensor, count: int, *name: int | str
    ) -> tuple[Tensor, Tensor]:
        """Words drawn from all words of some clips, each as likely as any other.

        Args:
            train: the clips.
            end_C: how many words they have up to the end of each of them.
            count: how many words to draw.
            name: what the draw is for.

        Returns:
            Numbers `[K]` of the words in the table, and the clip of each in the corpus.
        """
        drawn_K = below(random_bits(torch.arange(count), *name), max(1, int(end_C[-1])))
        place_K = torch.searchsorted(end_C, drawn_K, right=True)
        clip_K = train[place_K]
        within_K = drawn_K - (end_C[place_K] - self.counts(clip_K))
        return self.table.start_P[self.place_C[clip_K]] + within_K, clip_K


def read_rows(reader: SequenceReader, row_W: Tensor) -> Tensor:
    """Rows `[W, E]` of a cache, float32; each is read once, neighbours in one go."""
    row_R, place_W = np.unique(row_W.numpy(), return_inverse=True)
    begins = np.flatnonzero(np.diff(row_R, prepend=-2) != 1)
    counts = np.diff(np.append(begins, len(row_R)))
    stored_RE = reader.read(row_R[begins], counts)
    if reader.identity.dtype == "uint8":
        clips = reader.clips
        clip_R = np.searchsorted(clips.row, row_R, side="right") - 1
        stored_RE = torch.from_numpy(
            values_of(stored_RE.numpy(), clips.low[clip_R, None], clips.step[clip_R, None])
        )
    return stored_RE.index_select(0, torch.from_numpy(place_W)).float()


@dataclass(frozen=True)
class OwnWords(Movable):
    """The words of a process's share of a batch, by their tokens.

    Attributes:
        word_w: number of each word among those of the whole batch.
        first_w: the word's first token, by its place in the packing.
        token_T: all tokens of these words.
        owner_T: which of these words each of them belongs to, from 0 to w − 1.
        count_w: tokens of each word.
    """

    word_w: Tensor
    first_w: Tensor
    token_T: Tensor
    owner_T: Tensor
    count_w: Tensor

    @classmethod
    def of(cls, word_w: Tensor, first_w: Tensor, count_w: Tensor) -> "OwnWords":
        """Words by the place of their first token in the packing, and their number of tokens."""
        token_T, owner_T = numbers_in(first_w, count_w)
        return cls(word_w, first_w, token_T, owner_T, count_w)


@dataclass(frozen=True)
class Sentences(Movable):
    """Where the words of a whole batch stand: which clip each is of, and where in it.

    Attributes:
        clip_W: number of the word's clip, from 0, among the clips with words.
        place_W: how many words of the clip come before it.
        clips: how many clips have words.
        longest: words of the clip with the most.
    """

    clip_W: Tensor
    place_W: Tensor
    clips: int
    longest: int

    @classmethod
    def of(cls, clip_W: Tensor, count_B: Tensor) -> "Sentences":
        """Words by the clip of each, in order, and how many each clip of the batch has."""
        spoken_B = count_B > 0
        number_B = spoken_B.cumsum(0) - 1
        before_B = count_B.cumsum(0) - count_B
        place_W = torch.arange(len(clip_W)) - before_B[clip_W]
        longest = int(count_B.max()) if len(count_B) else 0
        return cls(number_B[clip_W], place_W, int(spoken_B.sum()), longest)
