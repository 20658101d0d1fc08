"""Every way in which a teacher cache can be damaged, looked for."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.cache import TeacherCache, keys_sha256, vectors_sha256
from pipeline.errors import SpeechkdError
from pipeline.storage import local_path, open_stream
from pipeline.vector_statistics import ShardStatistics

READ_BYTES = 2**20


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong: where, and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Checked:
    """A shard has been checked; for a progress bar."""

    shard: int
    tar_skipped: str = ""
    """Why its tar was not compared with the manifest, if it was not."""


def verify(cache: TeacherCache, *, tars: bool) -> Iterator[Damage | Checked]:
    """Compare everything stored with the receipts, and the tars with the manifest.

    Args:
        cache: the cache to check.
        tars: also hash the tars, where they can still be found.

    Yields:
        each damage as it is found, and a `Checked` at the end of each shard. Memory is bounded
        but for 16 bytes a key.
    """
    receipts = cache.receipts()
    foreign = set(_foreign_receipts(cache, receipts))
    seen: dict[bytes, int] = {}
    for shard in range(len(cache.manifest)):
        where = f"shard {shard} ({cache.manifest.shards[shard].url})"
        receipt = receipts.get(shard)
        if receipt is None:
            what = "its receipt is torn or of another run" if shard in foreign else "not done"
            yield Damage(where, f"{what}; run `speechkd extract-teacher` again")
            yield Checked(shard)
            continue
        for what in _shard_damage(cache, shard, receipt, seen):
            yield Damage(where, what)
        skipped = "not asked for"
        if tars:
            skipped, changed = _tar_damage(cache, shard)
            if changed:
                yield Damage(where, changed)
        yield Checked(shard, skipped)


def _foreign_receipts(cache: TeacherCache, receipts: dict[int, Any]) -> Iterator[int]:
    yield from (shard for shard in cache.finished() if shard not in receipts)


def _shard_damage(
    cache: TeacherCache, shard: int, receipt: dict[str, Any], seen: dict[bytes, int]
) -> Iterator[str]:
    listed = cache.manifest.shards[shard]
    whole = receipt["input_bytes"] >= listed.bytes
    if whole and receipt["input_sha256"] != listed.sha256:
        yield "its receipt is of another tar than the manifest's"
    missing = [name for name in cache.object_names(shard) if not cache.folder.exists(name)]
    for name in missing:
        yield f"storage object {name} is missing"
    try:
        samples = cache.shard_samples(shard)
        keys = [str(sample["key"]) for sample in samples]
        rows = np.array([int(sample["row"]) for sample in samples], dtype=np.int64)
    except (SpeechkdError, KeyError, TypeError, ValueError) as error:
        yield f"samples cannot be read ({error})"
        return
    content = cache.folder.read(f"samples/{shard:06d}.jsonl") or b""
    if hashlib.sha256(content).hexdigest() != receipt["samples_sha256"]:
        yield "the samples file is not the one the receipt vouches for"
    if keys_sha256(keys) != receipt["keys_sha256"] or len(keys) != receipt["written"]:
        yield "the keys are not those of the receipt"
    yield from _duplicates(keys, shard, seen)
    if missing:
        return
    try:
        block_RD = cache.block(shard)
    except (OSError, SpeechkdError) as error:
        yield f"the vectors cannot be read ({error})"
        return
    if vectors_sha256(block_RD) != receipt["vectors_sha256"]:
        yield "the vectors are not those of the receipt: changed, or rows swapped"
    kept = rows - cache.rows_of(shard).start
    if len(kept) and not (kept.min() >= 0 and kept.max() < len(block_RD)):
        yield "a sample names a row outside the shard"
        return
    for key, row in zip(keys, block_RD[kept], strict=True):
        if not np.isfinite(row).all():
            yield f"the vector of {key} has NaN or infinity"
            break
    yield from _statistics_damage(cache, shard, block_RD[kept].astype(np.float64))


def _duplicates(keys: list[str], shard: int, seen: dict[bytes, int]) -> Iterator[str]:
    for key in keys:
        short = hashlib.blake2b(key.encode(), digest_size=16).digest()
        first = seen.setdefault(short, shard)
        if first != shard:
            yield f"duplicate key {key}, also in shard {first}"
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        yield f"duplicate key {twice} within the shard"


def _statistics_damage(cache: TeacherCache, shard: int, kept_KD: Any) -> Iterator[str]:
    try:
        stored = cache.shard_statistics(shard)
    except SpeechkdError as error:
        yield str(error)
        return
    if not stored.close_to(ShardStatistics.of(kept_KD)):
        yield "the stored mean or variance is not that of the vectors"


def _tar_damage(cache: TeacherCache, shard: int) -> tuple[str, str]:
    """Why the tar was not checked (or ""), and what is wrong with it (or "")."""
    listed = cache.manifest.shards[shard]
    where = cache.manifest.resolve(listed)
    path = local_path(where)
    if path is not None and not path.is_file():
        return f"{where} is not there", ""
    digest = hashlib.sha256()
    with open_stream(where) as file:
        while content := file.read(READ_BYTES):
            digest.update(content)
    if digest.hexdigest() == listed.sha256:
        return "", ""
    return (
        "",
        f"changed tar: {where} is not what the manifest says, so its vectors are of other audio",
    )
