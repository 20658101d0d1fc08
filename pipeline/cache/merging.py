"""Merging: caches of the same settings, made in different places, become one."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pipeline.cache.samples import vectors_sha256
from pipeline.cache.store import ShardResult, TeacherCache
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.shards.manifest import Manifest, Shard
from pipeline.shards.refusals import Refusal


def merged_manifest(caches: Sequence[TeacherCache]) -> Manifest:
    """The shards of all caches, each tar once, in the order of their first appearance.

    If all caches have one manifest, it is returned. Otherwise urls become absolute, because they
    were relative to different places.

    Raises:
        SpeechkdError: the caches differ in more than their manifest; the message shows each value.
    """
    first = asdict(caches[0].identity)
    for other in caches[1:]:
        second = asdict(other.identity)
        differing = [n for n in first if first[n] != second[n] and n != "manifest_sha256"]
        if differing:
            table = "; ".join(f"{n}: {first[n]!r} and {second[n]!r}" for n in differing)
            raise SpeechkdError(
                f"{caches[0].location} and {other.location} were made with different settings "
                f"({table}); such vectors cannot be mixed."
            )
    if len({cache.identity.manifest_sha256 for cache in caches}) == 1:
        return caches[0].manifest
    shards: dict[str, Shard] = {}
    for cache in caches:
        for shard in cache.manifest:
            absolute = replace(shard, url=cache.manifest.resolve(shard))
            shards.setdefault(shard.sha256, absolute)
    return Manifest(tuple(shards.values()), caches[0].manifest.location)


def copy_shards(caches: Sequence[TeacherCache], target: TeacherCache) -> Iterator[int]:
    """Copy finished shards into `target`, and yield the number of each when it is copied.

    A shard that several caches have comes from the first of them. A shard that `target` has
    already is left as it is.

    Raises:
        SpeechkdError: a shard does not match its receipt.
    """
    numbers = {shard.sha256: number for number, shard in enumerate(target.manifest)}
    done = set(target.receipts())
    for cache in caches:
        for source, receipt in cache.receipts().items():
            number = numbers[cache.manifest.shards[source].sha256]
            if number in done:
                continue
            result = _result(cache, source, receipt)
            target.write_shard(number, result, receipt["versions"])
            done.add(number)
            yield number


def _result(cache: TeacherCache, shard: int, receipt: dict[str, Any]) -> ShardResult:
    block_RE = cache.block(shard)
    if vectors_sha256(block_RE) != receipt["vectors_sha256"]:
        raise Damaged(
            f"{cache.location}: the vectors of shard {shard} are not those of its receipt. "
            "`speechkd cache verify` lists all damage."
        )
    first_row = cache.rows_of(shard).start
    samples = [
        {"position": sample["row"] - first_row, **sample} for sample in cache.shard_samples(shard)
    ]
    return ShardResult(
        vectors_NE=block_RE[: receipt["samples"]].astype(np.float32),
        samples=samples,
        refused=[Refusal.from_record(record, "position") for record in receipt["refused"]],
        input_sha256=receipt["input_sha256"],
        input_bytes=receipt["input_bytes"],
    )
