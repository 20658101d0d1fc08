"""Random numbers without a generator: each follows from what it is for, by integers alone.

A generator's numbers depend on its device, and on how many were drawn from it before. These
depend on their names and counter: the same bits on every device and processor, with any version
of torch, wherever the corpus lies and however many processes share a batch.

Dropout of hidden states is drawn alike (`pipeline.models.dropout`).
"""

import torch
from torch import Tensor

from pipeline.foundation.seeds import derive
from pipeline.foundation.splitmix import mixed, shifted

DRAWS = 3
"""Which draws a run's steps come from. It rises when the same seed gives other clips, masks,
negatives or dropout. 1 was torch's generators on the device of the corpus, 2 had torch's dropout.
"""
PLACES = 2**20
"""More tokens than any clip has: clip × PLACES + place numbers the tokens of a corpus."""


def random_bits(counter: Tensor, *name: int | str) -> Tensor:
    """64 random bits per counter, as int64; different counters have different bits.

    `SplitMix64(counter + derive(*name))`. Each of its steps can be undone, so no two counters
    collide, and the order of the bits is a random order without ties.

    Args:
        counter: whose bits they are, int64, of any shape.
        name: seed, stream, epoch, step: what they are for.
    """
    return mixed(counter + derive(*name))


def below(bits: Tensor, limit: int) -> Tensor:
    """Random whole numbers from 0 to `limit - 1`, from the upper 63 bits."""
    return shifted(bits, 1) % limit


def random_order(count: int, *name: int | str) -> Tensor:
    """The numbers from 0 to `count - 1` in a random order."""
    return random_bits(torch.arange(count), *name).argsort()
