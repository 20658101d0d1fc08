"""Random numbers without a generator: each follows from what it is for, by integers alone.

A generator's numbers depend on its device, and on how many were drawn from it before. These
depend on their names and counter: the same bits on every device and processor, with any version
of torch, wherever the corpus lies and however many processes share a batch.

Dropout is not drawn so. It is part of torch's own kernels, whose generator is the device's.
"""

import torch
from torch import Tensor

from pipeline.foundation.seeds import derive

DRAWS = 2
"""Which draws a run's batches come from. It rises when the same seed gives other clips, masks or
negatives. 1 was torch's generators on the device of the corpus."""
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


def mixed(state: Tensor) -> Tensor:
    """SplitMix64 of whole numbers (Steele, Lea and Flood 2014), int64 for the same unsigned bits.

    torch's int64 wraps around where the original's unsigned numbers do.
    """
    state = state * -7046029254386353131  # 0x9E3779B97F4A7C15, the golden ratio's odd number
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        state = (state ^ shifted(state, shift)) * factor
    return state ^ shifted(state, 31)


def shifted(state: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift fills with the sign."""
    return (state >> by) & ((1 << (64 - by)) - 1)
