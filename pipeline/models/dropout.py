"""Dropout of hidden states that is the same on every device and for any number of processes.

torch draws dropout from its device's generator, so a CPU and a GPU drop other values, and so do one
process and two. Here a value's fate follows from its token, its place in the network and the step,
by integers alone, as clips, masks and negatives do (`pipeline.corpus.draws`).

Dropout inside attention stays torch's, because it is part of fused kernels. Presets have none.

Shapes: N tokens, K tokens that a last layer keeps, D width, P places of the network that drop,
Q = D / 4.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.foundation.splitmix import mixed

LANE_BITS = 16
LANES = 64 // LANE_BITS
"""Values that share one draw of 64 bits; each has 16, so a share is exact to 1 in 65,536."""
TOKENS_AT_ONCE = 256


@dataclass
class Draws:
    """What the next forward pass drops; shared by all dropout modules of an encoder.

    Attributes:
        places: P, how many modules there are.
        keys_PN: 64 random bits per place and token, int64; None while nothing has been drawn.
        kept_K: which tokens the last layer keeps, where it computes no others; None for all.
    """

    places: int
    keys_PN: Tensor | None = None
    kept_K: Tensor | None = None

    def begin(self, number_N: Tensor, key: Tensor) -> None:
        """Draw for one forward pass.

        Args:
            number_N: a number of each token that no other one has, int64.
            key: int64 `[]`, which names seed, step and pass.
        """
        place_P1 = torch.arange(1, self.places + 1, device=number_N.device)[:, None]
        self.keys_PN = mixed(mixed(number_N + key) + place_P1)

    def pad(self, tokens: int) -> None:
        """Make room for padding tokens at the end of the packing, up to a number of tokens."""
        if self.keys_PN is not None:
            self.keys_PN = functional.pad(self.keys_PN, (0, tokens - self.keys_PN.shape[1]))

    def keys_of(self, place: int, tokens: int) -> Tensor | None:
        """The keys of a place, for as many states as it sees; None if nothing numbers these.

        Args:
            place: of a dropout module.
            tokens: how many states it sees: those of all tokens, or of the kept ones.
        """
        if self.keys_PN is None:
            return None
        if tokens == self.keys_PN.shape[1]:
            return self.keys_PN[place]
        if self.kept_K is not None and tokens == len(self.kept_K):
            return self.keys_PN[place, self.kept_K]
        return None


class HashedDropout(nn.Module):
    """Drops values of hidden states `[…, D]` by integer hashes.

    Args:
        p: share of values that become zero; the others grow by 1 / (1 - p).
        place: number of this module within its encoder.
        draws: the draws of the current pass.
    """

    def __init__(self, p: float, place: int, draws: Draws) -> None:
        super().__init__()
        self.p, self.place, self.draws = p, place, draws
        self._dropped = round(p * 2**LANE_BITS)

    def forward(self, states: Tensor) -> Tensor:
        """The states with a share of their values dropped; as they are in evaluation."""
        if not self.training or self._dropped == 0:
            return states
        key_N = self.draws.keys_of(self.place, states.shape[:-1].numel())
        if key_N is None:  # not the packed tokens of a training step
            return functional.dropout(states, self.p)
        bits = lanes(key_N, states.shape[-1]).view(states.shape)
        dropped = bits < self._dropped - 2 ** (LANE_BITS - 1)
        thinned: Tensor = states.masked_fill(dropped, 0) * (1 / (1 - self._dropped / 2**LANE_BITS))
        return thinned

    def extra_repr(self) -> str:
        """The share, as torch's own module prints it."""
        return f"p={self.p}"


def lanes(key_N: Tensor, width: int) -> Tensor:
    """Random int16 `[N, D]` from 64 random bits per token, four from each draw of 64 bits."""
    number_Q = torch.arange(math.ceil(width / LANES), device=key_N.device)
    if key_N.device.type != "cpu" or torch.compiler.is_compiling():
        bits_NQ = mixed(key_N[:, None] + number_Q)
    else:  # in pieces that stay in the processor's cache
        bits_NQ = key_N.new_empty(len(key_N), len(number_Q))
        for start in range(0, len(key_N), TOKENS_AT_ONCE):
            piece = slice(start, start + TOKENS_AT_ONCE)
            bits_NQ[piece] = mixed(key_N[piece, None] + number_Q)
    return bits_NQ.view(torch.int16)[:, :width]


def draws_of(encoder: nn.Module) -> Draws | None:
    """The draws that `hash_dropout` gave an encoder, if it did."""
    found = (m.draws for m in encoder.modules() if isinstance(m, HashedDropout))
    return next(found, None)


def hash_dropout(encoder: nn.Module) -> Draws:
    """Replace every `nn.Dropout` of an encoder; the result decides what the next pass drops.

    An encoder that drops by calling torch's function itself keeps that.
    """
    modules = [
        (parent, name, child.p)
        for parent in encoder.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Dropout
    ]
    draws = Draws(len(modules))
    for place, (parent, name, p) in enumerate(modules):
        setattr(parent, name, HashedDropout(p, place, draws))
    return draws
