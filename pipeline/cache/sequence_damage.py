"""What may be wrong with the rows of one shard of a cache of sequences."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.cache.identity import Identity
from pipeline.cache.layout import ROWS, ArrayLayout
from pipeline.cache.quantisation import values_of
from pipeline.cache.receipts import UNTRUSTED_WORDS
from pipeline.cache.samples import untrusted_words
from pipeline.cache.statistics import Running, ShardStatistics
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import surplus_objects
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted


def sequence_damage(
    cache: TeacherCache,
    shard: int,
    receipt: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]] | None,
) -> Iterator[str]:
    """Compare a shard's storage objects with its receipt and its samples. Memory holds one object.

    Args:
        cache: a cache of sequences.
        shard: number of the shard.
        receipt: the shard's.
        samples: the shard's; None if they cannot be read.

    Yields:
        each damage, in words.
    """
    rows = None if samples is None else sum(sample["rows"] for sample in samples)
    if rows is not None and rows != receipt["rows"]:
        yield f"the samples have {counted(rows, 'row')}, the receipt says {receipt['rows']:,}"
    if samples is not None and cache.identity.kind == "words":
        untrusted = untrusted_words(samples)
        if untrusted != receipt[UNTRUSTED_WORDS]:
            yield (
                f"the samples have {counted(untrusted, 'word')} without a trusted time, the "
                "receipt says "
                f"{receipt[UNTRUSTED_WORDS]:,}"
            )
    whole = True
    running = Running(cache.identity.width)
    for array_name, array in cache.arrays.items():
        first = cache.rows_of(shard).start // array.object_rows
        for place, digest in enumerate(receipt["objects"].get(array_name, [])):
            name = array.object_name(array_name, first + place)
            content = cache.folder.read(name)
            damage = _object_damage(array, content, digest)
            if content is None or damage:
                whole = False
                yield f"storage object {name} {damage}"
            elif array_name == ROWS and samples is not None and rows == receipt["rows"]:
                stored = np.frombuffer(content, array.stored_dtype).reshape(array.chunk)
                start = (first + place) * array.object_rows
                values = values_in_object(cache.identity, samples, stored, start)
                if not np.isfinite(values).all():
                    yield f"storage object {name} has NaN or infinity where clips have rows"
                running.add(len(values), ShardStatistics.of(values.astype(np.float64)))
    for name in surplus_objects(cache, shard, receipt["rows"]):
        yield f"storage object {name} is there, and no clip's"
    if whole and running.count == receipt["rows"]:
        yield from statistics_damage(cache, shard, running.so_far(), "rows")


def statistics_damage(
    cache: TeacherCache, shard: int, true: ShardStatistics, what: str
) -> Iterator[str]:
    """Compare the statistics that a shard's receipt holds with those of what is stored."""
    try:
        stored = cache.shard_statistics(shard)
    except SpeechkdError as error:
        yield str(error)
        return
    if not stored.close_to(true):
        yield f"the stored mean or variance is not that of the {what}"


def _object_damage(array: ArrayLayout, content: bytes | None, digest: str) -> str:
    if content is None:
        return "is missing"
    if len(content) != array.object_bytes:
        return f"has {len(content):,} bytes, not {array.object_bytes:,}"
    if hashlib.sha256(content).hexdigest() != digest:
        return "is not that of the receipt: changed, or rows swapped"
    return ""


def values_in_object(
    identity: Identity, samples: Sequence[Mapping[str, Any]], stored: Array, start: int
) -> Array:
    """Values of the rows of one storage object that clips have.

    Args:
        identity: of the cache.
        samples: of the shard.
        stored: the object.
        start: its first row in the cache.
    """
    last = samples[-1]["row"] + samples[-1]["rows"] if samples else start
    stored = stored[: max(0, last - start)]
    if identity.dtype != "uint8":
        return stored
    ends = np.array([sample["row"] + sample["rows"] for sample in samples])
    owner = np.searchsorted(ends, np.arange(start, start + len(stored)), side="right")
    low, step = (
        np.array([sample[name] for sample in samples], np.float32)[owner][:, None]
        for name in ("low", "step")
    )
    return values_of(stored, low, step)
