"""Merging: caches of the same settings, made in different places, become one."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.cache.identity import Identity
from pipeline.cache.samples import keys_sha256, sequence_lines, vectors_sha256
from pipeline.cache.store import TeacherCache
from pipeline.cache.texts import samples_texts_sha256
from pipeline.cache.vectors import ShardResult, write_vectors
from pipeline.cache.writing import is_sound, remove_surplus
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.shards.manifest import Manifest, Shard
from pipeline.shards.refusals import Refusal

TEXTS = "texts_sha256"


def merged_manifest(caches: Sequence[TeacherCache]) -> Manifest:
    """The shards of all caches, each tar once, in the order of their first appearance.

    If all caches have one manifest, it is returned. Otherwise urls become absolute, because they
    were relative to different places.

    Raises:
        SpeechkdError: the caches differ in more than their manifest; the message shows each value.
    """
    for other in caches[1:]:
        differing = caches[0].identity.differences(other.identity)
        for own in ("manifest_sha256", TEXTS):
            differing.pop(own, None)
        if "kind" in differing:  # whose other settings say nothing of each other
            differing = {"kind": differing["kind"]}
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


def merged_identity(caches: Sequence[TeacherCache], prefixes: Sequence[str] = ()) -> Identity:
    """Identity of the merged cache: the common one, of kind `text` with the digest of all texts.

    Args:
        caches: the caches to be merged.
        prefixes: what is put before the keys of each cache; () for nothing.

    Raises:
        SpeechkdError: a cache of texts of its own is unfinished, so that nobody knows them all.
    """
    identity = caches[0].identity
    alike = all(cache.identity == identity for cache in caches)
    if TEXTS not in identity.settings or (alike and not prefixes):
        return identity
    for cache in caches:
        if missing := len(cache.unfinished()):
            raise SpeechkdError(
                f"{cache.location}: {counted(missing, 'shard is', 'shards are')} not done, and a "
                f"merged cache names the digest of all texts. Run `{cache.maker}` again; it "
                "computes only what is missing."
            )
    texts = samples_texts_sha256(
        _prefixed(sample, prefixes, number)
        for number, cache, shard in _shards_of(caches)
        for sample in cache.shard_samples(shard)
    )
    return replace(identity, settings={**identity.settings, TEXTS: texts})


def check_keys(caches: Sequence[TeacherCache], prefixes: Sequence[str] = ()) -> None:
    """Refuse caches in which different shards have samples of one key.

    Nothing could tell such samples apart once they lie in one cache.

    Args:
        caches: the caches to be merged.
        prefixes: what is to be put before the keys of each cache; () for nothing.

    Raises:
        SpeechkdError: there are such keys, or the prefixes are not one per cache.
    """
    if prefixes and (len(set(prefixes)) != len(caches) or not all(map(str.strip, prefixes))):
        raise SpeechkdError(
            f"--prefix-keys {','.join(prefixes)}: wanted is one prefix per cache, each another "
            f"({counted(len(caches), 'cache')}), separated by commas."
        )
    first_places: dict[bytes, tuple[int, int]] = {}
    equal, example = 0, ""
    for number, cache, shard in _shards_of(caches):
        for sample in cache.shard_samples(shard):
            key = _prefixed(sample, prefixes, number)["key"]
            short = hashlib.blake2b(key.encode(), digest_size=16).digest()
            first = first_places.setdefault(short, (number, shard))
            if first != (number, shard):
                equal += 1
                where = f"{caches[first[0]].location} (shard {first[1]})"
                example = example or f"{key!r} in {where} and {cache.location} (shard {shard})"
    if equal:
        names = ",".join(_names(caches))
        raise SpeechkdError(
            f"{counted(equal, 'key')} would stand in several shards of the merged cache, such as "
            f"{example}: nothing could tell their samples apart. --prefix-keys {names} puts a name "
            "before the keys and recordings of each cache."
        )


def _shards_of(caches: Sequence[TeacherCache]) -> Iterator[tuple[int, TeacherCache, int]]:
    """Number of the cache, cache and shard, for each finished tar once, the first cache's."""
    tars = set()
    for number, cache in enumerate(caches):
        for shard in cache.receipts():
            tar = cache.manifest.shards[shard].sha256
            if tar not in tars:
                tars.add(tar)
                yield number, cache, shard


