"""The memory at hand is that of this machine, this container and this process."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from pipeline.foundation.memory import Room, available_bytes

ROOT = Path(__file__).parents[3]


def test_available_memory_is_that_of_this_machine():
    assert 2**27 < available_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def machine(tmp_path, cgroup="", free_kb=8_000_000):
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {free_kb} kB\n")
    (tmp_path / "self" / "cgroup").write_text(cgroup)
    return tmp_path


def group(folder, *, limit, used, idle, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names[:2], (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {idle}\n")


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def test_without_limits_it_is_what_the_machine_has(tmp_path):
    proc = machine(tmp_path)
    assert available_bytes(proc, tmp_path / "groups") == 8_000_000 * 1024


def test_the_tightest_control_group_counts(tmp_path):
    proc, groups = machine(tmp_path, "0::/job/step\n"), tmp_path / "groups"
    group(groups / "job" / "step", limit="max", used=10, idle=0, names=V2)
    group(groups / "job", limit=4_000_000, used=3_000_000, idle=500_000, names=V2)
    group(groups, limit=9_000_000, used=3_000_000, idle=0, names=V2)
    assert available_bytes(proc, groups) == 1_500_000
    group(groups / "job", limit=4_000_000, used=5_000_000, idle=0, names=V2)
    assert available_bytes(proc, groups) == 0


def test_control_groups_of_the_first_version(tmp_path):
    proc = machine(tmp_path, "5:devices:/\n4:memory:/slurm/job_7\n0::/\n")
    group(tmp_path / "groups/memory/slurm/job_7", limit=2**40, used=9, idle=0, names=V1)
    group(tmp_path / "groups/memory/slurm", limit=700, used=500, idle=50, names=V1)
    assert available_bytes(proc, tmp_path / "groups") == 250


def test_processes_share_the_room(monkeypatch):
    whole = Room.measured(torch.device("cpu"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    quarter = Room.measured(torch.device("cpu"))
    assert whole.device_bytes == quarter.device_bytes == 0
    assert 0.5 < 4 * quarter.host_bytes / whole.host_bytes < 2


def test_resident_memory_grows_with_what_is_held():
    code = (  # in a process of its own, which has no memory to use again
        "import torch\n"
        "from pipeline.foundation.memory import resident_bytes\n"
        "before = resident_bytes()\n"
        "block = torch.ones(2**26, dtype=torch.uint8)\n"
        "print(resident_bytes() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert 0.9 * 2**26 < int(done.stdout) < 1.5 * 2**26
