"""Which clips a step has: an epoch's order, the held-out batches, a process's share.

Shapes: C clips of the corpus, B clips of a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.corpus.draws import random_order


@dataclass(frozen=True)
class Order:
    """The clips of every batch, functions of seed, epoch and place alone.

    Args:
        train: clips to train on.
        held_out: clips for validation.
        clips_per_batch: B, over all processes together.
        seed: seed of the order of clips.
        process: number of this process, which decides its share of each batch.
        processes: how many processes share a batch.
    """

    train: Tensor
    held_out: Tensor
    clips_per_batch: int
    seed: int
    process: int = 0
    processes: int = 1

    @property
    def per_epoch(self) -> int:
        """Batches per epoch; clips that fill no batch wait for the next epoch's order."""
        return len(self.train) // self.clips_per_batch

    def of(self, epoch: int) -> Tensor:
        """The training clips in the order of an epoch."""
        return self.train[random_order(len(self.train), self.seed, "order", epoch)]

    def epoch(self, epoch: int) -> Callable[[int], Tensor]:
        """The batches of an epoch: a function from a batch's place in it to its clips `[B]`."""
        order, size = self.of(epoch), self.clips_per_batch
        return lambda place: order[place * size : (place + 1) * size]

    def held_out_batches(self) -> list[Tensor]:
        """The clips of each validation batch, which are always the same.

        A last partial batch is left out. If it is the only one, it is used if every process gets a
        clip of it.
        """
        clips, size = self.held_out, self.clips_per_batch
        parts = list(torch.split(clips, size)) if len(clips) >= self.processes else []
        return parts[:-1] if len(parts) > 1 and len(parts[-1]) < size else parts

    def own(self, clip_B: Tensor) -> Tensor:
        """This process's share of a batch: its own clip out of every `processes` clips."""
        return clip_B[self.process :: self.processes]
