"""Batches of rows that depend on nothing but the corpus, the seed, the epoch and the step.

How a new system uses them:

    caches = {"frames": TeacherCache.open("mel", kinds=("whisper-mel",))}
    corpus = read_rows(caches, held_out_share=0.01, seed=0, tokenizer=tokenizer)
    batches = RowBatches(corpus, clips_per_batch=64, seed=0, device=device)
    ahead = Ahead(batches.epoch, batches.per_epoch)
    batch = ahead.epoch(0)(0)
    frames = batch.rows("frames")    # values_NW [N, 80], lengths_B, sequence_N, offset_N, bands
    tokens = batch.tokens()          # a Packed: ids_N, and the same places
    bits_N = batch.bits("masks", "frames")   # 63 random bits per row, by clip and place alone

`encode_values(encoder, frames, projected_ND)` then attends inside each clip. Training takes
`Workload(epoch=ahead.epoch, held_out=batches.held_out, waited=ahead.waited, …)`.

Shapes: B clips of a batch, N places of one part of it, W width of a row.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from pipeline.corpus.draws import PLACES, random_bits
from pipeline.corpus.order import Order
from pipeline.corpus.row_corpus import TOKENS, RowCorpus
from pipeline.corpus.rows import Rows
from pipeline.models.lengths import Lengths, to_device
from pipeline.models.packing import Packed


@dataclass(frozen=True)
class RowBatch:
    """A process's share of one batch of clips.

    Attributes:
        clip_B: the whole batch's clips, by their number in the corpus.
        own_B: this process's clips, in the order of its parts.
        parts: what there is of this process's clips, by name.
        totals: places of each part over all processes, for means over the whole batch.
        name: seed, stream, epoch and step, which random draws of this batch are named by.
        processes: how many processes share the batch.
    """

    clip_B: Tensor
    own_B: Tensor
    parts: Mapping[str, Lengths]
    totals: Mapping[str, int]
    name: tuple[int | str, ...]
    processes: int = 1

    def rows(self, part: str) -> Rows:
        """The rows that a cache has of this process's clips."""
        return cast(Rows, self.parts[part])

    def tokens(self) -> Packed:
        """The tokens of this process's clips."""
        return cast(Packed, self.parts[TOKENS])

    def bits(self, what: str, part: str) -> Tensor:
        """64 random bits for each place of a part, whatever the batch or the share it is in.

        Args:
            what: what they are for; another name gives other bits.
            part: name of the part.
        """
        lengths = self.parts[part]
        number_N = self.own_B[lengths.sequence_N] * PLACES + lengths.offset_N
        return random_bits(number_N, *self.name, what)

    def to(self, device: torch.device) -> "RowBatch":
        """The same batch on a device."""
        if self.clip_B.device == device:
            return self
        return replace(
            self,
            clip_B=to_device(self.clip_B, device),
            own_B=to_device(self.own_B, device),
            parts={name: part.to(device) for name, part in self.parts.items()},
        )


@dataclass(frozen=True)
class RowBatches:
    """All batches of a run, each a function of its step.

    Args:
        corpus: the clips.
        clips_per_batch: B, over all processes together.
        seed: seed of the order of clips and of all draws.
        process: number of this process, which decides its share of each batch.
        processes: how many processes share a batch.
        device: the device that batches are moved to.
    """

    corpus: RowCorpus
    clips_per_batch: int
    seed: int
    process: int = 0
    processes: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def clips(self) -> Order:
        """Which clips each batch has."""
        return Order(
            self.corpus.train,
            self.corpus.held_out,
            self.clips_per_batch,
            self.seed,
            self.process,
            self.processes,
        )

    @property
    def per_epoch(self) -> int:
        """Batches per epoch; clips that fill no batch wait for the next epoch's order."""
        return self.clips.per_epoch

    def epoch(self, epoch: int) -> Callable[[int], RowBatch]:
        """The batches of an epoch: a function from a batch's place in the epoch to the batch."""
        clips_at = self.clips.epoch(epoch)
        return lambda place: self.make(clips_at(place), "train", epoch, place)

    def held_out(self) -> Iterator[RowBatch]:
        """The validation batches, which are always the same."""
        for index, clip_B in enumerate(self.clips.held_out_batches()):
            yield self.make(clip_B, "held out", 0, index)

    def make(self, clip_B: Tensor, stream: str, epoch: int, step: int) -> RowBatch:
        """The batch of some clips; this process reads its own share alone."""
        own_B = self.clips.own(clip_B)
        parts = self.corpus.parts
        batch = RowBatch(
            clip_B=clip_B,
            own_B=own_B,
            parts={name: part.of(own_B) for name, part in parts.items()},
            totals={name: int(part.lengths_of(clip_B).sum()) for name, part in parts.items()},
            name=(self.seed, stream, epoch, step),
            processes=self.processes,
        )
        return batch.to(self.device)
