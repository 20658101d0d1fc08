"""Export: a teacher cache becomes `embedding.npy` and `samples.jsonl`, for any program to read."""

import io
import json
from collections.abc import Iterator
from glob import escape
from pathlib import Path

import numpy as np

from pipeline.cache.store import TeacherCache
from pipeline.foundation.atomic import new_folder, remove_leftovers
from pipeline.foundation.errors import SpeechkdError

VECTORS, SAMPLES = "embedding.npy", "samples.jsonl"


def export(cache: TeacherCache, out: Path) -> Iterator[int]:
    """Write `out/embedding.npy` and `out/samples.jsonl`; yield each shard's number when done.

    Row i of the array belongs to line i of the text file. Both are in manifest order, without
    refused samples. A line has `row` (i), `key`, `text`, `duration_s` and `shard` (the tar's url).
    The folder appears when it is complete. Memory does not grow with the cache.

    If `out` is an export of the same cache already, it is compared and left as it is.

    Raises:
        SpeechkdError: `out` exists and is anything else, or cannot be made.
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
    with (folder / VECTORS).open("wb") as vectors, (folder / SAMPLES).open("wb") as lines:
        vectors.write(_header(cache))
        for shard, vector_bytes, line_bytes in _parts(cache):
            vectors.write(vector_bytes)
            lines.write(line_bytes)
            yield shard


def _compare(cache: TeacherCache, folder: Path) -> Iterator[int]:
    other = SpeechkdError(
        f"{folder} exists and is not the export of this cache; name a new folder, or remove it "
        "first."
    )
    if not all((folder / name).is_file() for name in (VECTORS, SAMPLES)):
        raise other
    with (folder / VECTORS).open("rb") as vectors, (folder / SAMPLES).open("rb") as lines:
        header = _header(cache)
        same = vectors.read(len(header)) == header
        for shard, vector_bytes, line_bytes in _parts(cache):
            same = same and vectors.read(len(vector_bytes)) == vector_bytes
            if not same or lines.read(len(line_bytes)) != line_bytes:
                raise other
            yield shard
        if vectors.read(1) or lines.read(1):
            raise other


def _header(cache: TeacherCache) -> bytes:
    rows = sum(receipt["written"] for receipt in cache.receipts().values())
    shape = (rows, cache.identity.d_model)
    header = {"descr": np.dtype(cache.identity.dtype).str, "fortran_order": False, "shape": shape}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def _parts(cache: TeacherCache) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, vectors and lines of each finished shard, as the files hold them."""
    line = 0
    for shard in cache.receipts():
        samples = cache.shard_samples(shard)
        first_row = cache.rows_of(shard).start
        rows = np.array([sample["row"] - first_row for sample in samples], dtype=np.int64)
        lines = []
        for sample in samples:
            record = {
                "row": line,
                "key": sample["key"],
                "text": sample["text"],
                "duration_s": sample["duration_s"],
                "shard": cache.manifest.shards[shard].url,
            }
            lines.append(json.dumps(record, ensure_ascii=False) + "\n")
            line += 1
        vectors = np.ascontiguousarray(cache.block(shard)[rows]).tobytes()
        yield shard, vectors, "".join(lines).encode()