def _names(caches: Sequence[TeacherCache]) -> list[str]:
    """A name for each cache, from its location."""
    names = [cache.location.rpartition("/")[2] for cache in caches]
    if len(set(names)) == len(names):
        return names
    return [chr(ord("a") + number) if number < 26 else str(number) for number in range(len(names))]


def _prefixed(sample: dict[str, Any], prefixes: Sequence[str], cache: int) -> dict[str, Any]:
    """A sample whose key and recording begin with the prefix of its cache, if there is one."""
    if not prefixes:
        return sample
    changed = {**sample, "key": f"{prefixes[cache]}/{sample['key']}"}
    if sample.get("recording") is not None:
        changed["recording"] = f"{prefixes[cache]}/{sample['recording']}"
    return changed


def copy_shards(
    caches: Sequence[TeacherCache], target: TeacherCache, prefixes: Sequence[str] = ()
) -> Iterator[int]:
    """Copy finished shards into `target`, and yield the number of each when it is copied.

    A shard that several caches have comes from the first of them. A shard that `target` has
    already is left as it is.

    Args:
        caches: the caches to be merged.
        target: the merged cache.
        prefixes: what is put before the keys and recordings of each cache; () for nothing.

    Raises:
        SpeechkdError: a shard does not match its receipt.
    """
    numbers = {shard.sha256: number for number, shard in enumerate(target.manifest)}
    done = set(target.receipts())
    for place, cache in enumerate(caches):
        for source, receipt in cache.receipts().items():
            number = numbers[cache.manifest.shards[source].sha256]
            if number in done:
                continue
            samples = [_prefixed(s, prefixes, place) for s in cache.shard_samples(source)]
            if target.identity.is_sequence:
                _copy_sequences(cache, source, receipt, target, number, samples)
            else:
                result = _result(cache, source, receipt, samples)
                write_vectors(target, number, result, receipt["versions"])
            done.add(number)
            yield number


def _copy_sequences(
    cache: TeacherCache,
    source: int,
    receipt: dict[str, Any],
    target: TeacherCache,
    number: int,
    samples: Sequence[dict[str, Any]],
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
    lines = sequence_lines([{**sample, "row": sample["row"] + shift} for sample in samples])
    at_the_end = {  # where `ShardWriter.finish` puts them
        "statistics": cache.shard_statistics(source).record(),
        "settings_sha256": target.settings_sha256,
        "versions": receipt["versions"],
    }
    copied = {
        **{name: value for name, value in receipt.items() if name not in at_the_end},
        "shard": number,
        "url": target.manifest.shards[number].url,
        "keys_sha256": keys_sha256([sample["key"] for sample in samples]),
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


def _result(
    cache: TeacherCache, shard: int, receipt: dict[str, Any], samples: Sequence[dict[str, Any]]
) -> ShardResult:
    block_RE = cache.block(shard)
    if vectors_sha256(block_RE) != receipt["vectors_sha256"]:
        raise Damaged(
            f"{cache.location}: the vectors of shard {shard} are not those of its receipt. "
            "`speechkd cache verify` lists all damage."
        )
    first_row = cache.rows_of(shard).start
    samples = [{"position": sample["row"] - first_row, **sample} for sample in samples]
    return ShardResult(
        vectors_NE=block_RE[: receipt["samples"]].astype(np.float32),
        samples=samples,
        refused=[Refusal.from_record(record, "position") for record in receipt["refused"]],
        input_sha256=receipt["input_sha256"],
        input_bytes=receipt["input_bytes"],
    )
