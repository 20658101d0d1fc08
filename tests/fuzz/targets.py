"""What is done with one input, and what may come of it.

A target returns a word for the outcome: `read`, or a way of being refused. Whatever else it
raises is a crash: only `SpeechkdError` and the refusals that a stage counts are answers.
"""

import functools
import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.cache.identity import KINDS
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.cache.verification import verify
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.storage import local_path
from pipeline.shards.decoding import decode, read_clip
from pipeline.shards.manifest import Shard, read_manifest
from pipeline.shards.reading import Clip, read_shard
from pipeline.shards.refusals import Refusal, RefusedError
from pipeline.shards.tar import TarReader
from pipeline.shards.writing import ShardFolder
from pipeline.tasks.mosei.reading import read_mosei
from pipeline.tasks.mosei.tables import read_folds
from pipeline.tasks.mosei.transcripts import read_transcript
from tests.fuzz import seeds, sources
from tests.helpers.caches import samples_of, vectors_of
from tests.helpers.tars import line

SUFFIXES = ("csv", "tsv", "jsonl", "json", "py", "txt", "parquet")
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Target:
    """Something that reads input.

    Attributes:
        seeds: makes inputs to begin from; is given a folder to work in.
        run: does with an input what the commands do; is given the same folder.
        includes: modules beyond the project's own whose coverage guides the fuzzer.
    """

    seeds: Callable[[Path], list[bytes]]
    run: Callable[[bytes, Path], str]
    includes: tuple[str, ...] = ()


def with_checksums(content: bytes) -> bytes:
    """A tar whose headers have right checksums, so that a fuzzer gets past them."""
    made = bytearray(content)
    for start in range(0, len(made) - BLOCK + 1, BLOCK):
        header = made[start : start + BLOCK]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            made[start + 148 : start + 156] = b"%06o\0 " % (sum(header) & 0o777777)
    return bytes(made)


def read_tar(content: bytes, _: Path) -> str:
    """As `extract-teacher` reads a shard whose manifest tells the truth."""
    content = with_checksums(content)
    found = sum(1 for _ in TarReader(io.BytesIO(content)))
    shard = Shard("a.tar", max(found, 1), *list(vars(line(content, 1)).values())[2:])
    kinds = Counter(type(item) for item in read_shard(io.BytesIO(content), shard, "a.tar"))
    assert kinds[Clip] + kinds[Refusal] == shard.samples
    return "read" if kinds[Clip] else "samples refused"


def read_a_manifest(content: bytes, folder: Path) -> str:
    """Read it, and ask for each tar."""
    path = folder / "manifest.jsonl"
    path.write_bytes(content)
    manifest = read_manifest(path)
    assert manifest.sha256
    for shard in manifest:
        found = local_path(manifest.resolve(shard))
        if found is not None:
            found.is_file()
    return "read"


def decode_audio(content: bytes, folder: Path) -> str:
    """As `extract-teacher` decodes a member, and as `shard` cuts a segment from a file."""
    path = folder / "clip"
    path.write_bytes(content)
    refused = ""
    try:
        assert 1 <= len(decode(content)) <= 240_000
    except RefusedError as error:
        refused = error.reason
    try:
        read_clip(path, 0.01, 0.04)
    except RefusedError as error:
        refused = refused or error.reason
    return refused or "read"


def read_mosei_table(content: bytes, folder: Path) -> str:
    """A table, a fold list or a raw transcript, by the first byte."""
    suffix = SUFFIXES[content[0] % len(SUFFIXES)] if content else "csv"
    path = folder / f"label.{suffix}"
    path.write_bytes(content[1:])
    if suffix in ("json", "py"):
        read_folds(path)
    elif suffix == "txt":
        read_transcript(path, Counter())
    else:
        read_mosei(path)
        read_folds(path)
    return "read"


def read_mosei_pickle(content: bytes, folder: Path) -> str:
    """A pickle, with --allow-pickle; MulT's gets its texts from a table."""
    path, texts = folder / "mosei.pkl", folder / "texts.jsonl"
    path.write_bytes(content)
    if not texts.exists():
        texts.write_text("\n".join(map(json.dumps, seeds.label_rows())))
    try:
        read_mosei(path, allow_pickle=True)
    except SpeechkdError as error:
        if "Name the texts" not in str(error):
            raise
        read_mosei(path, text=texts, allow_pickle=True)
    return "read"


def read_mosei_csd(content: bytes, folder: Path) -> str:
    """A label file beside good words, or words beside good labels, by the first byte."""
    paths = folder / "CMU_MOSEI_Labels.csd", folder / "CMU_MOSEI_TimestampedWords.csd"
    for path, good in zip(paths, seeds.csds(), strict=True):
        path.write_bytes(good[1:])
    paths[content[0] % 2 if content else 0].write_bytes(content[1:])
    read_mosei(paths[0])
    return "read"


