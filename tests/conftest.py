"""What holds for all tests: one thread per process, names that every process gives alike, an order.

The tensors of tests are tiny: several threads wait for each other longer than they compute, and
twenty times as long where other work keeps the cores busy.
"""

import os
from collections import Counter
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

LONGEST_FIRST = (
    "tests/planted/test_it_distils.py",
    "tests/stages/test_slurm.py",
    "tests/rehearsal/test_half_hour.py",
    "tests/planted/test_words.py",
    "tests/stages/test_distill.py",
    "tests/rehearsal/test_rehearsal.py",
    "tests/faults/test_machine.py",
    "tests/stages/test_extract_scale.py",
    "tests/robustness/test_bombs.py",
    "tests/fuzz/test_fuzz.py",
    "tests/pipeline/foundation/test_storage.py",
    "tests/stages/test_extract_sequences.py",
    "tests/stages/test_extract_teacher.py",
    "tests/faults/test_object_storage.py",
    "tests/pipeline/models/test_compiled.py",
)
"""Files of tests that take half a minute or more, the longest first."""


def pytest_make_parametrize_id(val: Any) -> str | None:
    """Name a set by its members in order, and bytes by their number.

    Several processes have to agree on the names; sets have no order, and some WAVs tell the time.
    """
    if isinstance(val, bytes):
        return f"{len(val)} bytes"
    if isinstance(val, set):
        return "{" + ", ".join(sorted(map(str, val))) + "}"
    return str(val) if isinstance(val, dict | list) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, because what several processes begin last ends last.

    Files that `LONGEST_FIRST` does not name follow by their numbers of tests.
    """
    files = Counter(item.nodeid.partition("::")[0] for item in items)
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}

    def order(item: pytest.Item) -> tuple[int, int, str]:
        name = item.nodeid.partition("::")[0]
        return place.get(name, len(place)), -files[name], name

    items.sort(key=order)
