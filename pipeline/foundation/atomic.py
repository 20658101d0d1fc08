"""Files that are either whole or absent: temporary name, fsync, rename, fsync of the folder."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.foundation.errors import KEPT, SpeechkdError

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
    except MemoryError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise SpeechkdError(
            f"{path} cannot be written: {reason}. Make room or mend the disk. {KEPT}"
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
