"""How the cache's bookkeeping grows with the number of shards: made-up vectors, real files.

    python bench/scale.py --shards 100 1000 10000 --rows 1000 --out FOLDER_OR_URL

Prints a Markdown table of seconds; what is only read is the median of `--repeats`. The last column
is the growth over all columns as a multiple of the growth in shards: 1.0 is linear. Vectors are 8
wide, because the number of shards, rows and objects is measured, not their bytes. Every cache stays
at OUT/shards-N, and one that exists is only read. A cache that is created to time its creation
stays empty at OUT/empty-N-PROCESS.
"""

import argparse
import hashlib
import os
import statistics
import time
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache import verification
from pipeline.cache.identity import vector_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import ShardResult, write_vectors
from pipeline.cluster.shares import ArrayTask, share
from pipeline.foundation.progress import Meter
from pipeline.shards.manifest import Shard, read_manifest, write_manifest

WIDTH = 8
ARRAY_TASKS = 1000  # of the job array whose shares are planned


def timed(call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median of the seconds that a call takes, and its last result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def shard_result(index: int, rows: int, vectors_NE: np.ndarray) -> ShardResult:
    samples = [
        {
            "position": position,
            "key": f"{index:06d}-{position:06d}",
            "text": "some forty tokens would stand here in a real one",
            "duration_s": 14.1,
            "speaker": None,
            "recording": f"{index:06d}",
        }
        for position in range(rows)
    ]
    return ShardResult(vectors_NE, samples, [], digest_of(index), 10_240)


def must(holds: bool, what: str) -> None:
    if not holds:
        raise RuntimeError(f"does not hold: {what}")


def digest_of(index: int) -> str:
    return hashlib.sha256(str(index).encode()).hexdigest()


def measure(
    shards: int, rows: int, out: str, scratch: Path, repeats: int, check: bool
) -> dict[str, float]:
    path = scratch / f"manifest-{shards}.jsonl"
    write_manifest(path, (Shard(f"{i:06d}.tar", rows, 10_240, digest_of(i)) for i in range(shards)))
    identity = vector_identity(
        teacher="made-up", teacher_sha256="0" * 64, d_model=WIDTH, pooling="fixed750"
    )
    location = f"{out}/shards-{shards}"
    seconds = {}
    seconds["read manifest"], manifest = timed(lambda: read_manifest(path), repeats)
    sizes = [shard.bytes for shard in manifest]
    task = ArrayTask(0, ARRAY_TASKS, "")
    seconds["plan: share of an array task"], mine = timed(lambda: share(sizes, task), repeats)

    def created(place: str) -> TeacherCache:
        return TeacherCache.create_or_open(place, manifest, identity, {})

    seconds["create"], _ = timed(lambda: created(f"{out}/empty-{shards}-{os.getpid()}"))
    cache = created(location)
    vectors_NE = np.random.default_rng(0).standard_normal((rows, WIDTH)).astype(np.float32)
    done = cache.finished()
    start = time.perf_counter()
    # nobody would miss this cache after a power cut, so its files need not be forced to the disk
    with (
        unittest.mock.patch("pipeline.foundation.atomic.sync"),
        Meter(f"filling {shards} shards", shards, "shards", done=len(done)) as meter,
    ):
        for index in range(shards):
            if index not in done:
                write_vectors(cache, index, shard_result(index, rows, vectors_NE), {})
                meter.advance(1)
    if len(done) < shards:
        seconds["fill (no fsync)"] = time.perf_counter() - start

    def opened() -> TeacherCache:
        return TeacherCache.open(location)

    seconds["open"], _ = timed(opened, repeats)
    seconds["plan: receipts of an array task"], _ = timed(lambda: opened().receipts(mine), repeats)
    seconds["status: shards finished"], finished = timed(lambda: opened().finished(), repeats)
    must(len(finished) == shards, "every shard is finished")
    seconds["read all receipts"], receipts = timed(lambda: opened().receipts(), repeats)
    must(len(receipts) == shards, "every shard has a receipt")
    seconds["statistics"], merged = timed(lambda: opened().statistics(), repeats)
    must(merged.count == shards * rows, "every row is counted")
    if check:
        seconds["verify"], events = timed(lambda: list(verification.verify(opened(), tars=False)))
        damage = [event for event in events if isinstance(event, verification.Damage)]
        must(not damage, "the cache is sound")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--rows", type=int, default=1000, help="rows per shard")
    parser.add_argument("--out", required=True, help="folder or URL for the caches")
    parser.add_argument("--scratch", type=Path, default=Path(), help="folder for the manifests")
    parser.add_argument("--repeats", type=int, default=3, help="of what only reads")
    parser.add_argument("--verify", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    columns = {
        n: measure(n, options.rows, options.out, options.scratch, options.repeats, options.verify)
        for n in options.shards
    }
    first, last = options.shards[0], options.shards[-1]
    print("| seconds | " + " | ".join(f"{n:,} shards" for n in columns) + " | growth |")
    print("|---|" + "---:|" * (len(columns) + 1))
    for name in columns[first]:
        growth = columns[last][name] / max(columns[first][name], 1e-9) / (last / first)
        row = [f"{column[name]:.3g}" for column in columns.values()]
        print(f"| {name} | " + " | ".join([*row, f"{growth:.2g}"]) + " |")


if __name__ == "__main__":
    main()
