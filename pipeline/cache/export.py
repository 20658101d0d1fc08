"""A teacher cache → `embedding.npy` and `samples.jsonl`, which anything can read."""

import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from glob import escape
from pathlib import Path

import numpy as np

from pipeline.cache.store import TeacherCache
from pipeline.foundation.atomic import remove_leftovers, sync
from pipeline.foundation.errors import SpeechkdError

VECTORS, SAMPLES = "embedding.npy", "samples.jsonl"


def export(cache: TeacherCache, out: Path) -> Iterator[int]:
    """Write `out/embedding.npy` and `out/samples.jsonl`; yield each shard's number when done.

    Row i of the array is line i of the text file, in manifest order, refused samples left out.
    A line has `row` (i), `key`, `text`, `duration_s` and `shard` (the tar's url). The folder
    appears when it is complete. Memory does not grow with the cache.

    An export of the same cache that is there already is left as it is, once it has been compared.

    Raises:
        SpeechkdError: `out` exists and is anything else.
    """
    remove_leftovers(out.parent, f".{escape(out.name)}.*.partial")
    if out.exists():
        yield from _compare(cache, out)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise SpeechkdError(
            f"{out} cannot be made: {error}. Name another folder, or mend that one."
        ) from None
    try:
        yield from _write(cache, aside)
        for file in (VECTORS, SAMPLES):
            sync(aside / file)
        aside.chmod(0o755)
        aside.rename(out)
        sync(out.parent)
    except OSError as error:
        if not out.exists():
            raise SpeechkdError(
                f"{out} cannot be written: {error}. Make room or mend it, and run the same "
                "command again."
            ) from error
        yield from _compare(cache, out)  # another process was first
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
    """Of each finished shard its number, its vectors and its lines."""
    row = 0
    for shard in cache.receipts():
        samples = cache.shard_samples(shard)
        first_row = cache.rows_of(shard).start
        kept = np.array([sample["row"] - first_row for sample in samples], dtype=np.int64)
        lines = []
        for sample in samples:
            record = {
                "row": row,
                "key": sample["key"],
                "text": sample["text"],
                "duration_s": sample["duration_s"],
                "shard": cache.manifest.shards[shard].url,
            }
            lines.append(json.dumps(record, ensure_ascii=False) + "\n")
            row += 1
        vectors = np.ascontiguousarray(cache.block(shard)[kept]).tobytes()
        yield shard, vectors, "".join(lines).encode()
