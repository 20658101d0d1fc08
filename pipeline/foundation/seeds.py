"""Seeds: from the command line, and for every use of random numbers a source of its own."""

import hashlib
from typing import TYPE_CHECKING

from pipeline.foundation.errors import SpeechkdError

if TYPE_CHECKING:
    import torch

MOST_SEEDS = 10_000


def derive(*parts: int | str) -> int:
    """A seed of 63 bits from a run's seed and the names and numbers of what it is used for."""
    name = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1


def generator(seed: int, stream: str, epoch: int = 0, step: int = 0) -> "torch.Generator":
    """A fresh source of random numbers on the CPU that depends on its arguments only."""
    import torch

    return torch.Generator().manual_seed(derive(seed, stream, epoch, step))


def parse_seeds(text: str) -> list[int]:
    """Seeds from a text such as `0-4`, `7` or `0,2,5-7`; each once, in that order.

    Raises:
        SpeechkdError: it is not of that form.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not (low.isdecimal() and (high.isdecimal() if dash else not high)):
            raise SpeechkdError(f"--seeds is {text!r}; write 0-4, or 0,1,2, or both with commas.")
        if int(high or low) - int(low) >= MOST_SEEDS:
            raise SpeechkdError(f"--seeds {text!r} is over {MOST_SEEDS:,} seeds; name fewer.")
        seeds.update(dict.fromkeys(range(int(low), int(high or low) + 1)))
    if not seeds:
        raise SpeechkdError(f"--seeds is {text!r}, which is no seed at all; write 0-4, or 0,1,2.")
    return list(seeds)
