"""What a command announces of its memory, and what the system saw it take."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence

ALLOCATION = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
"""So that glibc keeps little of what was given back, by which equal runs differ."""
AND_ITS_PEAK = """
import re
from pathlib import Path
from stages.cli import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def announced_and_taken(words: Sequence[str]) -> tuple[float, float]:
    """Run a command that trains; the most memory that it announced and its peak, in GB."""
    done = subprocess.run(
        [sys.executable, "-c", AND_ITS_PEAK, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **ALLOCATION},
    )
    assert done.returncode == 0, done.stderr
    announced = re.findall(r"at most ([\d.]+) GB later", done.stderr)[-1]
    return float(announced), int(done.stdout.split()[-1]) * 1024 / 1e9
