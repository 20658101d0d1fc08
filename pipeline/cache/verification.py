"""Look for every way in which a teacher cache can be damaged."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.cache.samples import keys_sha256, parse_samples, vectors_in, vectors_sha256
from pipeline.cache.sequence_damage import sequence_damage, statistics_damage
from pipeline.cache.statistics import ShardStatistics
from pipeline.cache.store import TeacherCache
from pipeline.foundation.storage import local_path, open_stream
from pipeline.foundation.workers import ahead

READ_BYTES = 2**20
SHARDS_AT_ONCE = 4
"""Shards checked by threads at a time, because in object storage most of the time is waiting."""


APART = (
    " (corpora with equal keys: extract each into a cache of its own, and join these with "
    "`speechkd cache merge --prefix-keys`)"
)


@dataclass(frozen=True)
class Damage:
    """One damage: where it is, and what it is."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Checked:
    """A shard whose check is complete, for a progress bar."""

    shard: int
    tar_skipped: str = ""
    """Why its tar was not compared with the manifest, if it was not."""


def verify(cache: TeacherCache, *, tars: bool) -> Iterator[Damage | Checked]:
    """Compare everything stored with the receipts, and the tars with the manifest.

    Args:
        cache: the cache to check.
        tars: also hash the tars that can still be found.

    Yields:
        each damage, and a `Checked` at the end of each shard, in order. Memory holds a few shards
        and 16 bytes per key.
    """
    receipts = cache.receipts()
    if cache.identity.is_sequence:
        for name in cache.arrays:
            cache.stored_objects(name, again=True)
    foreign = cache.finished().keys() - receipts.keys()
    seen: dict[bytes, int] = {}

    def check(shard: int) -> _Findings:
        receipt = receipts.get(shard)
        if receipt is not None:
            return _check(cache, shard, receipt, tars=tars)
        what = "its receipt is torn or of another run" if shard in foreign else "not done"
        return _Findings([f"{what}; run `{cache.maker}` again"])

    for shard, findings in enumerate(ahead(check, range(len(cache.manifest)), SHARDS_AT_ONCE)):
        where = f"shard {shard} ({cache.manifest.shards[shard].url})"
        for what in (*findings.damages, *_duplicates(findings.keys, shard, seen)):
            yield Damage(where, what)
        yield Checked(shard, findings.tar_skipped)


@dataclass
class _Findings:
    """The damages that one shard shows by itself, and its keys."""

    damages: list[str]
    keys: list[str] = field(default_factory=list)
    tar_skipped: str = ""


def _check(cache: TeacherCache, shard: int, receipt: dict[str, Any], *, tars: bool) -> _Findings:
    """Check one shard."""
    findings = _Findings([])
    listed = cache.manifest.shards[shard]
    if receipt["input_bytes"] >= listed.bytes and receipt["input_sha256"] != listed.sha256:
        findings.damages.append("its receipt is of another tar than the manifest's")
    if cache.identity.is_sequence:
        samples = _samples(
            cache, shard, receipt, cache.folder.read(cache.samples_name(shard)), findings
        )
        findings.damages += sequence_damage(cache, shard, receipt, samples)
    else:
        _check_vectors(cache, shard, receipt, findings)
    findings.tar_skipped = "not asked for"
    if tars:
        findings.tar_skipped, changed = _tar_damage(cache, shard)
        findings.damages += [changed] if changed else []
    return findings


def _check_vectors(
    cache: TeacherCache, shard: int, receipt: dict[str, Any], findings: _Findings
) -> None:
    names = [name for _, name in cache.object_names(shard)]
    listing = cache.samples_name(shard)
    stored = cache.folder.read_many([*names, listing])
    missing = [name for name in names if name not in stored]
    findings.damages += [f"storage object {name} is missing" for name in missing]
    samples = _samples(cache, shard, receipt, stored.get(listing), findings)
    if samples is not None and not missing:
        objects = [stored[name] for name in names]
        findings.damages += _vectors_damage(cache, shard, receipt, samples, objects)


def _samples(
    cache: TeacherCache,
    shard: int,
    receipt: dict[str, Any],
    content: bytes | None,
    findings: _Findings,
) -> list[dict[str, Any]] | None:
    """The samples, or None if they cannot be read; keys and damages go to `findings`."""
    try:
        if content is None:
            raise ValueError(f"{cache.samples_name(shard)} is missing")
        samples = parse_samples(content, cache.rows_of(shard), cache.identity)
    except ValueError as error:
        findings.damages.append(f"samples cannot be read ({error})")
        return None
    findings.keys = [sample["key"] for sample in samples]
    if hashlib.sha256(content).hexdigest() != receipt["samples_sha256"]:
        findings.damages.append("the samples file is not the one the receipt vouches for")
    if keys_sha256(findings.keys) != receipt["keys_sha256"] or len(samples) != receipt["written"]:
        findings.damages.append("the keys are not those of the receipt")
    return samples


def _vectors_damage(
    cache: TeacherCache,
    shard: int,
    receipt: dict[str, Any],
    samples: list[dict[str, Any]],
    objects: list[bytes],
) -> Iterator[str]:
    shape = (cache.identity.rows_per_object, cache.identity.width)
    try:
        block_RE = vectors_in(objects, shape, cache.identity.dtype)
    except ValueError as error:
        yield f"the vectors cannot be read ({error})"
        return
    if vectors_sha256(block_RE) != receipt["vectors_sha256"]:
        yield "the vectors are not those of the receipt: changed, or rows swapped"
    first_row = cache.rows_of(shard).start
    vectors_KE = block_RE[[sample["row"] - first_row for sample in samples]]
    finite_K = np.isfinite(vectors_KE).all(axis=1)
    if not finite_K.all():
        yield f"the vector of {samples[int(finite_K.argmin())]['key']} has NaN or infinity"
    yield from statistics_damage(
        cache, shard, ShardStatistics.of(vectors_KE.astype(np.float64)), "vectors"
    )


def _duplicates(keys: list[str], shard: int, seen: dict[bytes, int]) -> Iterator[str]:
    for key in keys:
        short = hashlib.blake2b(key.encode(), digest_size=16).digest()
        first = seen.setdefault(short, shard)
        if first != shard:
            yield f"duplicate key {key}, also in shard {first}{APART}"
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        yield f"duplicate key {twice} within the shard"


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
