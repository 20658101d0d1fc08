"""Mean and spread of the teacher's vectors: per shard, and merged over shards.

Shape suffixes: E the teacher's width, K the vectors of a shard, refused samples left out.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STORED = np.dtype("<f8")


@dataclass(frozen=True)
class ShardStatistics:
    """Mean of a shard's vectors and their sum of squared deviations from it, per dimension."""

    mean_E: NDArray[np.float64]
    m2_E: NDArray[np.float64]

    @classmethod
    def of(cls, kept_KE: NDArray[np.float64]) -> "ShardStatistics":
        """The statistics of these vectors; zeros if there are none."""
        mean_E = kept_KE.mean(axis=0) if len(kept_KE) else np.zeros(kept_KE.shape[1])
        return cls(mean_E, ((kept_KE - mean_E) ** 2).sum(axis=0))

    def record(self) -> dict[str, str]:
        """The form that a receipt holds, exact to the bit: little-endian float64 in base64."""
        return {"mean": _text(self.mean_E), "m2": _text(self.m2_E)}

    @classmethod
    def from_record(cls, record: Mapping[str, str], d_model: int) -> "ShardStatistics":
        """Read what `record` returned.

        Raises:
            ValueError: the record is something else, or of another width.
            KeyError: a part is missing.
        """
        return cls(_array(record["mean"], d_model), _array(record["m2"], d_model))

    def close_to(self, other: "ShardStatistics") -> bool:
        """Whether both describe the same vectors, up to rounding."""
        return np.allclose(self.mean_E, other.mean_E) and np.allclose(self.m2_E, other.m2_E)


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of a cache's vectors, per dimension, for both stages.

    Attributes:
        count: number of vectors.
        mean_E: their mean, float64.
        std_E: their standard deviation (divided by the count, not by one less), float64.
    """

    count: int
    mean_E: NDArray[np.float64]
    std_E: NDArray[np.float64]


def merge(shards: Iterable[tuple[int, ShardStatistics]], d_model: int) -> Statistics:
    """Merge the statistics of shards into those of all their vectors.

    Args:
        shards: number of vectors and statistics of each shard. They are merged in this order, by
            the pairwise rule of Chan, Golub and LeVeque (1979).
        d_model: the teacher's width E.
    """
    count, mean_E, m2_E = 0, np.zeros(d_model), np.zeros(d_model)
    for added, shard in shards:
        if added:
            shift_E = shard.mean_E - mean_E
            total = count + added
            mean_E = mean_E + shift_E * (added / total)
            m2_E = m2_E + shard.m2_E + shift_E**2 * (count * added / total)
            count = total
    return Statistics(count, mean_E, np.sqrt(m2_E / max(count, 1)))


def _text(values_E: NDArray[np.float64]) -> str:
    return base64.b64encode(values_E.astype(STORED).tobytes()).decode()


def _array(text: str, d_model: int) -> NDArray[np.float64]:
    values_E = np.frombuffer(base64.b64decode(text, validate=True), STORED).astype(np.float64)
    if values_E.shape != (d_model,):
        raise ValueError(f"{len(values_E)} values, not {d_model}")
    return values_E
