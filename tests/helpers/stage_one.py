"""Runs of stage one in processes of their own, which may be killed at any moment."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch

from pipeline.extraction.settings import ExtractSettings, FeatureSettings
from tests.helpers.processes import quick_processes


def run_stage(configured: ExtractSettings | FeatureSettings) -> None:
    """Run the command that these are the settings of."""
    from stages import extract_features, extract_teacher

    stage = extract_teacher if isinstance(configured, ExtractSettings) else extract_features
    stage.run(configured)


@contextmanager
def quick_runs(*modules: str) -> Iterator[None]:
    """Within, a run is up in a moment."""
    imports = [
        "pipeline.extraction.running",
        "pipeline.extraction.teacher",
        "pipeline.extraction.features",
        "librosa.filters",
        "safetensors.torch",
    ]
    with quick_processes(__name__, *modules, *imports):
        yield


def in_process(
    configured: ExtractSettings | FeatureSettings, crash_at: int = 0, object_bytes: int = 0
) -> multiprocessing.Process:
    """Start a run in a process of its own.

    Args:
        configured: its settings.
        crash_at: kill it at its n-th sync to disk; 0 for never.
        object_bytes: the most of a storage object; 0 for the usual.
    """
    process = multiprocessing.get_context("forkserver").Process(
        target=run_and_crash, args=(configured, crash_at, object_bytes)
    )
    process.start()
    return process


def killed_at_random_instants(
    configured: Callable[[int], ExtractSettings | FeatureSettings],
    kills: int,
    object_bytes: int = 0,
) -> Iterator[int]:
    """Kill runs at instants drawn from the time that the quickest so far took.

    Args:
        configured: the settings of the n-th run, which has a cache of its own.
        kills: how many, after a first run that nothing disturbs.
        object_bytes: as `in_process` has it.

    Yields:
        The number of each run once it has ended, killed or not.
    """
    usual_seconds, rng, killed = float("inf"), random.Random(0), 0
    for trial in count():
        start = time.monotonic()
        process = in_process(configured(trial), 0, object_bytes)
        process.join(rng.uniform(0, usual_seconds) if trial else None)
        if process.exitcode is None:
            process.kill()
        process.join()
        if process.exitcode == 0:  # it was faster than the instant drawn
            usual_seconds = min(usual_seconds, time.monotonic() - start)
        else:
            assert process.exitcode == -signal.SIGKILL
            killed += 1
        yield trial
        if killed == kills:
            return


def run_and_crash(
    configured: ExtractSettings | FeatureSettings, crash_at: int, object_bytes: int
) -> None:
    """The body of such a process."""
    from pipeline.cache import identity
    from pipeline.foundation import atomic

    torch.set_num_threads(1)
    identity.OBJECT_BYTES = object_bytes or identity.OBJECT_BYTES
    syncs, sync = 0, atomic.sync

    def counted(path: Path) -> None:
        nonlocal syncs
        syncs += 1
        if syncs == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)

    atomic.sync = counted
    run_stage(configured)


def content(cache: Path) -> dict[str, bytes]:
    """Every file of a cache but what a kill may leave half-written under a temporary name."""
    return {
        str(path.relative_to(cache)): path.read_bytes()
        for path in sorted(cache.rglob("*"))
        if path.is_file() and not path.name.endswith(".partial")
    }
