"""Merging: caches of the same settings, made in different places, become one."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.cache.samples import sequence_lines, vectors_sha256
from pipeline.cache.store import ShardResult, TeacherCache
from pipeline.cache.writing import is_sound, remove_surplus
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
    for other in caches[1:]:
        differing = caches[0].identity.differences(other.identity)
        differing.pop("manifest_sha256", None)
        if differing:
            table = "; ".join(f"{n}: {a!r} and {b!r}" for n, (a, b) in differing.items())
            raise SpeechkdError(
                f"{caches[0].location} and {other.location} were made with different settings "
                f"({table}); such {'rows' if other.identity.is_sequence else 'vectors'} cannot be "
                "mixed."
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
            if target.identity.is_sequence:
                _copy_sequences(cache, source, receipt, target, number)
            else:
                result = _result(cache, source, receipt)
                target.write_shard(number, result, receipt["versions"])
            done.add(number)
            yield number


def _copy_sequences(
    cache: TeacherCache,
    source: int,
    receipt: dict[str, Any],
    target: TeacherCache,
    number: int,
) -> None:
    """Copy a shard's storage objects as they are; only the numbers of its rows change."""
    target.receipt_files.remove(number)
    names = zip(
        cache.object_names(source, receipt["rows"]),
        target.object_names(number, receipt["rows"]),
        [digest for name in cache.arrays for digest in receipt["objects"][name]],
        strict=True,
    )
    for (_, name), (_, new_name), digest in names:
        content = cache.folder.read(name)
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            raise Damaged(
                f"{cache.location}: storage object {name} of shard {source} is not that of its "
                "receipt. `speechkd cache verify` lists all damage."
            )
        target.folder.write(new_name, content)
        target.folder.sync(new_name)
    remove_surplus(target, number, receipt["rows"])
    shift = target.rows_of(number).start - cache.rows_of(source).start
    samples = [{**s, "row": s["row"] + shift} for s in cache.shard_samples(source)]
    lines = sequence_lines(samples)
    at_the_end = {  # where `ShardWriter.finish` puts them
        "statistics": cache.shard_statistics(source).record(),
        "settings_sha256": target.settings_sha256,
        "versions": receipt["versions"],
    }
    copied = {
        **{name: value for name, value in receipt.items() if name not in at_the_end},
        "shard": number,
        "url": target.manifest.shards[number].url,
        "samples_sha256": hashlib.sha256(lines).hexdigest(),
        **at_the_end,
    }
    target.folder.write(target.samples_name(number), lines)
    target.receipt_files.write(number, copied)
    if not is_sound(target, copied):
        raise SpeechkdError(
            f"{target.location}: shard {number} does not read back as it was written. Does another "
            "process write it too? Run the command again."
        )


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
