"""Stage one's memory and time a clip do not grow with the corpus.

What a worker sends and what an encoder gives are kept or let go apart from each other; so vectors
with a worker and frames without one meet both.
"""

import os
import sys
from pathlib import Path

import pytest

from pipeline.cache.identity import KINDS
from pipeline.cache.store import TeacherCache
from pipeline.shards.manifest import write_manifest
from tests.helpers.processes import run_and_time
from tests.helpers.tars import audio, line, tar_bytes

CLIPS_A_SHARD = 500


def write_large_corpus(folder: Path, clips: int) -> Path:
    """One short recording under many keys."""
    folder.mkdir()
    recording, shards = audio(1_600), []
    for first in range(0, clips, CLIPS_A_SHARD):
        members = []
        for number in range(first, first + CLIPS_A_SHARD):
            members += [(f"{number}.flac", recording), (f"{number}.txt", b"a text of no account")]
        content = tar_bytes(members)
        (folder / f"{first}.tar").write_bytes(content)
        shards.append(line(content, CLIPS_A_SHARD, f"{first}.tar"))
    write_manifest(folder / "manifest.jsonl", shards)
    return folder / "manifest.jsonl"


# The peak of this process alone: what wait4 reports begins with that of the process it came from.
AND_ITS_PEAK = """
import re, sys
from pathlib import Path
from stages.cli import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


COMMANDS = {
    "vectors": ("extract-teacher", "--encoder=dummy"),
    "frames": ("extract-features", "--features=whisper-mel"),
}


# What glibc keeps of memory that was given back makes peaks of equal runs differ by 8 %. With one
# arena, and what is large returned at once, they differ by 1 %.
ALLOCATION = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}

LIMITS_KIB = {"vectors": 400_000, "frames": 550_000}


def peak_and_seconds(kind: str, manifest: Path, cache: Path, workers: int) -> tuple[int, float]:
    """Peak memory of the main process in KiB, and processor time of the whole command."""
    command, option = COMMANDS[kind]
    arguments = [command, str(manifest), "--cache", str(cache), option]
    done, seconds = run_and_time(
        [sys.executable, "-c", AND_ITS_PEAK, *arguments, f"--workers={workers}", "--devices=cpu"],
        env={**os.environ, "OMP_NUM_THREADS": "1", **ALLOCATION},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]), seconds


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
@pytest.mark.parametrize(("kind", "workers"), [("vectors", 1), ("frames", 0)])
def test_memory_and_time_a_clip_do_not_grow(tmp_path, kind, workers):
    found = {}
    for clips in (1_000, 4_000):
        manifest = write_large_corpus(tmp_path / f"corpus{clips}", clips)
        found[clips] = peak_and_seconds(kind, manifest, tmp_path / f"cache{clips}", workers)
        assert TeacherCache.open(tmp_path / f"cache{clips}", kinds=KINDS).written == clips
    print(found)
    assert found[4_000][0] < 1.05 * found[1_000][0]
    # About 290 MB, and 430 with librosa's filters and an open object; hundreds more when each
    # batch's result is kept by itself (extraction.output), or torch's note of each tensor from a
    # worker (batches.load).
    assert found[4_000][0] < LIMITS_KIB[kind]
    assert found[4_000][1] < 1.5 * 4 * found[1_000][1]
