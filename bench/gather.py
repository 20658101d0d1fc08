"""How fast rows of random clips are gathered, at how many bytes, from disk and from S3.

    python bench/gather.py --clips 1000 10000 100000
    python bench/gather.py --clips 1000 10000 --s3 URL       # such as http://127.0.0.1:5555 of moto

Caches of random rows are made in a temporary folder, batches of random clips are gathered from them
as training does, and the smallest student's step is timed beside it. Bytes are those that the
kernel counts for this process (/proc/self/io), or that the objects' ranges have. `read_mib` is the
memory that the samples of the cache take, `peak_mib` the most that the process had while it read
them and gathered. With --cold the system is asked to drop the cache's pages first. State the
hardware with every figure.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pipeline.cache.identity import Kind, sequence_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import ShardWriter
from pipeline.corpus.row_batches import RowBatches
from pipeline.corpus.row_corpus import read_rows
from pipeline.foundation.provenance import git_commit, hardware
from pipeline.shards.manifest import Manifest, Shard

SHARD_CLIPS = 1000
KINDS: dict[Kind, tuple[int, int]] = {"words": (34, 384), "whisper-mel": (1400, 80)}
"""Rows and width of a clip of 14 s: tiny.en's words, and log-mel."""


def make_cache(location: str, kind: Kind, clips: int) -> TeacherCache:
    """A cache of random rows; clips of a shard take turns in a few blocks of them."""
    rows, width = KINDS[kind]
    counts = [min(SHARD_CLIPS, clips - first) for first in range(0, clips, SHARD_CLIPS)]
    manifest = Manifest(
        tuple(Shard(f"s-{i:06d}.tar", n, 1, f"{i:064x}") for i, n in enumerate(counts)), "made up"
    )
    identity = sequence_identity(
        kind, width=width, most_rows=rows, hop_samples=0 if kind == "words" else 160, settings={}
    )
    cache = TeacherCache.create_or_open(location, manifest, identity, {})
    block = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float16)
    texts = [f"w{i}" for i in range(rows)]
    words = [
        {"text": text, "start_s": i * 0.4, "end_s": i * 0.4 + 0.3, "trusted": True}
        for i, text in enumerate(texts)
    ]
    record = {"words": words} if kind == "words" else {}
    text = " ".join(texts)[:200]
    for shard, count in enumerate(counts):
        writer = ShardWriter(cache, shard)
        samples = []
        for position in range(count):
            writer.append([position], block, [rows], records=[record])
            key = f"{shard}-{position}"
            samples.append(
                {"position": position, "key": key, "text": text, "duration_s": 14.0,
                 "speaker": None, "recording": key}
            )  # fmt: skip
        writer.finish(samples, [], f"{shard:064x}", 1, {})
    return cache


def bytes_read() -> int:
    """Bytes that this process has asked the kernel for, from pages in memory or from disk."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def memory_mib(name: str) -> float:
    """Memory of this process: VmRSS is that of now, VmHWM the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(":", 1) for line in lines)[name].split()[0]) / 1024


def forget_peak() -> None:
    """Let the kernel count the peak from here on (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def drop_pages(cache: TeacherCache) -> None:
    """Ask the system to forget the pages of a cache's files."""
    for path in (cache.folder.path or Path()).rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def gather(cache: TeacherCache, batch: int, batches: int, *, cold: bool) -> dict[str, float]:
    """Clips per second, time and bytes per clip, and memory, of random batches."""
    forget_peak()
    resident = memory_mib("VmRSS")
    corpus = read_rows({"rows": cache}, held_out_share=0.0, seed=0)
    after_reading = memory_mib("VmRSS")
    row_batches = RowBatches(corpus, batch, seed=0)
    if cold:
        drop_pages(cache)
    at = row_batches.epoch(0)
    clips = batch * min(batches, row_batches.per_epoch)
    started, busy, before = time.perf_counter(), time.process_time(), bytes_read()
    ranges = 0
    for place in range(min(batches, row_batches.per_epoch)):
        ranges += at(place).totals["rows"] * cache.identity.row_bytes
    seconds, processor = time.perf_counter() - started, time.process_time() - busy
    return {
        "clips_per_s": clips / seconds,
        "clips_per_processor_s": clips / processor,
        "ms_per_clip": 1000 * seconds / clips,
        "read_mib": after_reading - resident,
        "peak_mib": memory_mib("VmHWM"),
        "bytes_per_clip": (bytes_read() - before if cache.folder.path else ranges) / clips,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=15)
    parser.add_argument("--cold", action="store_true", help="drop the files' pages first")
    parser.add_argument("--s3", help="URL of an S3 server that has a bucket named bench")
    parser.add_argument("--folder", type=Path, help="where to make the caches")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.s3:
        os.environ["AWS_ENDPOINT_URL"] = options.s3
    figures = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for kind in options.kinds:
            for clips in options.clips:
                name = f"{kind}-{clips}"
                location = f"s3://bench/{name}" if options.s3 else f"{folder}/{name}"
                cache = make_cache(location, kind, clips)
                one = gather(cache, options.batch_size, options.batches, cold=options.cold)
                rows, width = KINDS[kind]
                line = {"kind": kind, "clips": clips, "stored_bytes": rows * width * 2, **one}
                figures.append(line)
                print(
                    json.dumps({k: round(v, 3) if type(v) is float else v for k, v in line.items()})
                )
    if options.out:
        record = {
            "argv": sys.argv,
            "commit": git_commit(),
            "hardware": hardware(),
            "lines": figures,
        }
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
