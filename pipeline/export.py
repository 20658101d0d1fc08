"""A teacher cache → `embedding.npy` and `samples.jsonl`, which anything can read."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.atomic import sync
from pipeline.cache import TeacherCache
from pipeline.errors import SpeechkdError


def export(cache: TeacherCache, out: Path) -> Iterator[int]:
    """Write `out/embedding.npy` and `out/samples.jsonl`; yield each shard's number when done.

    Row i of the array is line i of the text file, in manifest order, refused samples left out.
    A line has `row` (i), `key`, `text`, `duration_s` and `shard` (the tar's url). The folder
    appears when it is complete. Memory does not grow with the cache.

    Raises:
        SpeechkdError: `out` exists.
    """
    if out.exists():
        raise SpeechkdError(f"{out} exists; name a new folder, or remove it first.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise SpeechkdError(f"{out} cannot be made: {error}.") from None
    try:
        yield from _write(cache, aside)
        for file in ("embedding.npy", "samples.jsonl"):
            sync(aside / file)
        aside.chmod(0o755)
        aside.rename(out)
        sync(out.parent)
    except OSError as error:
        raise SpeechkdError(f"{out} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(cache: TeacherCache, folder: Path) -> Iterator[int]:
    receipts = cache.receipts()
    shape = (sum(r["written"] for r in receipts.values()), cache.identity.d_model)
    header = {"descr": np.dtype(cache.identity.dtype).str, "fortran_order": False, "shape": shape}
    row = 0
    with (
        (folder / "embedding.npy").open("wb") as vectors,
        (folder / "samples.jsonl").open("w", encoding="utf-8") as lines,
    ):
        np.lib.format.write_array_header_1_0(vectors, header)
        for shard in receipts:
            samples = cache.shard_samples(shard)
            first_row = cache.rows_of(shard).start
            kept = np.array([sample["row"] - first_row for sample in samples], dtype=np.int64)
            vectors.write(np.ascontiguousarray(cache.block(shard)[kept]).tobytes())
            for sample in samples:
                record = {
                    "row": row,
                    "key": sample["key"],
                    "text": sample["text"],
                    "duration_s": sample["duration_s"],
                    "shard": cache.manifest.shards[shard].url,
                }
                lines.write(json.dumps(record, ensure_ascii=False) + "\n")
                row += 1
            yield shard
