"""Where the rows of a shard go while it is being encoded: into the cache, batch by batch.

Shapes: B clips of a batch, N samples of a shard, E width.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import ShardResult, write_vectors
from pipeline.cache.writing import ShardWriter, Written
from pipeline.extraction.batches import ShardEnd
from pipeline.extraction.rows import Rows
from pipeline.foundation.errors import KEPT, SpeechkdError
from pipeline.foundation.units import Seconds
from pipeline.shards.refusals import Reason, Refusal


@dataclass
class RowBatch:
    """Rows of clips of one shard, in its order; in this machine's memory when they are put."""

    index: int
    """Number of the shard."""
    positions: list[int]
    rows: Rows
    audio_seconds: Seconds


class SequenceOutput:
    """Writes several rows per clip as they come; holds one storage object."""

    def __init__(self, cache: TeacherCache, index: int) -> None:
        self._writer = ShardWriter(cache, index)

    def put(self, batch: RowBatch) -> None:
        """Write the rows of a batch."""
        rows = batch.rows
        self._writer.append(
            batch.positions,
            rows.rows_NE.numpy(),
            rows.counts,
            records=rows.records,
            refused=rows.refused,
            ids_N=rows.ids_N,
        )

    def finish(self, end: ShardEnd, versions: Mapping[str, str]) -> Written:
        """Write the samples and the receipt."""
        return self._writer.finish(
            end.samples, end.refused, end.input_sha256, end.input_bytes, versions
        )


class VectorOutput:
    """Collects one row per clip, and writes all at the end of the shard."""

    def __init__(self, cache: TeacherCache, index: int) -> None:
        self._cache = cache
        # Allocated before the shard is encoded. Results kept one by one would each occupy a hole
        # in the heap where a batch's activations were, and memory would grow with the shard.
        count = cache.manifest.shards[index].samples
        self._vectors_NE = np.full((count, cache.identity.width), np.nan, np.float32)
        self._refused: dict[int, tuple[Reason, str]] = {}

    def put(self, batch: RowBatch) -> None:
        """Take the vectors of a batch."""
        rows = batch.rows
        written = [p for p, count in zip(batch.positions, rows.counts, strict=True) if count]
        self._vectors_NE[written] = rows.rows_NE.numpy()
        self._refused |= {batch.positions[place]: why for place, why in rows.refused.items()}

    def finish(self, end: ShardEnd, versions: Mapping[str, str]) -> Written:
        """Write vectors, samples and receipt."""
        samples, refused = _without_vector(
            self._vectors_NE, end, self._cache.identity.dtype, self._refused
        )
        result = ShardResult(self._vectors_NE, samples, refused, end.input_sha256, end.input_bytes)
        write_vectors(self._cache, end.index, result, versions)
        return Written(len(samples), refused, sound=True)


class ShardOutput:
    """The output of one shard, whatever the kind of its cache, and the time that it has taken."""

    def __init__(self, cache: TeacherCache, index: int) -> None:
        self._cache = cache
        kind = SequenceOutput if cache.identity.is_sequence else VectorOutput
        self._output = kind(cache, index)
        self.begun = time.perf_counter()
        self.write_seconds: Seconds = 0.0

    def put(self, batch: RowBatch) -> None:
        """Write the rows of a batch, or keep them to be written.

        Raises:
            SpeechkdError: the cache cannot be written.
        """
        self._timed(lambda: self._output.put(batch))

    def finish(self, end: ShardEnd, versions: Mapping[str, str]) -> Written:
        """Write what is left, and the receipt.

        Raises:
            SpeechkdError: the cache cannot be written.
        """
        written: Written = self._timed(lambda: self._output.finish(end, versions))
        return written

    def _timed(self, call: Any) -> Any:
        start = time.perf_counter()
        try:
            return call()
        except OSError as error:
            raise SpeechkdError(
                f"{self._cache.location} cannot be written: {error}. Make room there or repair "
                f"it. {KEPT}"
            ) from error
        finally:
            self.write_seconds += time.perf_counter() - start


def torch_dtype(cache: TeacherCache) -> torch.dtype:
    """The dtype in which rows leave the device: half the bytes where the cache has no more."""
    half = cache.identity.is_sequence and cache.identity.dtype == "float16"
    return torch.float16 if half else torch.float32


def _without_vector(
    vectors_NE: "np.ndarray[Any, np.dtype[np.float32]]",
    end: ShardEnd,
    dtype: str,
    why: Mapping[int, tuple[Reason, str]],
) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """Samples whose vectors are finite as stored, and refusals, those of the others included."""
    with np.errstate(over="ignore"):
        finite_N = np.isfinite(vectors_NE.astype(dtype)).all(axis=1)
    detail = f"the teacher's output is not finite as {dtype}; is the audio far too loud?"
    without = []
    for sample in end.samples:
        position = sample["position"]
        if not finite_N[position]:
            reason, fault = why.get(position, (Reason.NON_FINITE_VECTOR, detail))
            without.append(Refusal(reason, fault, sample["key"], position))
    samples = [sample for sample in end.samples if finite_N[sample["position"]]]
    return samples, sorted([*end.refused, *without], key=lambda refusal: refusal.position or 0)
