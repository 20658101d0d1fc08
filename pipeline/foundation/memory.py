"""How much memory this process may still take, and how much it has."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
DEVICE_SHARE = 0.5
"""Share of a device's free memory that vectors may take."""
HOST_SHARE = 0.5
"""Share of the machine's free memory that they may take, over all processes on it."""


@dataclass(frozen=True)
class Room:
    """Memory that tokens and vectors may take; on a device vectors alone.

    Attributes:
        device_bytes: on the device.
        host_bytes: of the machine, for this process.
    """

    device_bytes: int
    host_bytes: int

    @classmethod
    def measured(cls, device: torch.device) -> "Room":
        """The shares of what is free now."""
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        host = HOST_SHARE * available_bytes() / neighbours
        return cls(int(DEVICE_SHARE * free), int(host))


def available_bytes(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """Memory that this process may take without swapping or being killed.

    What the machine has free, or less where a control group (of Slurm, a container) allows less.
    """
    return max(0, min([_of_machine(proc), *_of_groups(proc, groups)]))


def resident_bytes(proc: Path = PROC) -> int:
    """Memory that this process holds, without mapped files; 0 where the system does not say."""
    try:
        return _kilobytes(proc / "self" / "status", "RssAnon") * 1024
    except (OSError, KeyError):
        return 0


def _of_machine(proc: Path) -> int:
    try:
        return _kilobytes(proc / "meminfo", "MemAvailable") * 1024
    except (OSError, KeyError):  # not Linux: all of the memory is the best that is known
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _kilobytes(file: Path, name: str) -> int:
    lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    fields = {key: value for key, _, value in (line.partition(":") for line in lines)}
    return int(fields[name].split()[0])


def _of_groups(proc: Path, groups: Path) -> Iterator[int]:
    """What the control groups of this process and all above them still allow (cgroup v1 and v2)."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, usage, idle = groups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, usage = groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            idle = "total_inactive_file"
        else:
            continue
        inner = root / path.lstrip("/")
        for group in (inner, *inner.parents):
            if not group.is_relative_to(root):
                break
            try:
                allowed = (group / limit).read_text(encoding="ascii").strip()
                if allowed == "max":
                    continue
                used = int((group / usage).read_text(encoding="ascii"))
                stat = (group / "memory.stat").read_text(encoding="ascii").splitlines()
            except OSError:  # inside a container the path may be that of the host
                continue
            counts = dict(entry.split(" ", 1) for entry in stat)
            yield int(allowed) - used + int(counts.get(idle, 0))
