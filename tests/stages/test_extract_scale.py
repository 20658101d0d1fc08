"""Stage one's memory and time a clip do not grow with the corpus."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.cache import TeacherCache
from pipeline.manifest import write_manifest
from tests.tars import audio, line, tar_bytes

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


def peak_and_seconds(manifest: Path, cache: Path) -> tuple[int, float]:
    """Peak memory in KiB and wall time of the whole command, everything in one process."""
    arguments = ["extract-teacher", str(manifest), "--cache", str(cache), "--encoder=dummy"]
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.cli", *arguments, "--workers=0", "--devices=cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss, time.monotonic() - start


@pytest.mark.slow
def test_memory_and_time_a_clip_do_not_grow(tmp_path):
    # From about 5,000 clips on: before that the C library's heap still grows towards its plateau
    # (docs/performance.md), by how much depends on how the threads happen to meet.
    found = {}
    for clips in (5_000, 20_000):
        manifest = write_large_corpus(tmp_path / f"corpus{clips}", clips)
        found[clips] = peak_and_seconds(manifest, tmp_path / f"cache{clips}")
        assert TeacherCache.open(tmp_path / f"cache{clips}").written == clips
    print(found)
    assert found[20_000][0] < 1.1 * found[5_000][0]
    assert found[20_000][0] < 2_500_000
    assert found[20_000][1] < 1.5 * 4 * found[5_000][1]  # other users of the machine included
