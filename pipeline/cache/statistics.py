"""Mean and spread of a cache's rows: per shard, and merged over shards.

Shape suffixes: E width, K the rows of a shard, refused samples left out.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

STORED = np.dtype("<f8")
BLOCK_VALUES = 2**15  # 256 kB


@dataclass(frozen=True)
class ShardStatistics:
    """Mean of a shard's rows and their sum of squared deviations from it, per dimension."""

    mean_E: NDArray[np.float64]
    m2_E: NDArray[np.float64]

    @classmethod
    def of(cls, kept_KE: NDArray[np.float64]) -> "ShardStatistics":
        """The statistics of these rows; zeros if there are none."""
        mean_E = kept_KE.mean(axis=0) if len(kept_KE) else np.zeros(kept_KE.shape[1])
        return cls(mean_E, ((kept_KE - mean_E) ** 2).sum(axis=0))

    def record(self) -> dict[str, str]:
        """The form that a receipt holds, exact to the bit: little-endian float64 in base64."""
        return {"mean": _text(self.mean_E), "m2": _text(self.m2_E)}

    @classmethod
    def from_record(cls, record: Mapping[str, str], width: int) -> "ShardStatistics":
        """Read what `record` returned.

        Raises:
            ValueError: the record is something else, or of another width.
            KeyError: a part is missing.
        """
        return cls(_array(record["mean"], width), _array(record["m2"], width))

    def close_to(self, other: "ShardStatistics") -> bool:
        """Whether both describe the same vectors, up to rounding."""
        return np.allclose(self.mean_E, other.mean_E) and np.allclose(self.m2_E, other.m2_E)


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of a cache's rows, per dimension, for both stages.

    Attributes:
        count: number of rows.
        mean_E: their mean, float64.
        std_E: their standard deviation (divided by the count, not by one less), float64.
    """

    count: int
    mean_E: NDArray[np.float64]
    std_E: NDArray[np.float64]


class Running:
    """Statistics of rows that come in parts.

    Parts are merged in the order in which they are added, by the pairwise rule of Chan, Golub and
    LeVeque (1979).
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean_E: NDArray[np.float64] = np.zeros(width)
        self.m2_E: NDArray[np.float64] = np.zeros(width)

    def add(self, added: int, part: ShardStatistics) -> None:
        """Add the statistics of `added` more rows."""
        if added:
            shift_E = part.mean_E - self.mean_E
            total = self.count + added
            self.mean_E = self.mean_E + shift_E * (added / total)
            self.m2_E = self.m2_E + part.m2_E + shift_E**2 * (self.count * added / total)
            self.count = total

    def so_far(self) -> ShardStatistics:
        """Statistics of all rows added."""
        return ShardStatistics(self.mean_E, self.m2_E)


class InBlocks:
    """Statistics of rows that come in parts of any size.

    They are taken in blocks of a fixed number of rows, so that their last bits do not depend on
    the parts, and so small that a block stays in the processor's cache.
    """

    def __init__(self, width: int) -> None:
        self._running, self._filled = Running(width), 0
        self._block_RE: NDArray[np.float64] = np.empty((max(1, BLOCK_VALUES // width), width))

    def add(self, values_NE: NDArray[Any]) -> None:
        """Add rows."""
        if values_NE.dtype == np.float16:  # torch uses the processor's own instruction
            values_NE = torch.from_numpy(np.ascontiguousarray(values_NE)).float().numpy()
        first, size = 0, len(self._block_RE)
        while first < len(values_NE):
            part_NE = values_NE[first : first + size - self._filled]
            self._block_RE[self._filled : self._filled + len(part_NE)] = part_NE
            self._filled += len(part_NE)
            first += len(part_NE)
            if self._filled == size:
                self._flush()

    def so_far(self) -> ShardStatistics:
        """Statistics of all rows added; no more may be added after it."""
        self._flush()
        return self._running.so_far()

    def _flush(self) -> None:
        rows_RE = self._block_RE[: self._filled]
        if self._filled:
            mean_E = rows_RE.mean(axis=0)
            np.subtract(rows_RE, mean_E, out=rows_RE)
            np.square(rows_RE, out=rows_RE)
            self._running.add(self._filled, ShardStatistics(mean_E, rows_RE.sum(axis=0)))
        self._filled = 0


def merge(shards: Iterable[tuple[int, ShardStatistics]], width: int) -> Statistics:
    """Merge the statistics of shards, in this order, into those of all their rows.

    Args:
        shards: number of rows and statistics of each shard.
        width: the width E of a row.
    """
    running = Running(width)
    for added, shard in shards:
        running.add(added, shard)
    std_E = np.sqrt(running.m2_E / max(running.count, 1))
    return Statistics(running.count, running.mean_E, std_E)


def _text(values_E: NDArray[np.float64]) -> str:
    return base64.b64encode(values_E.astype(STORED).tobytes()).decode()


def _array(text: str, width: int) -> NDArray[np.float64]:
    values_E = np.frombuffer(base64.b64decode(text, validate=True), STORED).astype(np.float64)
    if values_E.shape != (width,):
        raise ValueError(f"{len(values_E)} values, not {width}")
    return values_E
