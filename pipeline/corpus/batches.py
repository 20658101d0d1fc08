"""Batches of clips that depend on nothing but the corpus, the seed, the epoch and the step.

The order of clips, the masks and the extra negatives are pure functions. There is no data loader
and no state, so a run resumes at any step at once and exactly. The host makes the batches, so it
knows every size and need not ask a GPU, which would have to finish its work before it answered.

Shapes: B clips of a batch, N tokens, K chosen tokens or extra negatives, W words of a batch, w
those of this process, E width of the teacher.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from pipeline.corpus.batch import SpokenBatch, TokenBatch, WholeBatch, WordBatch
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.draws import PLACES, below, random_bits
from pipeline.corpus.masking import Masking
from pipeline.corpus.order import Order
from pipeline.corpus.word_vectors import OwnWords, Sentences, WordVectors
from pipeline.foundation.devices import one_thread
from pipeline.foundation.seeds import derive
from pipeline.models.compiled import BatchShape
from pipeline.models.packing import pack

TOKENS_ROUNDED_TO = 128
"""Padded batches have a multiple of this many tokens, which are whole tiles of matrix kernels."""

UNKNOWN_FROM = 2**40
"""Numbers from here on are of recordings that the cache does not name, one per clip."""

SHAPE_DEVIATIONS = (1.25, 6.0)
"""By how many standard deviations the two shapes of compiled batches are over the mean. A lower
first one sends more batches to the large shape, a higher one pads the others more. Beside 6 the sum
is least at 1.25, where nine of ten batches take the small shape."""


@dataclass(frozen=True)
class Batches:
    """All batches of a run, each a function of its step.

    Args:
        corpus: the clips.
        masking: decides which tokens are predicted.
        clips_per_batch: B, over all processes together.
        seed: seed of the order of clips, the masks and the negatives.
        extra_negatives: clips drawn from the whole training part at each step.
        words: the words of the clips; None if none is taught.
        extra_words: words drawn from the whole training part at each step.
        same_type_negatives: whether words that are spelled alike may be each other's negatives.
        process: number of this process, which decides its share of each batch.
        processes: how many processes share a batch.
        device: the device that batches are moved to.
    """

    corpus: Corpus
    masking: Masking
    clips_per_batch: int
    seed: int
    extra_negatives: int = 0
    words: WordVectors | None = None
    extra_words: int = 0
    same_type_negatives: bool = False
    process: int = 0
    processes: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def clips(self) -> Order:
        """Which clips each batch has."""
        corpus = self.corpus
        return Order(
            corpus.train,
            corpus.held_out,
            self.clips_per_batch,
            self.seed,
            self.process,
            self.processes,
        )

    @property
    def per_epoch(self) -> int:
        """Batches per epoch; clips that fill no batch wait for the next epoch's order."""
        return self.clips.per_epoch

    def order(self, epoch: int) -> Tensor:
        """The training clips in the order of an epoch."""
        return self.clips.of(epoch)

    def epoch(self, epoch: int) -> Callable[[int], TokenBatch]:
        """The batches of an epoch: a function from a batch's place in the epoch to the batch."""
        clips_at = self.clips.epoch(epoch)
        return lambda place: self.make(clips_at(place), "train", epoch, place)

    def shapes(self) -> tuple[BatchShape, ...]:
        """One or two shapes for this process's shares, the smaller one first.

        The larger one holds every batch, except one in a billion: it is six standard deviations
        over the mean, about as large as the largest batch of a long run. A seventh of it is
        padding as a rule, so there is a smaller one for nine of ten batches. Held-out batches are
        always the same, and all of them fit.
        """
        lengths_C = self.corpus.lengths_C
        clips = -(-self.clips_per_batch // self.processes)
        longest = int(lengths_C.max())
        train_C = lengths_C[self.corpus.train].double()
        mean, deviation = clips * float(train_C.mean()), clips**0.5 * float(train_C.std())
        held_out = [
            int(lengths_C[clip_B[self.process :: self.processes]].sum())
            for clip_B in self.held_out()
        ]
        usual, largest = (
            min(math.ceil(mean + times * deviation), clips * longest) for times in SHAPE_DEVIATIONS
        )
        sizes = {
            -(-tokens // TOKENS_ROUNDED_TO) * TOKENS_ROUNDED_TO
            for tokens in (usual, max([largest, *held_out]))
        }
        return tuple(BatchShape(clips, tokens, longest) for tokens in sorted(sizes))

    def held_out(self) -> list[Tensor]:
        """The clips of each validation batch, which are always the same."""
        return self.clips.held_out_batches()

    @one_thread()
    def make(self, clip_B: Tensor, stream: str, epoch: int, step: int) -> TokenBatch:
        """The batch of some clips; its masks and negatives are draws of its own name."""
        packed = self.corpus.tokens_of(clip_B)
        number_N = clip_B[packed.sequence_N] * PLACES + packed.offset_N
        chosen_K, masked_N = self.masking.choose(
            packed.ids_N, number_N, self.seed, f"masks {stream}", epoch, step
        )
        batch = TokenBatch(
            packed=packed,
            masked_N=masked_N,
            chosen_K=chosen_K,
            chosen_total=len(chosen_K),
            clip_N=packed.sequence_N,
            special_N=self.masking.special_V[packed.ids_N],
            number_N=number_N,
            dropout_key=torch.tensor(derive(self.seed, f"dropout {stream}", epoch, step)),
            clip_B=clip_B,
            lengths_B=packed.lengths_B,
            tokens=len(packed.ids_N),
            whole=self._whole(clip_B, stream, epoch, step),
        )
        batch = batch if self.processes == 1 else self._share(batch)
        if not self.corpus.all_spoken:
            spoken_B = clip_B < self.corpus.spoken
            share = (batch.packed, self.process, self.processes)
            batch = replace(batch, spoken=SpokenBatch.of(spoken_B, batch.lengths_B, *share))
        if self.words is not None:
            words = self._words(self.words, batch, stream, epoch, step)
            batch = replace(batch, words=words)
        return batch.to(self.device)

    def _words(
        self, words: WordVectors, batch: TokenBatch, stream: str, epoch: int, step: int
    ) -> WordBatch:
        """The words of a batch whose tokens are this process's share already."""
        clip_B, table = batch.clip_B, words.table
        word_W, place_W = words.of(clip_B)
        recording_W = self._recordings(clip_B)[place_W]
        own_w = (place_W % self.processes == self.process).nonzero()[:, 0]
        first_w = batch.packed.starts_B[place_W[own_w] // self.processes]
        mine_w = word_W[own_w]
        whole = WholeBatch(
            teacher_BE=words.vectors(word_W),
            row_B=table.row_V[word_W],
            recording_B=recording_W,
            corpus_clips=int(self._word_ends[-1]),
            processes=self.processes,
            type_B=None if self.same_type_negatives else table.type_V[word_W],
        )
        if self.extra_words:
            name = (self.seed, f"word negatives {stream}", epoch, step)
            negative_K, clip_K = words.draw(
                self.corpus.train, self._word_ends, self.extra_words, *name
            )
            whole = replace(
                whole,
                negative_KE=words.vectors(negative_K),
                negative_row_K=table.row_V[negative_K],
                negative_recording_K=self._recordings(clip_K),
                negative_type_K=None if self.same_type_negatives else table.type_V[negative_K],
            )
        return WordBatch(
            own=OwnWords.of(own_w, first_w + table.first_V[mine_w], table.tokens_V[mine_w]),
            whole=whole,
            sentences=Sentences.of(place_W, words.counts(clip_B)),
            total=len(word_W),
        )

    def _recordings(self, clip_B: Tensor) -> Tensor:
        """Recordings of clips; words of a clip of unknown recording share one of their own."""
        recording_B = self.corpus.recording_C[clip_B]
        return torch.where(recording_B < 0, UNKNOWN_FROM + clip_B, recording_B)

    @cached_property
    def _word_ends(self) -> Tensor:
        """How many words there are up to the end of each training clip."""
        train = self.corpus.train
        return (self.words.counts(train) if self.words else torch.zeros_like(train)).cumsum(0)

    def _whole(self, clip_B: Tensor, stream: str, epoch: int, step: int) -> WholeBatch:
        corpus, train = self.corpus, self.corpus.spoken_train
        if not corpus.all_spoken:
            clip_B = clip_B[clip_B < corpus.spoken]
        whole = WholeBatch(
            teacher_BE=corpus.vectors.of(clip_B),
            row_B=corpus.row_C[clip_B],
            recording_B=corpus.recording_C[clip_B],
            corpus_clips=len(train),
            processes=self.processes,
        )
        if not self.extra_negatives or not len(clip_B):
            return whole
        bits_K = random_bits(
            torch.arange(self.extra_negatives), self.seed, f"negatives {stream}", epoch, step
        )
        negative_K = train[below(bits_K, len(train))]
        return replace(
            whole,
            negative_KE=corpus.vectors.of(negative_K),
            negative_row_K=corpus.row_C[negative_K],
            negative_recording_K=corpus.recording_C[negative_K],
        )

    def _share(self, batch: TokenBatch) -> TokenBatch:
        """This process's share of a batch: its own clip out of every `processes` clips."""
        packed = batch.packed
        mine_N = packed.sequence_N % self.processes == self.process
        mine_B = torch.arange(len(packed.lengths_B)) % self.processes
        renumbered_N = mine_N.long().cumsum(0) - 1
        return replace(
            batch,
            packed=pack(packed.ids_N[mine_N], packed.lengths_B[mine_B == self.process]),
            masked_N=batch.masked_N[mine_N],
            chosen_K=renumbered_N[batch.chosen_K[mine_N[batch.chosen_K]]],
            clip_N=batch.clip_N[mine_N],
            special_N=batch.special_N[mine_N],
            number_N=batch.number_N[mine_N],
        )