def open_cache(content: bytes, folder: Path) -> str:
    """A cache of which one file is replaced: open it, read all of it, verify it."""
    cache = _with_file(content, folder, seeds.CACHE_FILES)
    found = TeacherCache.open(cache)
    damage = [str(event) for event in verify(found, tars=False)]
    found.statistics()
    assert len(samples_of(found)) == len(vectors_of(found))
    return "damaged" if len(damage) > 1 else "read"


def open_sequences(content: bytes, folder: Path) -> str:
    """A cache of words of which one file is replaced: open it, read all of it, verify it."""
    cache = _with_file(content, folder, seeds.SEQUENCE_FILES, seeds.small_sequence_cache)
    found = TeacherCache.open(cache, kinds=KINDS)
    damage = [str(event) for event in verify(found, tars=False)]
    found.statistics()
    reader = SequenceReader(found)
    rows = reader.values(range(len(reader.clips)))
    assert len(rows) == reader.clips.rows.sum() == sum(map(len, reader.clips.words))
    return "damaged" if len(damage) > 1 else "read"


def read_receipts(content: bytes, folder: Path) -> str:
    """Receipts and samples files of a cache, and the receipts that `shard` carries on from."""
    cache = _with_file(content, folder, seeds.CACHE_FILES[3:5])
    found = _opened(cache)
    done = found.receipts()
    samples_of(found)
    shards = folder / "shards"
    shutil.rmtree(shards, ignore_errors=True)
    (shards / "receipts").mkdir(parents=True)
    (shards / "receipts" / "corpus.json").write_text("{}")
    (shards / "receipts" / "speech-000000.json").write_bytes(content[1:])
    with ShardFolder(shards, {}) as made:
        made.tally.reasons()
    return "read" if done else "no receipt"


@functools.cache
def _opened(cache: Path) -> TeacherCache:
    """A cache of which only receipts and samples change: opening it takes most of the time."""
    return TeacherCache.open(cache)


def _with_file(
    content: bytes,
    folder: Path,
    names: tuple[str, ...],
    make: Callable[[Path], Path] = seeds.small_cache,
) -> Path:
    """A fresh copy of a small cache in which the file that the first byte names is replaced."""
    if not (folder / "cache").exists():
        make(folder)
        shutil.copytree(folder / "cache", folder / "copy")
    for name in names if make is not seeds.small_cache else seeds.CACHE_FILES:
        shutil.copyfile(folder / "cache" / name, folder / "copy" / name)
    name = names[content[0] % len(names)] if content else names[0]
    (folder / "copy" / name).write_bytes(content[1:])
    return folder / "copy"


def _cache_seeds(folder: Path) -> list[bytes]:
    return seeds.cache_files(seeds.small_cache(folder / "seeds"))


def _sequence_seeds(folder: Path) -> list[bytes]:
    return seeds.cache_files(seeds.small_sequence_cache(folder / "seeds"), seeds.SEQUENCE_FILES)


def _receipt_seeds(folder: Path) -> list[bytes]:
    of_shards = {
        "first_entry": 0,
        "entries": 1,
        "seconds": 1.0,
        "shard": vars(line(b"x", 1, "speech-000000.tar")),
        "refused": [{"key": "k", "reason": "r", "detail": "d", "where": "w"}],
    }
    mine = [bytes([n]) + content[1:] for n, content in enumerate(_cache_seeds(folder)[3:5])]
    return [*mine, b"\x01" + json.dumps(of_shards).encode()]


TARGETS = {
    "tar": Target(lambda _: seeds.tars(), read_tar, ("tarfile",)),
    "manifest": Target(lambda _: seeds.manifests(), read_a_manifest),
    "audio": Target(lambda _: seeds.audio_files(), decode_audio, ("soundfile",)),
    "mosei-table": Target(lambda _: seeds.tables(), read_mosei_table),
    "mosei-pickle": Target(lambda _: seeds.pickles(), read_mosei_pickle, ("pickle",)),
    "mosei-csd": Target(lambda _: seeds.csds(), read_mosei_csd),
    "cache": Target(_cache_seeds, open_cache, ("zarr.core.metadata",)),
    "sequences": Target(_sequence_seeds, open_sequences, ("zarr.core.metadata",)),
    "receipts": Target(_receipt_seeds, read_receipts),
    "times": Target(sources.times_seeds, sources.read_times_file),
    "layout": Target(sources.layout_seeds, sources.read_layout),
    "audio-table": Target(sources.audio_table_seeds, sources.read_audio_table),
}


def outcome(target: Target, content: bytes, folder: Path) -> str:
    """Run a target on one input.

    Raises:
        Exception: a crash.
    """
    try:
        return target.run(content, folder)
    except SpeechkdError:
        return "refused"
