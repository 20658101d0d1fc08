"""What holds for all tests: one thread per process, and names that every process gives alike.

The tensors of tests are tiny: several threads wait for each other longer than they compute, and
twenty times as long where other work keeps the cores busy.
"""

import os
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported


def pytest_make_parametrize_id(val: Any) -> str | None:
    """Name a set by its members in order, and bytes by their number.

    Several processes have to agree on the names; sets have no order, and some WAVs tell the time.
    """
    if isinstance(val, bytes):
        return f"{len(val)} bytes"
    if isinstance(val, set):
        return "{" + ", ".join(sorted(map(str, val))) + "}"
    return str(val) if isinstance(val, dict | list) else None
