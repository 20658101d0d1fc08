"""Processes of tests: they are up in a moment, and what is waited for is bound to come."""

import multiprocessing
import os
import random
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 300.0
"""Only bounds a failure: a loaded machine may take long for what takes a moment on a quiet one."""


def run_and_time(
    words: Sequence[str], **options: Any
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a command; how it ended, and the seconds of processors that it took.

    They are of this child and of those that it waited for, and of no other child of the tests. The
    clock's seconds would depend on what else the machine does.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(words, stdout=out, stderr=errors, **options)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read())
    done = subprocess.CompletedProcess(words, process.returncode, *texts)
    return done, used.ru_utime + used.ru_stime


class Beside(threading.Thread):
    """A function that runs beside a test; what it raises is raised again by whoever asks."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._act = act
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Call the function, and keep what it raises."""
        try:
            self._act()
        except BaseException as error:
            self._error = error

    def ended_well(self) -> None:
        """Wait for its end, and raise what it raised."""
        self.join()
        if self._error is not None:
            raise self._error


@contextmanager
def quick_processes(*modules: str) -> Iterator[None]:
    """A fork server that has these modules imported."""
    forkserver._forkserver._stop()  # another test may have started one without
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *modules])
    forkserver.ensure_running()
    try:
        yield
    finally:
        forkserver._forkserver._stop()


def wait_for(
    condition: Callable[[], Any],
    what: str,
    seconds: float = PATIENCE_SECONDS,
    every: float = 0.02,
) -> Any:
    """Wait until `condition` holds and return what it gave."""
    until = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= until  # so that a pause of this process costs no last look
        if value := condition():
            return value
        if late:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(every)


def state(pid: int) -> str:
    """A letter for what a process does, as proc(5) has it: "T" is stopped; "" if it has ended.

    One that nobody has waited for has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0].replace("Z", "").replace("X", "")


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended that need not be this one's child."""
    wait_for(lambda: not state(pid), f"process {pid} to end")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now.

    They are not among those that the system gives to whoever asks for any, unless it gives nearly
    all: another connection would take such a one before it is used.
    """
    free: list[int] = []
    for port in _in_any_order(_lowest_given()):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise OSError(f"{count} free ports are not to be had")


def _lowest_given() -> int:
    """The first of the ports that the system gives to whoever asks for any."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    return int(given.read_text().split()[0]) if given.exists() else 32_768


def _in_any_order(lowest_given: int) -> list[int]:
    """Ports to try, below those that are given where there are some that need no rights."""
    ports = range(max(1_024, min(lowest_given, 32_768) - 8_000), lowest_given)
    if len(ports) < 1_000:  # a machine for many connections gives from 1,024 on
        ports = range(20_000, 60_000)
    return random.SystemRandom().sample(ports, 1_000)
