"""How fast `shard` packs Parquet files, against the same clips as FLAC files, in one run.

    python bench/shard.py                     # 256 clips of 15 s, in one process
    python bench/shard.py --clips 4096 --files 16 --workers 8

The two take turns for several rounds, and the best round of each counts, because a shared machine
can only slow a round down. In one process (--workers 0) the processor's time is told as well, which
is the steadier of the two. It is that of the process that Arrow runs in, too, from its start.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from pipeline.foundation import progress
from pipeline.foundation.guarded import end_idle
from pipeline.foundation.provenance import git_commit, hardware
from pipeline.foundation.units import CLIP_SAMPLES, SAMPLE_RATE_HZ
from pipeline.shards.decoding import encode_flac
from pipeline.shards.settings import ShardSettings
from stages.shard import run

DIFFERENT = 16  # clips; the others repeat them


def flacs() -> list[bytes]:
    """Made-up speech: a buzz that rises and falls, with pauses and noise."""
    rng = np.random.default_rng(0)
    time_S = np.arange(CLIP_SAMPLES) / SAMPLE_RATE_HZ
    clips = []
    for _ in range(DIFFERENT):
        pitch_S = rng.uniform(90, 250) + 40 * np.sin(rng.uniform(2, 5) * time_S)
        phase_S = 2 * np.pi * np.cumsum(pitch_S) / SAMPLE_RATE_HZ
        voice_S = np.sum([np.sin(k * phase_S) / k for k in range(1, 20)], axis=0)
        loud_S = np.clip(np.sin(rng.uniform(5, 12) * time_S), 0, None)
        wave_S = 0.1 * voice_S * loud_S + 0.004 * rng.standard_normal(CLIP_SAMPLES)
        clips.append(encode_flac(wave_S.astype(np.float32)))
    return clips


def write_corpora(folder: Path, clips: int, files: int) -> None:
    """The same clips twice: as FLAC files with texts beside them, and in Parquet files."""
    sounds = flacs()
    rows: list[dict[str, Any]] = [
        {
            "id": f"{i:06d}",
            "audio": {"bytes": sounds[i % DIFFERENT], "path": ""},
            "text": f"clip {i}",
        }
        for i in range(clips)
    ]
    (folder / "flac").mkdir()
    (folder / "parquet").mkdir()
    for row in rows:
        (folder / "flac" / f"{row['id']}.flac").write_bytes(row["audio"]["bytes"])
        (folder / "flac" / f"{row['id']}.txt").write_text(row["text"])
    for i in range(files):
        table = pyarrow.Table.from_pylist(rows[i * clips // files : (i + 1) * clips // files])
        path = folder / "parquet" / f"train-{i:05d}-of-{files:05d}.parquet"
        parquet.write_table(table, path, row_group_size=100)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the wall clock, and on the processor, of this process and of those it starts."""
    wall, processor = time.monotonic(), processor_seconds()
    call()
    wall = time.monotonic() - wall
    end_idle()  # only what has ended is counted
    return wall, processor_seconds() - processor


def processor_seconds() -> float:
    ours, others = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + others.ru_utime + others.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    best: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, progress.silenced(True):
        folder = Path(name)
        write_corpora(folder, options.clips, options.files)
        for number in range(options.rounds):
            for kind in ("flac", "parquet"):
                out = folder / f"{kind}-{number}"
                settings = ShardSettings(
                    source=str(folder / kind), out=out, workers=options.workers
                )
                wall, processor = timed(partial(run, settings))
                least = best.setdefault(kind, [wall, processor])
                best[kind] = [min(least[0], wall), min(least[1], processor)]
    rates = {kind: options.clips / seconds[0] for kind, seconds in best.items()}
    record = {
        "commit": git_commit(),
        "hardware": hardware(),
        "cores": len(os.sched_getaffinity(0)),
        "clips": options.clips,
        "files": options.files,
        "clips_per_s": rates,
        "workers": options.workers,
        "parquet_over_flac": rates["parquet"] / rates["flac"],
        **(
            {"by_processor_time": best["flac"][1] / best["parquet"][1]}
            if options.workers == 0
            else {}
        ),
    }
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
