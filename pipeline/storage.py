"""Disks and object storage: streams that survive a hiccup, folders of whole-or-absent files."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from pipeline import atomic
from pipeline.errors import SpeechkdError
from pipeline.progress import say

Result = TypeVar("Result")

# Only schemes that name stored bytes. What runs a command (`pipe:`), reads code or chains other
# locations (`::`) is refused, for locations come out of files that somebody else may have made.
SCHEMES = (
    *("file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf"),
    *("http", "https", "hdfs", "webhdfs", "sftp", "memory"),
)
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.5  # doubled after each failure
LEFTOVER_SECONDS = 3600
BLOCK_BYTES = 8 * 2**20
# Errors that trying again does not mend.
LASTING = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    SpeechkdError,
    ImportError,
    TypeError,
    ValueError,
)


def scheme_of(location: str) -> str:
    """The scheme of a path or URL (`file` for a path).

    Raises:
        SpeechkdError: it runs a command, chains locations, or is of no known scheme.
    """
    scheme, found, _ = location.partition("://")
    if location.startswith("pipe:") or "::" in location:
        raise SpeechkdError(
            f"{location}: locations that run a command or chain others are refused. Name a path "
            "or a plain URL."
        )
    if not found:
        return "file"
    if scheme not in SCHEMES:
        raise SpeechkdError(f"{location}: unknown scheme {scheme!r}; known: {', '.join(SCHEMES)}.")
    return scheme


def local_path(location: str) -> Path | None:
    """The path that a location names, or None where it is not on a disk here."""
    return Path(location.removeprefix("file://")) if scheme_of(location) == "file" else None


def absolute(location: str) -> str:
    """The location, independent of the current folder."""
    path = local_path(location)
    return location if path is None else str(path.absolute())


def retried(call: Callable[[], Result], what: str) -> Result:
    """Return `call()`, tried again with growing pauses while it fails for a passing reason.

    Raises:
        Exception: whatever the fifth failure raised, or the first that cannot pass.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except LASTING:
            raise
        except Exception as error:  # each storage library has its own kinds
            pause = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
            say(f"{what}: {type(error).__name__}: {error}; trying again in {pause:g} s")
            time.sleep(pause)
    return call()


def read_file(location: str) -> bytes:
    """Content of a file on a disk or in object storage.

    Raises:
        OSError: as `Path.read_bytes` does, `FileNotFoundError` among them.
        SpeechkdError: a location that is refused, or whose package is missing.
    """
    path = local_path(location)
    if path is not None:
        return path.read_bytes()
    found, name = filesystem(location)
    content: bytes = retried(lambda: found.cat_file(name), location)
    return content


def file_size(location: str) -> int:
    """Size of a file in bytes.

    Raises:
        SpeechkdError: there is no such file, or it may not be read.
    """
    path = local_path(location)
    try:
        if path is not None:
            return path.stat().st_size
        found, name = filesystem(location)
        return int(retried(lambda: found.info(name), location)["size"])
    except (FileNotFoundError, PermissionError) as error:
        raise _unreadable(location, error) from None


@contextmanager
def open_stream(location: str) -> Iterator[BinaryIO]:
    """Open a file for reading from start to end.

    Raises:
        SpeechkdError: there is no such file, or it may not be read.
    """
    path = local_path(location)
    try:
        if path is not None:
            with path.open("rb") as file:
                yield file
        else:
            yield _RemoteStream(location)  # type: ignore[misc]
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise _unreadable(location, error) from None


def _unreadable(location: str, error: OSError) -> SpeechkdError:
    return SpeechkdError(
        f"{location} cannot be read ({type(error).__name__}). Put it there, or correct the "
        "manifest that lists it."
    )


class _RemoteStream:
    """A remote file read forwards in large blocks, each fetched anew where fetching fails."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._filesystem, self._path = filesystem(location)
        self._size = file_size(location)
        self._fetched = 0
        self._block = io.BytesIO()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        content = self._block.read(size)
        while len(content) < size and self._fetched < self._size:
            self._block = io.BytesIO(retried(self._next_block, self._location))
            content += self._block.read(size - len(content))
        return content

    def _next_block(self) -> bytes:
        stop = min(self._fetched + BLOCK_BYTES, self._size)
        block: bytes = self._filesystem.cat_file(self._path, start=self._fetched, end=stop)
        if len(block) != stop - self._fetched:
            raise OSError(f"got {len(block)} bytes at {self._fetched}, not {stop - self._fetched}")
        self._fetched = stop
        return block


def filesystem(location: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        SpeechkdError: the library for this kind of storage is not installed.
    """
    scheme = scheme_of(location)
    try:
        found, path = fsspec.core.url_to_fs(location)
    except ImportError as error:
        raise SpeechkdError(f"{location}: {scheme}:// needs another package: {error}") from None
    return found, path


