"""What ends its process ends another one, and is told by name; the rest comes as it is."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.guarded import guarded, guarded_call
from pipeline.foundation.workers import in_order
from tests.helpers.processes import wait_for_end

ROOT = Path(__file__).parents[3]


def numbers(first, stop, *, step=1):
    for number in range(first, stop, step):
        yield number, os.getpid()


def pid():
    return os.getpid()


def environment(name):
    return os.environ.get(name)


def dies(by):
    yield "before"
    if by == "segment":
        ctypes.string_at(0)
    if by == "status":
        os._exit(3)
    os.kill(os.getpid(), by)
    time.sleep(60)


def raises(error):
    yield 1
    raise error


def endless():
    while True:
        yield b"x" * 100_000


def in_worker(_):
    return guarded_call("x", pid) == os.getpid()


def test_items_come_in_order_from_another_process_that_serves_again():
    found = list(guarded("x", numbers, 2, 50, step=3))
    assert [number for number, _ in found] == list(range(2, 50, 3))
    assert {by for _, by in found} == {guarded_call("x", pid)} != {os.getpid()}
    assert list(guarded("x", numbers, 0, 0)) == []


@pytest.mark.parametrize(
    ("by", "kind", "words"),
    [
        ("segment", Damaged, "died of SIGSEGV"),
        ("status", Damaged, "died with status 3"),
        (signal.SIGABRT, Damaged, "died of SIGABRT"),
        (signal.SIGKILL, SpeechkdError, "ended by SIGKILL, perhaps because memory ran out"),
    ],
)
def test_a_death_is_an_error_that_names_the_input(by, kind, words):
    items = guarded("a/b.parquet", dies, by)
    assert next(items) == "before"
    with pytest.raises(SpeechkdError, match=rf"^a/b\.parquet.*{words}") as raised:
        next(items)
    assert type(raised.value) is kind
    assert guarded_call("x", pid) != os.getpid()  # the next one has a new process


@pytest.mark.parametrize("error", [NotThere("no file"), ValueError("a defect"), KeyError(3)])
def test_errors_come_here_and_the_process_lives_on(error):
    before = guarded_call("x", pid)
    items = guarded("x", raises, error)
    assert next(items) == 1
    with pytest.raises(type(error), match=str(error)) as raised:
        next(items)
    where = "".join(getattr(raised.value, "__notes__", []))
    assert ("in raises" in where) == (not isinstance(error, SpeechkdError))
    assert guarded_call("x", pid) == before


def test_what_nobody_waits_for_any_more_is_ended():
    with closing(guarded("x", endless)) as items:
        assert len(list(islice(items, 3))) == 3
    assert guarded_call("x", pid)


def test_the_environment_is_that_of_the_moment_when_the_process_starts(monkeypatch):
    with closing(guarded("x", endless)) as items:
        next(items)  # so that the next call needs a new process
        monkeypatch.setenv("SPEECHKD_TEST", "set late")
        assert guarded_call("x", environment, "SPEECHKD_TEST") == "set late"


def test_a_worker_is_not_guarded_again():
    def no_death(item):
        raise AssertionError(item)

    assert list(in_order(in_worker, range(2), 2, died=no_death)) == [True, True]


def test_it_starts_without_the_main_module(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        "import os\n"
        "from pipeline.foundation.guarded import guarded_call\n"
        "print('main')\n"
        "if __name__ == '__main__':\n"
        "    assert guarded_call('x', os.getpid) != os.getpid()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, check=True
    )
    assert (run.stdout, run.stderr) == ("main\n", "")


def test_it_ends_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from pipeline.foundation.guarded import guarded_call\n"
        "from tests.pipeline.foundation.test_guarded import pid\n"
        "if __name__ == '__main__':\n"
        "    print(guarded_call('x', pid), flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_for_end(child)
