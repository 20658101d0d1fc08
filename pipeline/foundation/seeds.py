"""Random numbers that depend on what they are for and on nothing else."""

import hashlib

import torch


def derive(*parts: int | str) -> int:
    """A seed of 63 bits from a run's seed and the names and numbers of what it is used for."""
    name = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1


def generator(
    seed: int, stream: str, epoch: int = 0, step: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh source of random numbers that depends on its arguments only."""
    return torch.Generator(device).manual_seed(derive(seed, stream, epoch, step))
