"""Export: a cache becomes NumPy arrays and `samples.jsonl`, for any program to read."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache.layout import IDS, ROWS
from pipeline.cache.sequence_damage import values_in_object
from pipeline.cache.store import TeacherCache
from pipeline.foundation.atomic import new_folder, remove_leftovers
from pipeline.foundation.errors import Damaged, SpeechkdError

VECTORS, SAMPLES = "embedding.npy", "samples.jsonl"
ROWS_FILE, OFFSETS, IDS_FILE, WORDS = "rows.npy", "offsets.npy", "ids.npy", "words.jsonl"


@dataclass
class _Part:
    """What comes next in each file; the number of the shard with its last part."""

    content: dict[str, bytes] = field(default_factory=dict)
    shard: int | None = None


def export(cache: TeacherCache, out: Path) -> Iterator[int]:
    """Write the arrays and `out/samples.jsonl`; yield each shard's number when it is done.

    Of vectors, row i of `embedding.npy` belongs to line i of `samples.jsonl`. A line has `row` (i),
    `key`, `text`, `duration_s` and `shard` (the tar's url).

    Of sequences, `rows.npy` `[rows, width]` has the rows of all clips; those of line i of
    `samples.jsonl` are from `offsets.npy[i]` to `offsets.npy[i + 1]`. A line has `rows` and
    `speaker` and `recording` too. What a cache holds as uint8 becomes the float32 values that it
    stands for. Of `words`, `words.jsonl` has a line per row: `clip`, `word`, `start_s`, `end_s`,
    `trusted`. Of `text`, `ids.npy` has the token of each row.

    All are in manifest order, without refused samples. The folder appears when it is complete.
    Memory does not grow with the cache.

    If `out` is an export of the same cache already, it is compared and left as it is.

    Raises:
        SpeechkdError: `out` exists and is anything else, or cannot be made.
        Damaged: a storage object of sequences is not that of its receipt.
    """
    remove_leftovers(out.parent, f".{escape(out.name)}.*.partial")
    if out.exists():
        yield from _compare(cache, out)
        return
    try:
        with new_folder(out) as folder:
            yield from _write(cache, folder)
    except OSError as error:
        if not out.exists():
            raise SpeechkdError(
                f"{out} cannot be made: {error}. Make room, mend it or name another folder, and "
                "run the command again."
            ) from error
        yield from _compare(cache, out)  # another process was first


def _write(cache: TeacherCache, folder: Path) -> Iterator[int]:
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name in _names(cache)}
        for part in _parts(cache):
            for name, content in part.content.items():
                files[name].write(content)
            if part.shard is not None:
                yield part.shard


def _compare(cache: TeacherCache, folder: Path) -> Iterator[int]:
    other = SpeechkdError(
        f"{folder} exists and is not the export of this cache; name a new folder, or remove it "
        "first."
    )
    if not all((folder / name).is_file() for name in _names(cache)):
        raise other
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("rb")) for name in _names(cache)}
        for part in _parts(cache):
            for name, content in part.content.items():
                if files[name].read(len(content)) != content:
                    raise other
            if part.shard is not None:
                yield part.shard
        if any(file.read(1) for file in files.values()):
            raise other


def _names(cache: TeacherCache) -> list[str]:
    if not cache.identity.is_sequence:
        return [VECTORS, SAMPLES]
    more = {"words": [WORDS], "text": [IDS_FILE]}.get(cache.identity.kind, [])
    return [ROWS_FILE, OFFSETS, SAMPLES, *more]


def _parts(cache: TeacherCache) -> Iterator[_Part]:
    return _sequence_parts(cache) if cache.identity.is_sequence else _vector_parts(cache)


def _vector_parts(cache: TeacherCache) -> Iterator[_Part]:
    line = 0
    yield _Part({VECTORS: _header(cache.identity.dtype, cache.written, cache.identity.width)})
    for shard in cache.receipts():
        samples = cache.shard_samples(shard)
        first_row = cache.rows_of(shard).start
        rows = np.array([sample["row"] - first_row for sample in samples], dtype=np.int64)
        url = cache.manifest.shards[shard].url
        lines = b"".join(_line(s, line + i, url) for i, s in enumerate(samples))
        line += len(samples)
        vectors = np.ascontiguousarray(cache.block(shard)[rows]).tobytes()
        yield _Part({VECTORS: vectors, SAMPLES: lines}, shard)


def _sequence_parts(cache: TeacherCache) -> Iterator[_Part]:
    identity, row = cache.identity, 0
    dtype = "float32" if identity.dtype == "uint8" else identity.dtype
    headers = {
        ROWS_FILE: _header(dtype, cache.rows, identity.width),
        OFFSETS: _header("int64", cache.written + 1) + np.int64(0).tobytes(),
        IDS_FILE: _header("int32", cache.rows),
    }
    yield _Part({name: content for name, content in headers.items() if name in _names(cache)})
    for shard, receipt in cache.receipts().items():
        samples, url = cache.shard_samples(shard), cache.manifest.shards[shard].url
        ends = row + np.cumsum([sample["rows"] for sample in samples], dtype=np.int64)
        starts = [row, *ends.tolist()]
        lines = [
            _line(s, start, url, ("rows", "speaker", "recording"))
            for s, start in zip(samples, starts, strict=False)
        ]
        part = _Part({OFFSETS: ends.tobytes(), SAMPLES: b"".join(lines)})
        if identity.kind == "words":
            part.content[WORDS] = b"".join(map(_word_lines, samples))
        yield part
        yield from _rows(cache, shard, receipt, samples)
        row += receipt["rows"]
        yield _Part(shard=shard)


def _rows(
    cache: TeacherCache,
    shard: int,
    receipt: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
) -> Iterator[_Part]:
    """The rows of a shard, storage object by storage object."""
    files = {ROWS: ROWS_FILE, IDS: IDS_FILE}
    names = list(cache.object_names(shard, receipt["rows"]))
    digests = [digest for name in cache.arrays for digest in receipt["objects"][name]]
    for place, ((array_name, name), digest) in enumerate(zip(names, digests, strict=True)):
        array = cache.arrays[array_name]
        content = cache.folder.read(name)
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            raise Damaged(
                f"{cache.location}: storage object {name} is not that of its receipt. `speechkd "
                "cache verify` lists all damage."
            )
        first = place % -(-receipt["rows"] // array.object_rows) * array.object_rows
        stored = np.frombuffer(content, array.stored_dtype).reshape(array.chunk)
        if array_name == ROWS:
            stored = values_in_object(
                cache.identity, samples, stored, cache.rows_of(shard).start + first
            )
        else:
            stored = stored[: receipt["rows"] - first]
        yield _Part({files[array_name]: stored.tobytes()})


def _line(sample: Mapping[str, Any], row: int, url: str, more: Sequence[str] = ()) -> bytes:
    record = {
        "row": row,
        "key": sample["key"],
        "text": sample["text"],
        "duration_s": sample["duration_s"],
        "shard": url,
        **{name: sample[name] for name in more},
    }
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def _word_lines(sample: Mapping[str, Any]) -> bytes:
    lines = [
        {
            "clip": sample["key"],
            "word": word["text"],
            **{name: word[name] for name in ("start_s", "end_s", "trusted")},
        }
        for word in sample["words"]
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _header(dtype: str, *shape: int) -> bytes:
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()
