"""The teacher's vectors as training sees them: a clip's own, another's, or noise.

Shapes: B clips asked for, C clips of the corpus, S stored vectors, E width of the teacher.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.cache.statistics import Statistics
from pipeline.foundation.seeds import derive, generator

Control = Literal["real", "shuffled", "random"]


@dataclass(frozen=True)
class Vectors:
    """Teacher vectors by clip.

    Attributes:
        stored_SE: as the cache has them, wherever they are: on a device, in memory, in a file.
        place_C: which of them belongs to each clip; where clips are asked for.
        statistics: of all of them.
        noise_seed: for the control `random`, which has nothing stored.
    """

    stored_SE: Tensor
    place_C: Tensor
    statistics: Statistics
    noise_seed: int | None = None

    @property
    def width(self) -> int:
        """E."""
        return self.stored_SE.shape[1]

    def of(self, clip_B: Tensor) -> Tensor:
        """Vectors `[B, E]` of some clips, on the device of their numbers."""
        place_B, stored = self.place_C[clip_B], self.stored_SE
        if self.noise_seed is not None:
            noise_BE = normal(place_B, self.width, self.noise_seed)
            mean_E, std_E = (
                torch.from_numpy(values_E).to(noise_BE)
                for values_E in (self.statistics.mean_E, self.statistics.std_E)
            )
            return (noise_BE * std_E + mean_E).to(stored.dtype)
        if stored.device == place_B.device:
            return stored[place_B]
        # gathered into pinned memory, from which the copy need not be waited for
        found_BE = torch.empty(
            len(place_B), self.width, dtype=stored.dtype, pin_memory=place_B.is_cuda
        )
        torch.index_select(stored, 0, place_B.to(stored.device), out=found_BE)
        return found_BE.to(place_B.device, non_blocking=True)


def without_vectors(place_C: Tensor) -> Vectors:
    """For masked-LM training alone: every vector has width 0."""
    none_E = np.zeros(0)
    stored_SE = torch.zeros(1, 0, device=place_C.device)
    return Vectors(stored_SE, torch.zeros_like(place_C), Statistics(0, none_E, none_E))


def controlled(vectors: Vectors, control: Control, seed: int) -> Vectors:
    """The same for a control: other clips' vectors, or noise of the same mean and spread."""
    if control == "random":
        empty_SE = vectors.stored_SE[:0].to(vectors.place_C.device)
        return Vectors(
            empty_SE, vectors.place_C, vectors.statistics, derive(seed, "control random")
        )
    if control == "shuffled":
        # a random order rolled by one is one cycle through all clips: none keeps its own vector
        clips = len(vectors.place_C)
        order = torch.randperm(clips, generator=generator(seed, "control shuffled"))
        order = order.to(vectors.place_C.device)
        place_C = torch.empty_like(vectors.place_C)
        place_C[order] = vectors.place_C[order.roll(1)]
        return Vectors(vectors.stored_SE, place_C, vectors.statistics)
    return vectors


def normal(number_B: Tensor, width: int, seed: int) -> Tensor:
    """Standard normal noise `[B, E]`, float32, a function of number, column and seed alone.

    Nothing is kept, so it costs no memory whatever the size of the cache. SplitMix64 (Steele, Lea
    and Flood 2014) of the place gives the bits, the Box-Muller transform the numbers.
    """
    column_E = torch.arange(width, device=number_B.device)
    bits_BE = _mixed((number_B[:, None] * width + column_E) + seed)
    high_BE, low_BE = (bits_BE >> 32) & 0xFFFFFFFF, bits_BE & 0xFFFFFFFF
    radius_BE = (-2 * ((high_BE.double() + 0.5) / 2**32).log()).sqrt()
    return (radius_BE * (low_BE.double() * (2 * math.pi / 2**32)).cos()).float()


def _mixed(state: Tensor) -> Tensor:
    state = state * -7046029254386353131  # 0x9E3779B97F4A7C15, the golden ratio's odd number
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        state = (state ^ _shifted(state, shift)) * factor
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, by: int) -> Tensor:
    """Right by so many bits, zeros coming in: torch's own shift brings in the sign."""
    return (state >> by) & ((1 << (64 - by)) - 1)
