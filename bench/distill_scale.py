"""Stage two on a made-up cache of ten million rows: how soon it opens, and what memory it takes.

    python bench/distill_scale.py --out FOLDER                  # 10^7 rows × 64, some 7 GB of disk
    python bench/distill_scale.py --out FOLDER --rows 100000    # a trial

Texts have about the paper's number of tokens; vectors are random. `speechkd distill` itself runs as
a user would run it, in processes of its own: once to prepare tokens and vectors, then again. FOLDER
keeps the cache for another try; delete it afterwards.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import unittest.mock
from pathlib import Path

import numpy as np
from transformers import BertTokenizer

from pipeline.cache.identity import vector_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import ShardResult, write_vectors
from pipeline.foundation.progress import Meter
from pipeline.foundation.provenance import git_commit
from pipeline.shards.manifest import Manifest, Shard

ROWS_PER_SHARD = 1000
WORDS = 5000


def make_cache(folder: Path, rows: int, width: int) -> Path:
    """A finished cache; shards of an earlier try stay."""
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(WORDS)]
    texts = [" ".join(rng.choice(words, n)) for n in 2 + rng.binomial(100, 0.4, 20_000)]
    shards = [
        Shard(f"{i:06d}.tar", ROWS_PER_SHARD, 10_240, digest_of(i))
        for i in range(rows // ROWS_PER_SHARD)
    ]
    identity = vector_identity(
        teacher="made-up", teacher_sha256="0" * 64, d_model=width, pooling="fixed750"
    )
    cache = TeacherCache.create_or_open(folder, Manifest(tuple(shards), "manifest"), identity, {})
    done = cache.receipts()
    # nobody would miss this cache after a power cut, so its files need not be forced to the disk
    with (
        unittest.mock.patch("pipeline.foundation.atomic.sync"),
        Meter("making the cache", rows, "rows", done=ROWS_PER_SHARD * len(done)) as meter,
    ):
        for shard in range(len(shards)):
            if shard not in done:
                chosen = rng.integers(0, len(texts), ROWS_PER_SHARD)
                samples = [
                    {
                        "position": position,
                        "key": f"{shard:06d}-{position:06d}",
                        "text": texts[text],
                        "duration_s": 14.1,
                        "speaker": None,
                        "recording": f"{shard:06d}-{position // 10}",
                    }
                    for position, text in enumerate(chosen.tolist())
                ]
                vectors = rng.standard_normal((ROWS_PER_SHARD, width)).astype(np.float32)
                write_vectors(
                    cache, shard, ShardResult(vectors, samples, [], digest_of(shard), 10_240), {}
                )
                meter.advance(ROWS_PER_SHARD)
    return folder


def digest_of(index: int) -> str:
    return hashlib.sha256(str(index).encode()).hexdigest()


def make_tokenizer(folder: Path) -> Path:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(WORDS))]
    BertTokenizer(vocab={p: i for i, p in enumerate(pieces)}).save_pretrained(folder)
    return folder


def distil(arguments: list[str], memory: str = "") -> dict[str, float]:
    """Run the command: seconds in all and until the plan stands, memory announced and peak."""
    script = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "peak = [0, 0]\n"
        "def watch():\n"
        "    while True:\n"
        "        lines = Path('/proc/self/status').read_text().splitlines()\n"
        "        values = {n: v for n, _, v in (x.partition(':') for x in lines)}\n"
        "        for i, name in enumerate(('RssAnon', 'VmRSS')):\n"
        "            peak[i] = max(peak[i], int(values[name].split()[0]) * 1024)\n"
        "        time.sleep(0.01)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        f"{memory}\n"
        "from stages.distill import DistillSettings\n"
        "from stages import cli\n"
        "import torch, transformers, pipeline.distillation.assembly, pipeline.distillation.record\n"
        "start = time.perf_counter()\n"
        "import pipeline.distillation.preflight\n"
        "before = pipeline.distillation.preflight.announce\n"
        "def announce(*a, **k):\n"
        "    print('OPENED', time.perf_counter() - start, flush=True)\n"
        "    before(*a, **k)\n"
        "pipeline.distillation.preflight.announce = announce\n"
        "try:\n"
        "    cli.main()\n"
        "finally:\n"
        "    print('PEAK', *peak, flush=True)\n"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, "distill", *arguments],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    sys.stderr.write(done.stderr)
    opened = re.search(r"^OPENED (\S+)", done.stdout, re.M)
    peak = re.search(r"^PEAK (\d+) (\d+)", done.stdout, re.M)
    announced = re.search(r"at most (\d+\.\d+) GB", done.stderr)
    if not (opened and peak and announced):
        raise SystemExit("the command did not print its plan, its memory and its peak")
    return {
        "command, s": time.perf_counter() - start,
        "opened, s": float(opened[1]),
        "memory announced, GB": float(announced[1]),
        "memory taken, GB": int(peak[1]) / 1e9,
        "with mapped files, GB": int(peak[2]) / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the cache and runs")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--width", type=int, default=64, help="width of the float16 vectors")
    parser.add_argument("--student", default="bert-tiny")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=256, help="clips per batch")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cache = make_cache(options.out / "cache", options.rows, options.width)
    tokenizer = make_tokenizer(options.out / "tokenizer")
    print(
        f"{options.rows:,} rows × {options.width} float16, {options.student}, commit {git_commit()}"
    )

    def arguments(name: str, kd: str) -> list[str]:
        return [
            str(cache), "--out", str(options.out / name), "--kd", kd, "--student", options.student,
            "--tokenizer", str(tokenizer), "--batch-size", str(options.batch_size), "--max-steps",
            str(options.steps), "--resume", "never", "--held-out", "0.0001", "--device", "cpu",
        ]  # fmt: skip

    nothing_free = (
        "import pipeline.foundation.memory; pipeline.foundation.memory.available_bytes = lambda: 0"
    )
    figures = {
        "first start": distil([*arguments("first", "crd"), "--dry-run"]),
        "next start": distil([*arguments("next", "crd"), "--dry-run"]),
        "crd, in memory": distil(arguments("memory", "crd")),
        "crd, memory-mapped": distil(arguments("mapped", "crd"), nothing_free),
        "none": distil(arguments("none", "none")),
    }
    losses = {
        name: [
            json.loads(line)["loss/mlm"]
            for line in (options.out / name / "metrics.jsonl").read_text().splitlines()
            if "loss/mlm" in json.loads(line)
        ]
        for name in ("memory", "mapped")
    }
    if losses["memory"] != losses["mapped"]:
        raise SystemExit("training from mapped files gave other losses")
    columns = list(next(iter(figures.values())))
    print("| | " + " | ".join(columns) + " |\n|---|" + "--:|" * len(columns))
    for name, row in figures.items():
        print(f"| {name} | " + " | ".join(f"{row[c]:.2f}" for c in columns) + " |")


if __name__ == "__main__":
    main()
