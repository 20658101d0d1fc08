"""Where a result came from: versions, commit, hardware, command line."""

import functools
import importlib.metadata
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.foundation.untrusted import printable
from pipeline.foundation.workers import cores

LIBRARIES = ("speechkd", "torch", "transformers", "numpy", "zarr", "librosa", "soundfile")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide results."""
    known = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            known[name] = "not installed"
    return known


@functools.cache
def git_commit() -> str | None:
    """Commit of the checkout that this code runs from, with `-dirty` for local changes, or None."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def hardware() -> dict[str, Any]:
    """Processor, cores and accelerators of this machine."""
    import torch

    return {
        "machine": platform.machine(),
        "cores": cores(),
        "torch_threads": torch.get_num_threads(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def record() -> dict[str, Any]:
    """Everything about this process that a reader of its results may ask for."""
    return {
        "argv": [printable(word) for word in sys.argv],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "git_commit": git_commit(),
        "versions": versions(),
        "hardware": hardware(),
    }
