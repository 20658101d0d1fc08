"""Mean and spread of vectors, a shard at a time, and merged over shards.

Shape suffixes: D a dimension of the vectors, K the vectors that a shard keeps.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STORED = np.dtype("<f8")


@dataclass(frozen=True)
class ShardStatistics:
    """Mean of a shard's vectors, and their sum of squared deviations from it, `[d_model]`."""

    mean_D: NDArray[np.float64]
    m2_D: NDArray[np.float64]

    @classmethod
    def of(cls, kept_KD: NDArray[np.float64]) -> "ShardStatistics":
        """Those of these vectors; zeros where there is none."""
        mean_D = kept_KD.mean(axis=0) if len(kept_KD) else np.zeros(kept_KD.shape[1])
        return cls(mean_D, ((kept_KD - mean_D) ** 2).sum(axis=0))

    def record(self) -> dict[str, str]:
        """As a receipt holds them, every bit: little-endian float64 in base64."""
        return {"mean": _text(self.mean_D), "m2": _text(self.m2_D)}

    @classmethod
    def from_record(cls, record: Mapping[str, str], d_model: int) -> "ShardStatistics":
        """What `record` gave.

        Raises:
            ValueError: it is not that, or not of this width.
            KeyError: a part is missing.
        """
        return cls(_array(record["mean"], d_model), _array(record["m2"], d_model))

    def close_to(self, other: "ShardStatistics") -> bool:
        """Whether both are those of the same vectors, but for rounding."""
        return np.allclose(self.mean_D, other.mean_D) and np.allclose(self.m2_D, other.m2_D)


@dataclass(frozen=True)
class Statistics:
    """Count, mean and standard deviation a dimension of the vectors of a cache, float64."""

    count: int
    mean_D: NDArray[np.float64]
    std_D: NDArray[np.float64]


def merge(shards: Iterable[tuple[int, ShardStatistics]], d_model: int) -> Statistics:
    """The statistics of all vectors from those of shards, given with their numbers of vectors.

    Merged in the order given, by the pairwise rule of Chan, Golub and LeVeque (1979).
    """
    count, mean_D, m2_D = 0, np.zeros(d_model), np.zeros(d_model)
    for added, shard in shards:
        if added:
            shift_D = shard.mean_D - mean_D
            total = count + added
            mean_D = mean_D + shift_D * (added / total)
            m2_D = m2_D + shard.m2_D + shift_D**2 * (count * added / total)
            count = total
    return Statistics(count, mean_D, np.sqrt(m2_D / max(count, 1)))


def _text(values_D: NDArray[np.float64]) -> str:
    return base64.b64encode(values_D.astype(STORED).tobytes()).decode()


def _array(text: str, d_model: int) -> NDArray[np.float64]:
    values_D = np.frombuffer(base64.b64decode(text, validate=True), STORED).astype(np.float64)
    if values_D.shape != (d_model,):
        raise ValueError(f"{len(values_D)} values, not {d_model}")
    return values_D
