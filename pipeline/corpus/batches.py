"""Batches of clips that depend on nothing but the corpus, the seed, the epoch and the step.

The order of clips, the masks and the extra negatives are pure functions. There is no data loader
and no state, so a run resumes at any step at once and exactly. The host makes the batches, so it
knows every size and need not ask a GPU, which would have to finish its work before it answered.

Shapes: B clips of a batch, N tokens, K chosen tokens or extra negatives, E width of the teacher.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.draws import PLACES, below, random_bits
from pipeline.corpus.masking import Masking
from pipeline.corpus.order import Order
from pipeline.foundation.seeds import derive
from pipeline.models.compiled import BatchShape
from pipeline.models.lengths import to_device
from pipeline.models.packing import Packed, pack

TOKENS_ROUNDED_TO = 128
"""Padded batches have a multiple of this many tokens, which are whole tiles of matrix kernels."""

SHAPE_DEVIATIONS = (1.25, 6.0)
"""By how many standard deviations the two shapes of compiled batches are over the mean. A lower
first one sends more batches to the large shape, a higher one pads the others more. Beside 6 the sum
is least at 1.25, where nine of ten batches take the small shape."""


@dataclass(frozen=True)
class WholeBatch:
    """The clips of one batch, the same in every process that takes a share of it.

    Attributes:
        teacher_BE: the clips' teacher vectors as cached.
        row_B: their rows in the cache.
        recording_B: number of the recording that each clip was cut from; negative if unknown.
        corpus_clips: M, how many clips there are to train on.
        negative_KE: teacher vectors drawn from the whole corpus as extra negatives, or None.
        negative_row_K: their rows.
        negative_recording_K: their recordings.
        processes: how many processes share the batch.
    """

    teacher_BE: Tensor
    row_B: Tensor
    recording_B: Tensor
    corpus_clips: int
    negative_KE: Tensor | None = None
    negative_row_K: Tensor | None = None
    negative_recording_K: Tensor | None = None
    processes: int = 1

    def to(self, device: torch.device) -> "WholeBatch":
        """The same clips on a device."""
        return _on(device, self)

    def rivals_BB(self) -> Tensor:
        """Whether clip b' may be a negative of clip b: not the same clip, nor its recording."""
        return _rivals(self.row_B, self.recording_B, self.row_B, self.recording_B)

    def rivals_BK(self) -> Tensor:
        """Whether extra negative k may be a negative of clip b."""
        if self.negative_row_K is None or self.negative_recording_K is None:
            raise ValueError("the batch carries no extra negatives")
        return _rivals(self.row_B, self.recording_B, self.negative_row_K, self.negative_recording_K)


def _rivals(row_B: Tensor, recording_B: Tensor, row_K: Tensor, recording_K: Tensor) -> Tensor:
    same_clip = row_B[:, None] == row_K
    same_recording = (recording_B[:, None] == recording_K) & (recording_B >= 0)[:, None]
    return ~(same_clip | same_recording)


@dataclass(frozen=True)
class TokenBatch:
    """A process's share of one batch: its tokens, and the clips of the whole batch.

    Attributes:
        packed: this process's sequences, unmasked.
        masked_N: the same tokens with masks.
        chosen_K: places of the tokens to predict.
        chosen_total: how many tokens all processes predict together.
        clip_N: for each token, its clip's place in the whole batch.
        special_N: which tokens are special.
        number_N: a number of each token that no other token of the corpus has.
        dropout_key: names the dropout of this step, int64 `[]`.
        clip_B: the whole batch's clips in the corpus.
        lengths_B: tokens of each of these clips.
        tokens: their sum.
        whole: their teacher vectors, and what else objectives compare.
    """

    packed: Packed
    masked_N: Tensor
    chosen_K: Tensor
    chosen_total: int
    clip_N: Tensor
    special_N: Tensor
    number_N: Tensor
    dropout_key: Tensor
    clip_B: Tensor
    lengths_B: Tensor
    tokens: int
    whole: WholeBatch

    def to(self, device: torch.device) -> "TokenBatch":
        """The same batch on a device."""
        return self if self.clip_B.device == device else _on(device, self)


AnyBatch = TypeVar("AnyBatch", WholeBatch, TokenBatch)


def _on(device: torch.device, batch: AnyBatch) -> AnyBatch:
    tensors: dict[str, Any] = {
        f.name: to_device(value, device) if isinstance(value, Tensor) else value.to(device)
        for f in fields(batch)
        if isinstance(value := getattr(batch, f.name), Tensor | Packed | WholeBatch)
    }
    return replace(batch, **tensors)


@dataclass(frozen=True)
class Batches:
    """All batches of a run, each a function of its step.

    Args:
        corpus: the clips.
        masking: decides which tokens are predicted.
        clips_per_batch: B, over all processes together.
        seed: seed of the order of clips, the masks and the negatives.
        extra_negatives: clips drawn from the whole training part at each step.
        process: number of this process, which decides its share of each batch.
        processes: how many processes share a batch.
        device: the device that batches are moved to.
    """

    corpus: Corpus
    masking: Masking
    clips_per_batch: int
    seed: int
    extra_negatives: int = 0
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
        return (batch if self.processes == 1 else self._share(batch)).to(self.device)

    def _whole(self, clip_B: Tensor, stream: str, epoch: int, step: int) -> WholeBatch:
        corpus, train = self.corpus, self.corpus.train
        whole = WholeBatch(
            teacher_BE=corpus.vectors.of(clip_B),
            row_B=corpus.row_C[clip_B],
            recording_B=corpus.recording_C[clip_B],
            corpus_clips=len(train),
            processes=self.processes,
        )
        if not self.extra_negatives:
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