class Folder:
    """Named files under one location.

    Args:
        location: a path, or a URL of any scheme that fsspec knows (`s3://`, `gs://`, `hf://`,
            `file://`, …).

    Raises:
        SpeechkdError: a location that is refused (`scheme_of`), or whose package is missing.
    """

    def __init__(self, location: str | Path) -> None:
        self.location = str(location).rstrip("/")
        self.path = local_path(self.location)
        if self.path is None:
            self._filesystem, self._root = filesystem(self.location)

    def read(self, name: str) -> bytes | None:
        """Content of a file, or None where there is no such file."""
        try:
            if self.path is not None:
                return (self.path / name).read_bytes()
            content: bytes = retried(
                lambda: self._filesystem.cat_file(f"{self._root}/{name}"), self.location
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        return content

    def read_many(self, names: list[str]) -> dict[str, bytes]:
        """Content of several files, fetched at once where they are remote; absent ones left out."""
        if self.path is not None:
            contents = {name: self.read(name) for name in names}
            return {name: content for name, content in contents.items() if content is not None}
        paths = {f"{self._root}/{name}": name for name in names}
        if not paths:
            return {}
        fetched: dict[str, Any] = retried(
            lambda: self._filesystem.cat(list(paths), on_error="return"), self.location
        )
        found = {}
        for path, content in fetched.items():
            name = paths.get(path) or path.removeprefix(f"{self._root}/")
            if isinstance(content, bytes):
                found[name] = content
            elif not isinstance(content, FileNotFoundError):
                found[name] = self.read(name) or b""
        return found

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all; on a disk it has reached the disk on return."""
        if self.path is not None:
            atomic.write_bytes(self.path / name, content)
        else:
            retried(
                lambda: self._filesystem.pipe_file(f"{self._root}/{name}", content), self.location
            )

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        if self.path is not None:
            return (self.path / name).is_file()
        return bool(retried(lambda: self._filesystem.exists(f"{self._root}/{name}"), self.location))

    def size(self) -> int:
        """Bytes in all files of the folder."""
        if self.path is not None:
            return sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())
        return int(retried(lambda: self._filesystem.du(self._root), self.location))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.path is not None:
            try:
                (self.path / name).unlink()
            except FileNotFoundError:
                return
            atomic.sync((self.path / name).parent)
        elif self.exists(name):
            retried(lambda: self._filesystem.rm_file(f"{self._root}/{name}"), self.location)

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files in a sub-folder; none where there is no such folder."""
        if self.path is not None:
            found = [p.name for p in (self.path / folder).glob("*") if p.is_file()]
        else:
            try:
                self._filesystem.invalidate_cache()
                listed = retried(
                    lambda: self._filesystem.ls(f"{self._root}/{folder}", detail=False),
                    self.location,
                )
            except FileNotFoundError:
                listed = []
            found = [name.rpartition("/")[2] for name in listed]
        return sorted(name for name in found if name and not name.startswith("."))

    def sync(self, name: str) -> None:
        """Force a file that another library has written to the disk; object stores need no call.

        Its folder and the one above, which may be new, too: else the name could be lost.
        """
        if self.path is not None:
            path = self.path / name
            for part in (path, path.parent, path.parent.parent):
                atomic.sync(part)

    def remove_leftovers(self) -> None:
        """Remove half-written files of processes that were killed over an hour ago.

        Younger ones may be those of a task at work; in object storage there are none.
        """
        if self.path is None:
            return
        for path in self.path.rglob("*.partial"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    path.unlink()

    def zarr_store(self) -> Any:
        """The same folder as a store for Zarr."""
        from zarr.storage import FsspecStore, LocalStore

        if self.path is not None:
            return LocalStore(self.path)
        return FsspecStore.from_url(self.location)
