"""The teacher's vectors as training sees them: a clip's own, another's, or noise.

Shapes: B clips of a batch, C clips of the corpus, S stored vectors, E width of the teacher.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.cache.statistics import Statistics
from pipeline.foundation.seeds import derive, generator
from pipeline.foundation.splitmix import mixed, shifted
from pipeline.models.lengths import to_device

CPU = torch.device("cpu")
Control = Literal["real", "shuffled", "random"]


@dataclass(frozen=True)
class Vectors:
    """Teacher vectors by clip.

    Attributes:
        stored_SE: the vectors as cached, wherever they are: on a device, in memory, in a file.
        place_C: which stored vector belongs to each clip; in this machine's memory, or mapped.
        statistics: mean and spread of all vectors.
        device: where vectors are wanted.
        noise_seed: seed of the control `random`, which stores nothing.
        common: what stored vectors `[B]` have in common with others of their group, float32
            `[B, E]`, which is taken away; None for nothing.
    """

    stored_SE: Tensor
    place_C: Tensor
    statistics: Statistics
    device: torch.device = CPU
    noise_seed: int | None = None
    common: Callable[[Tensor], Tensor] | None = None

    @property
    def width(self) -> int:
        """E, the width of the teacher."""
        return self.stored_SE.shape[1]

    def of(self, clip_B: Tensor) -> Tensor:
        """Vectors `[B, E]` on the device, which is not waited for, of clips `[B]` of the host."""
        place_B, stored = self.place_C[clip_B], self.stored_SE
        if self.noise_seed is not None:
            noise_BE = normal(to_device(place_B, self.device), self.width, self.noise_seed)
            mean_E, std_E = self._mean_and_spread
            return (noise_BE * std_E + mean_E).to(stored.dtype)
        if self.common is not None:
            own_BE = stored[to_device(place_B, stored.device)].to(self.device, torch.float32)
            return own_BE - to_device(self.common(place_B), self.device)
        if stored.device.type != "cpu":
            return stored[to_device(place_B, stored.device)]
        # gathered into pinned memory, because a copy from there need not be waited for
        pinned = self.device.type == "cuda"
        vectors_BE = torch.empty(len(place_B), self.width, dtype=stored.dtype, pin_memory=pinned)
        torch.index_select(stored, 0, place_B, out=vectors_BE)
        return vectors_BE.to(self.device, non_blocking=pinned)

    @cached_property
    def _mean_and_spread(self) -> tuple[Tensor, Tensor]:
        mean_E, std_E = (
            torch.from_numpy(values_E).to(self.device, torch.float32)
            for values_E in (self.statistics.mean_E, self.statistics.std_E)
        )
        return mean_E, std_E


def without_vectors(place_C: Tensor, device: torch.device = CPU) -> Vectors:
    """Vectors of width 0, for masked-LM training alone."""
    none_E = np.zeros(0)
    nothing_SE = torch.zeros(1, 0)
    return Vectors(nothing_SE, torch.zeros_like(place_C), Statistics(0, none_E, none_E), device)


def apply_control(vectors: Vectors, control: Control, seed: int) -> Vectors:
    """Replace vectors by a control's: other clips' vectors, or noise of equal mean and spread.

    `real` returns the vectors unchanged.
    """
    if control == "random":
        return replace(
            vectors, stored_SE=vectors.stored_SE[:0], noise_seed=derive(seed, "control random")
        )
    if control == "shuffled":
        # a random order rolled by one is one cycle through all clips: none keeps its own vector
        clips = len(vectors.place_C)
        order = torch.randperm(clips, generator=generator(seed, "control shuffled"))
        place_C = torch.empty_like(vectors.place_C)
        place_C[order] = vectors.place_C[order.roll(1)]
        return replace(vectors, place_C=place_C)
    return vectors


def normal(number_B: Tensor, width: int, seed: int) -> Tensor:
    """Standard normal noise `[B, E]`, float32, a function of number, column and seed alone.

    Nothing is stored, so it takes no memory whatever the size of the cache. SplitMix64 (Steele, Lea
    and Flood 2014) of number and column gives the bits, the Box-Muller transform the values.
    """
    column_E = torch.arange(width, device=number_B.device)
    bits_BE = mixed((number_B[:, None] * width + column_E) + seed)
    high_BE, low_BE = shifted(bits_BE, 32), bits_BE & 0xFFFFFFFF
    radius_BE = (-2 * ((high_BE.double() + 0.5) / 2**32).log()).sqrt()
    return (radius_BE * (low_BE.double() * (2 * math.pi / 2**32)).cos()).float()
