"""Files and folders that are either whole or absent, and locks.

A temporary name, fsync, rename, fsync of the folder above.
"""

import fcntl
import functools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from pipeline.foundation.errors import KEPT, SpeechkdError, first_line, unless_of_memory
from pipeline.foundation.progress import say

ABANDONED_SECONDS = 3600


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it goes.

    The caller writes the temporary file and closes it. Its bytes reach the disk before the
    rename does, so a reader never sees a half-written `path`, whatever kills the process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it becomes `path`, on failure it goes.

    Its files reach the disk before the rename does. What a killed process leaves is called
    `.NAME.….partial`; `remove_leftovers` removes it.

    Args:
        path: the folder to make.
        replace: take the place of a folder that is there. Without it such a folder is kept.

    Raises:
        OSError: the folder cannot be made, or another process has made `path` meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"))
    try:
        yield temporary
        temporary.chmod(0o755)
        for part in (*temporary.rglob("*"), temporary):
            sync(part)
        if replace and path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(path.parent)


def made_once(folder: Path, fill: Callable[[Path], None], what: str) -> Path:
    """Return a folder that all processes share, made by `fill` if it is not there yet.

    One process makes it, the others wait. Where the file system has no locks, several may make
    it; the first is kept, because all make the same. What a killed process leaves does not count,
    and the next maker removes it.

    Args:
        folder: where it is or shall be; what it is made from must be part of its name.
        fill: writes the files into the empty folder that it is given.
        what: names it in the message to those who wait.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"{what}: another process makes it; waiting"
    with locked(folder.with_name(f".{folder.name}.lock"), waiting=waiting) as alone:
        if folder.is_dir():
            return folder
        if alone:
            leftovers = f".{escape(folder.name)}.*.partial"
            remove_leftovers(folder.parent, leftovers, older_than_seconds=0)
        try:
            with new_folder(folder) as temporary:
                fill(temporary)
        except BaseException:
            if not folder.is_dir():  # otherwise another process was first
                raise
    return folder


@contextmanager
def locked(path: Path, *, busy: str = "", waiting: str = "") -> Iterator[bool]:
    """Be alone with `path` while the block runs; yield whether this file system has locks.

    Where it has none, that is said once and the work goes on.

    Args:
        path: a folder that exists, or a file, which is made if it is not there.
        busy: the error's text if another process is there. Without it, wait for that process.
        waiting: what to say before waiting; nothing by default.

    Raises:
        SpeechkdError: another process is there and `busy` is given.
    """
    mode = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(path, mode, 0o644)
    try:
        yield _lock(handle, path, busy, waiting)
    finally:
        os.close(handle)


def _lock(handle: int, path: Path, busy: str, waiting: str) -> bool:
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if busy:
                raise SpeechkdError(busy) from None
            if waiting:
                say(waiting)
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        _warn_without_locks(path if path.is_dir() else path.parent)
        return False
    return True


@functools.cache
def _warn_without_locks(folder: Path) -> None:
    say(f"{folder}: this file system has no locks; run one command at a time on it")


def sync(path: Path) -> None:
    """Force a file's or a folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def explained_write_errors(path: Path) -> Iterator[None]:
    """Within, nothing but writing `path` is done: any error is one of the disk's.

    Libraries in other languages report a full disk as a RuntimeError or a plain Exception.
    """
    try:
        yield
    except Exception as error:
        unless_of_memory(error)
        raise SpeechkdError(
            f"{path} cannot be written: {first_line(error)}. Make room or mend the disk. {KEPT}"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replaced(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any, *, indent: int | None = 2) -> None:
    """Write `content` to `path` as JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def remove_leftovers(
    folder: Path, pattern: str = ".*.partial", *, older_than_seconds: float = ABANDONED_SECONDS
) -> None:
    """Remove half-written files and folders of processes that were killed.

    Args:
        folder: where they are; it may be absent.
        pattern: of their names.
        older_than_seconds: leave younger ones, which may be those of a process at work; 0 where
            there can be no other.
    """
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError, NotADirectoryError):  # another process may be faster
            newest = max(part.lstat().st_mtime for part in (path, *path.rglob("*")))
            if older_than_seconds and time.time() - newest < older_than_seconds:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
