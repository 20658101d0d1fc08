"""The teacher's vectors as training sees them: a clip's own, another's, or noise.

Shapes: B clips of a batch, C clips of the corpus, S stored vectors, E width of the teacher.
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
        stored_SE: the vectors as cached, wherever they are: on a device, in memory, in a file.
        place_C: which stored vector belongs to each clip; on the device that batches are made on.
        statistics: mean and spread of all vectors.
        noise_seed: seed of the control `random`, which stores nothing.
    """

    stored_SE: Tensor
    place_C: Tensor
    statistics: Statistics
    noise_seed: int | None = None

    @property
    def width(self) -> int:
        """E, the width of the teacher."""
        return self.stored_SE.shape[1]

    def of(self, clip_B: Tensor) -> Tensor:
        """Vectors `[B, E]` of some clips, on the device of `clip_B`."""
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
        # gathered into pinned memory, because a copy from there need not be waited for
        vectors_BE = torch.empty(
            len(place_B), self.width, dtype=stored.dtype, pin_memory=place_B.is_cuda
        )
        torch.index_select(stored, 0, place_B.to(stored.device), out=vectors_BE)
        return vectors_BE.to(place_B.device, non_blocking=True)


def without_vectors(place_C: Tensor) -> Vectors:
    """Vectors of width 0, for masked-LM training alone."""
    none_E = np.zeros(0)
    stored_SE = torch.zeros(1, 0, device=place_C.device)
    return Vectors(stored_SE, torch.zeros_like(place_C), Statistics(0, none_E, none_E))


def apply_control(vectors: Vectors, control: Control, seed: int) -> Vectors:
    """Replace vectors by a control's: other clips' vectors, or noise of equal mean and spread.

    `real` returns the vectors unchanged.
    """
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

    Nothing is stored, so it takes no memory whatever the size of the cache. SplitMix64 (Steele, Lea
    and Flood 2014) of number and column gives the bits, the Box-Muller transform the values.
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
    """Shift right and fill with zeros; torch's own shift fills with the sign."""
    return (state >> by) & ((1 << (64 - by)) - 1)
