"""Folders that are made once, whole or not at all, and then shared by all processes."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.foundation import atomic
from pipeline.foundation.progress import say


def made_once(folder: Path, fill: Callable[[Path], None], what: str) -> Path:
    """Return the folder, made by `fill` if it is not there yet.

    One process makes it, the others wait. Where the file system knows no locks several may make
    it; the first is kept, for all make the same. A process that is killed leaves nothing that
    counts, and the next maker removes it.

    Args:
        folder: where it is, or is to be; what it is made of must be part of its name.
        fill: writes the files into the empty folder that it is given.
        what: is made, for the message to those who wait.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(f".{folder.name}.lock"), what) as alone:
        if folder.is_dir():
            return folder
        if alone:
            for stale in folder.parent.glob(f".{folder.name}.*.partial"):
                shutil.rmtree(stale, ignore_errors=True)
        aside = Path(
            tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent)
        )
        try:
            fill(aside)
            aside.chmod(0o755)
            for file in (*aside.rglob("*"), aside):
                atomic.sync(file)
            aside.rename(folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            if not folder.is_dir():  # else another process was first
                raise
        atomic.sync(folder.parent)
    return folder


@contextmanager
def _alone(file: Path, what: str) -> Iterator[bool]:
    """Hold a lock, waiting for it; yields whether this file system gives locks at all."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{what}: another process is at it; waiting")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # no locks here
            yield False
            return
        yield True
    finally:
        os.close(handle)
