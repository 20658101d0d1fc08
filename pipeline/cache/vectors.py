"""Caches of vectors, one row per clip: their shards are written whole, and looked up by key.

Shape suffixes: N samples of a shard, R rows that a shard owns, n clips that are looked up, E width.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.samples import keys_sha256, sample_lines, vectors_sha256
from pipeline.cache.statistics import ShardStatistics
from pipeline.cache.store import TeacherCache
from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.refusals import Refusal

WRITE_ATTEMPTS = 5


@dataclass
class ShardResult:
    """What stage one computed from one tar shard.

    Attributes:
        vectors_NE: float32, one row per sample of the tar, in its order; NaN for a refused one.
        samples: per sample with a vector: position, key, text, duration_s, speaker, recording.
        refused: per other sample, a refusal with its position.
        input_sha256: digest of the tar as it was read.
        input_bytes: size of the tar as it was read.
    """

    vectors_NE: NDArray[np.float32]
    samples: list[dict[str, Any]]
    refused: list[Refusal]
    input_sha256: str
    input_bytes: int


def write_vectors(
    cache: TeacherCache, shard: int, result: ShardResult, versions: Mapping[str, str]
) -> None:
    """Store a shard's vectors and samples, then its receipt.

    Raises:
        ValueError: the result does not account for every sample of the shard, or a vector is
            not finite in the cache's dtype.
        SpeechkdError: the storage returns something else than was written.
    """
    count = cache.manifest.shards[shard].samples
    refused = [refusal.record() for refusal in result.refused]
    positions = [s["position"] for s in (*result.samples, *refused)]
    if sorted(positions) != list(range(count)) or len(result.vectors_NE) != count:
        raise ValueError(f"shard {shard}: {len(positions)} of {count} samples accounted for")
    rows = cache.rows_of(shard)
    block_RE = np.full((len(rows), cache.identity.width), np.nan, cache.identity.dtype)
    written = [s["position"] for s in result.samples]
    with np.errstate(over="ignore"):  # an overflow shows as infinity, checked next
        block_RE[written] = result.vectors_NE[written]
    if not np.isfinite(block_RE[written]).all():
        raise ValueError(f"shard {shard}: a vector is not finite as {block_RE.dtype}")

    lines = sample_lines(result.samples, rows.start)
    receipt = {
        "shard": shard,
        "url": cache.manifest.shards[shard].url,
        "input_sha256": result.input_sha256,
        "input_bytes": result.input_bytes,
        "samples": count,
        "written": len(written),
        "audio_seconds": round(sum(s["duration_s"] for s in result.samples), 6),
        "refused": refused,
        "keys_sha256": keys_sha256(s["key"] for s in result.samples),
        "samples_sha256": hashlib.sha256(lines).hexdigest(),
        "vectors_sha256": vectors_sha256(block_RE),
        "statistics": ShardStatistics.of(block_RE[written].astype(np.float64)).record(),
        "settings_sha256": cache.settings_sha256,
        "versions": dict(versions),
    }
    cache.receipt_files.remove(shard)  # it vouches for what is about to be overwritten
    for _ in range(WRITE_ATTEMPTS):
        cache.embedding[rows.start : rows.stop] = block_RE
        for _, name in cache.object_names(shard):
            cache.folder.sync(name)
        cache.folder.write(cache.samples_name(shard), lines)
        cache.receipt_files.write(shard, receipt)
        # Another array task may be writing the same shard, with other last bits if its
        # hardware differs. The task that writes the last receipt reads the shard back after
        # that, so what is stored in the end agrees with that receipt.
        same = cache.block(shard).tobytes() == block_RE.tobytes()
        if same and cache.folder.read(cache.samples_name(shard)) == lines:
            return
    cache.receipt_files.remove(shard)
    raise SpeechkdError(
        f"{cache.location}: shard {shard} does not read back as it was written, after "
        f"{WRITE_ATTEMPTS} attempts. Is the storage sound?"
    )


def vectors_by_key(
    cache: TeacherCache, keys: Sequence[str]
) -> tuple[list[int], NDArray[np.float32]]:
    """Look up the teacher's vectors of clips by the keys of their samples.

    Vectors of a shard are read only if one of the clips is in it.

    Args:
        cache: a teacher cache, finished or not.
        keys: of the clips, each once.

    Returns:
        Places in `keys` of the clips that the cache has, ascending, and these clips' vectors
        `[n, d_model]`, float32, in the same order.
    """
    place_of = {key: place for place, key in enumerate(keys)}
    vector_at: dict[int, NDArray[np.float32]] = {}
    for shard in cache.receipts():
        row_at = {
            place_of[sample["key"]]: sample["row"]
            for sample in cache.shard_samples(shard)
            if sample["key"] in place_of
        }
        if row_at:
            rows = np.fromiter(row_at.values(), np.int64) - cache.rows_of(shard).start
            vectors_nE = cache.block(shard)[rows].astype(np.float32)
            vector_at |= dict(zip(row_at, vectors_nE, strict=True))
    places = sorted(vector_at)
    if not places:
        return [], np.empty((0, cache.identity.width), np.float32)
    return places, np.stack([vector_at[place] for place in places])
