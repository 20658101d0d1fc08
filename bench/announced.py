"""What a run says beforehand that it takes of memory at most, beside what it takes.

    python -m bench.announced pretrain splat MELS --text TEXTS --init RUN --out OUT --max-steps 4

Any command that trains follows. It runs by itself, and its peak is that which the system saw.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence

AND_ITS_PEAK = """
import re
from pathlib import Path
from stages.cli import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
"""Of this process alone: what wait4 reports begins with that of the process it came from."""
SAID = re.compile(r"this process holds ([\d.]+) GB now and at most ([\d.]+) GB later")


def memory(words: Sequence[str]) -> dict[str, float]:
    """Run a command; what it held before its first step, what it announced and took, in GB.

    Raises:
        CalledProcessError: it failed; its own words are on standard error.
    """
    done = subprocess.run(
        [sys.executable, "-c", AND_ITS_PEAK, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    said = SAID.findall(done.stderr)[-1]
    now, announced = map(float, said)
    peak = int(done.stdout.split()[-1]) * 1024 / 1e9
    return {
        "before the first step": now,
        "announced": announced,
        "taken": round(peak, 3),
        "announced over taken": round(announced / peak, 3),
    }


if __name__ == "__main__":
    print(json.dumps(memory(sys.argv[1:])))
