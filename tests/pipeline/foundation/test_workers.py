"""Worker threads and processes keep the order, and outlive a worker that dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.foundation.workers import ahead, in_order
from tests.helpers.processes import wait_for_end

SLOW_PARENT = """
from itertools import count
from pipeline.foundation.workers import in_order
from tests.pipeline.foundation.test_workers import slow
if __name__ == "__main__":
    for pid in in_order(slow, count(), 2, died=print):
        print(pid, flush=True)
"""


def square(item):
    time.sleep(0.002 * (item % 3))
    return item, item**2, os.getpid()


def slow(item):
    time.sleep(0.02)
    return os.getpid()


def fragile(item):
    if item in (5, 21):
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def dies_once(path):
    if path.exists():
        path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return "lived"


def raising(item):
    raise ValueError(f"item {item}")


def no_death(item):
    raise AssertionError(item)


@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_results_come_in_order(jobs):
    found = list(in_order(square, range(100), jobs, died=no_death))
    assert [result[:2] for result in found] == [(i, i * i) for i in range(100)]
    workers = {result[2] for result in found}
    assert (workers == {os.getpid()}) == (jobs <= 1)
    assert len(workers) <= max(jobs, 1)


def test_items_are_taken_only_a_little_ahead():
    taken = []
    results = in_order(square, (taken.append(i) or i for i in range(100_000)), 2, died=no_death)
    next(results)
    results.close()
    assert len(taken) <= 2 * 3 * 8 + 8


def test_an_item_that_ends_its_worker_costs_only_itself():
    found = list(in_order(fragile, range(40), 2, died=lambda item: f"died {item}"))
    assert found == [f"died {i}" if i in (5, 21) else i for i in range(40)]


def test_a_worker_that_dies_for_another_reason_is_tried_again(tmp_path):
    path = tmp_path / "first"
    path.touch()
    assert list(in_order(dies_once, [path], 2, died=no_death)) == ["lived"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_exception_is_raised_here(jobs):
    with pytest.raises(ValueError, match="item 0"):
        list(in_order(raising, range(3), jobs, died=no_death))


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(SLOW_PARENT)
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_for_end(worker)


def test_ahead_keeps_the_order_takes_little_ahead_and_raises():
    assert list(ahead(lambda x: x * x, range(50), 3)) == [x * x for x in range(50)]
    assert list(ahead(abs, [], 3)) == []
    taken = []
    results = ahead(abs, (taken.append(x) or x for x in range(50)), 3)
    next(results)
    assert len(taken) == 4
    results.close()
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda x: 1 // x, [1, 0], 3))
