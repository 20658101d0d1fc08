"""The machine lets a command down: memory, open files, clock, rights, disk; a worker that dies."""

import os
import random
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress

import pytest

from tests.faults.shim import FAULTS
from tests.faults.sweep import calls_of, faults_of
from tests.faults.workshop import MOSTLY_SLOW, STAGES, content, leftovers, make_old

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def ends_right(warm, shop, stage, out, choice=0):
    """Run once more, undisturbed; what is wrong then."""
    found = faults_of(warm.run(stage.command(out, choice)), (0,))
    make_old(leftovers(out))
    if leftovers(out):
        warm.run(stage.command(out))
    return found + shop.check(stage, out) + [str(path) for path in leftovers(out)]


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_too_little_memory(warm, shop, tmp_path, name):
    """From hardly any to nearly enough, drawn by the seed."""
    stage = shop.need(name)
    here = warm.memory_bytes()
    rng = random.Random(name)
    statuses = set()
    for trial in range(3):
        out = tmp_path / str(trial) / "out"
        more = int(2 ** rng.uniform(20, 27))
        running = warm.run(stage.command(out), limits={"RLIMIT_AS": here + more})
        statuses.add(running.status)
        # a library that cannot say that memory is out may abort, and the dynamic loader ends with
        # 127; threads of libraries complain for themselves before the error and after it
        assert running.status in (0, 1, 127, -signal.SIGABRT), running.said
        loader = re.search("thread-local data: ABORT|lookup error|error while load", running.said)
        assert running.status != 127 or loader, running.said
        named = re.search("^error: .*out of memory", running.said, re.MULTILINE)
        assert running.status != 1 or named, running.said
        assert not ends_right(warm, shop, stage, out), more
    assert statuses & {1, -signal.SIGABRT}


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_the_clock_goes_backwards(warm, shop, tmp_path, name):
    """Each time that it is read it is ten minutes earlier."""
    stage = shop.need(name)
    running = warm.run(stage.command(tmp_path / "out"), clock=600)
    assert not faults_of(running, (0,))
    assert not ends_right(warm, shop, stage, tmp_path / "out")


def set_rights(top, mode):
    """Of a folder and all below it, some of which may go, come or be renamed meanwhile."""
    for folder, _, _ in os.walk(top):
        with suppress(FileNotFoundError):
            os.chmod(folder, mode)  # noqa: PTH101


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_permission_is_lost_in_mid_run_and_given_back(warm, shop, tmp_path, name):
    """For real: folders are made read-only while a command without root's powers works in them."""
    stage = shop.need(name)
    out = tmp_path / "here" / "out"
    out.parent.mkdir()
    rng = random.Random(name)
    for _ in range(3):
        running = warm.start(stage.command(out), powerless=True)
        warm.wait(running, rng.uniform(0, 1))
        set_rights(out.parent, 0o555)
        warm.wait(running)
        set_rights(out.parent, 0o755)
        assert not faults_of(running, (0, 1))
    assert not ends_right(warm, shop, stage, out)


@contextmanager
def small_disk(folder, size):
    folder.mkdir()
    options = f"size={size}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder]).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_a_disk_that_is_too_small_and_then_is_not(warm, shop, tmp_path, name):
    stage = shop.need(name)
    needed = sum(path.stat().st_blocks * 512 for path in stage.reference.rglob("*"))
    with small_disk(tmp_path / "disk", max(4096, needed // 4)) as disk:
        running = warm.run(stage.command(disk / "out"))
        assert not faults_of(running)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert not ends_right(warm, shop, stage, disk / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES[:2])
def test_a_worker_that_dies(warm, shop, tmp_path, name):
    """Any process of work, at any time: its work is done again, or the message says what to do."""
    stage = shop.need(name)
    rng = random.Random(0)
    killed = 0
    for trial in range(20):  # two, but where this process sleeps while a command is at work
        out = tmp_path / str(trial) / "out"
        running = warm.start(stage.command(out, choice=1))
        while warm.wait(running, 0.01) is None:
            others = [pid for pid in running.family() if pid != running.pid]
            if len(others) >= 3 and rng.random() < 0.3:
                with suppress(ProcessLookupError):
                    os.kill(others[-1], signal.SIGKILL)
                    killed += 1
                break
        warm.wait(running)
        assert not faults_of(running, (0, 1))
        assert not ends_right(warm, shop, stage, out)
        if trial and killed:
            return
    pytest.fail("no worker was killed")


@pytest.mark.parametrize("name", MOSTLY_SLOW)
def test_an_output_that_may_only_be_read(warm, shop, tmp_path, name):
    """A finished one: nothing needs to be written, or the message says that it cannot be."""
    stage = shop.need(name)
    shutil.copytree(stage.reference, tmp_path / "out")
    before = content(tmp_path / "out")
    fault = FAULTS["read-only"]
    running = warm.run(stage.command(tmp_path / "out"), fault=fault.order(tmp_path, 1))
    assert not faults_of(running, (0, 1))
    assert content(tmp_path / "out") == before


def test_the_shim_sees_what_a_stage_writes(warm, shop, tmp_path):
    """Each file of the output is opened, written, synced and renamed under the shim's eyes."""
    stage = shop.need("shard")
    calls = calls_of(warm, stage, FAULTS["input/output error"], tmp_path / "count")
    told = "\n".join(calls)
    for path in stage.reference.rglob("*.*"):
        assert f"rename {tmp_path}/count/out/{path.relative_to(stage.reference)}" in told
