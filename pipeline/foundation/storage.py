"""Disks and object storage: locations, and streams that survive a short failure."""

import io
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from pipeline.foundation.errors import (
    KEPT,
    NotThere,
    SpeechkdError,
    Unreachable,
    unless_of_memory,
)
from pipeline.foundation.progress import say
from pipeline.foundation.untrusted import check_size, holds_secret, printable

# Errors of storage libraries that say so, by name: most of the libraries are not installed.
NO_CREDENTIALS = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
    *(
        "ProfileNotFound",
        "NoAuthTokenError",
        "DefaultCredentialsError",
        "ClientAuthenticationError",
    ),
}

Result = TypeVar("Result")

# Only schemes that name stored bytes. What runs a command (`pipe:`), reads code or chains other
# locations (`::`) is refused, because locations come from files that somebody else may have made.
SCHEMES = (
    *("file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf"),
    *("http", "https", "hdfs", "webhdfs", "sftp", "memory"),
)
VERSION_FIELDS = (
    *("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "generation"),
    *("md5Hash", "content_md5", "blob_id"),
)
"""What storage says of a file that another version of it would say otherwise."""
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.5  # doubled after each failure
BLOCK_BYTES = 8 * 2**20
# Errors that another try does not mend.
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


def user_cache() -> Path:
    """The folder for files that can be made again: `$XDG_CACHE_HOME` or `~/.cache`, /speechkd."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speechkd"


def scheme_of(location: str) -> str:
    """The scheme of a path or URL (`file` for a path).

    Raises:
        SpeechkdError: it runs a command, chains locations, holds a secret or has an unknown scheme.
    """
    scheme, separator, _ = location.partition("://")
    if holds_secret(location):
        raise SpeechkdError(
            f"{printable(location)}: a password or signature in a URL is refused, because it would "
            "end in logs and records. Give it by the environment, as the storage's own library "
            "reads it."
        )
    if location.startswith("pipe:") or "::" in location:
        raise SpeechkdError(
            f"{location}: locations that run a command or chain others are refused. Name a path "
            "or a plain URL."
        )
    if not separator:
        return "file"
    if scheme not in SCHEMES:
        raise SpeechkdError(f"{location}: unknown scheme {scheme!r}; known: {', '.join(SCHEMES)}.")
    return scheme


def local_path(location: str) -> Path | None:
    """The path that a location names, or None if it is not on a disk of this machine."""
    return Path(location.removeprefix("file://")) if scheme_of(location) == "file" else None


def absolute(location: str) -> str:
    """The location, independent of the current folder."""
    path = local_path(location)
    return location if path is None else str(path.absolute())


def retried(call: Callable[[], Result], what: str) -> Result:
    """Return `call()`; while it fails for a reason that may pass, try again after a pause.

    Raises:
        Exception: the first failure that trying again cannot mend.
        Unreachable: it has failed five times.
    """
    for attempt in itertools.count(1):
        try:
            return call()
        except LASTING:
            raise
        except Exception as error:  # each storage library has its own kinds
            unless_of_memory(error)
            if type(error).__name__ in NO_CREDENTIALS:
                raise Unreachable(
                    f"{what}: {type(error).__name__}: {error}. No credentials were found: set them "
                    "as the storage's own tools read them (for s3:// AWS_PROFILE, or "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)."
                ) from error
            if attempt == ATTEMPTS:
                raise Unreachable(
                    f"{what}: {type(error).__name__}: {error}; tried {ATTEMPTS} times. Check the "
                    f"network and the storage. {KEPT}"
                ) from error
            pause = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
            say(f"{what}: {type(error).__name__}: {error}; trying again in {pause:g} s")
            time.sleep(pause)
    raise AssertionError("unreachable")


def read_file(location: str) -> bytes:
    """Content of a text file on a disk or in object storage.

    Raises:
        OSError: as `Path.read_bytes` does, `FileNotFoundError` among them.
        Unreachable: the storage does not answer.
        SpeechkdError: the location is refused, its package is missing, or the file is too large.
    """
    path = local_path(location)
    if path is not None:
        check_size(location, path.stat().st_size)
        return path.read_bytes()
    files, name = filesystem(location)
    check_size(location, retried(lambda: files.info(name), location)["size"] or 0)
    content: bytes = retried(lambda: files.cat_file(name), location)
    return content


def file_size(location: str) -> int:
    """Size of a file in bytes.

    Raises:
        NotThere: there is no such file.
        Unreachable: the file may not be read, or the storage does not answer.
    """
    path = local_path(location)
    try:
        if path is not None:
            return path.stat().st_size
        files, name = filesystem(location)
        return int(retried(lambda: files.info(name), location)["size"])
    except (FileNotFoundError, PermissionError) as error:
        raise _unreadable(location, error) from None


def file_version(location: str) -> str:
    """What tells this version of a file from others; "" where the storage has no such thing.

    Raises:
        NotThere: there is no such file.
        Unreachable: the file may not be read, or the storage does not answer.
    """
    path = local_path(location)
    try:
        if path is not None:
            status = path.stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        files, name = filesystem(location)
        info = retried(lambda: files.info(name), location)
    except (FileNotFoundError, PermissionError) as error:
        raise _unreadable(location, error) from None
    told = {field: str(info[field]) for field in VERSION_FIELDS if info.get(field)}
    return f"{info.get('size')} {told}" if told else ""


@contextmanager
def open_stream(location: str) -> Iterator[BinaryIO]:
    """Open a file for reading from start to end.

    Raises:
        NotThere: there is no such file.
        Unreachable: the file may not be read, or the storage does not answer.
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
    kind = Unreachable if isinstance(error, PermissionError) else NotThere
    return kind(
        f"{location} cannot be read ({type(error).__name__}). Put it there, or correct the "
        "manifest that lists it."
    )


class _RemoteStream:
    """A remote file read forwards in large blocks, each fetched again if fetching fails."""

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


class RemoteFile(io.RawIOBase):
    """A remote file of which parts are read in any order; each read fetches what it asks for.

    For readers that know what they want, such as pyarrow. A read that fails is tried again.

    Raises:
        NotThere: there is no such file.
        Unreachable: the file may not be read, or the storage does not answer.
    """

    def __init__(self, location: str) -> None:
        super().__init__()
        self._location = location
        self._filesystem, self._path = filesystem(location)
        self._size, self._position = file_size(location), 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """Any part of it can be read."""
        return True

    def tell(self) -> int:
        """The place of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the place of the next read."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, begin + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        start = self._position
        stop = self._size if size < 0 else min(start + size, self._size)
        if start >= stop:
            return b""
        content: bytes = retried(lambda: self._fetched(start, stop), self._location)
        self._position = stop
        return content

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as `io.RawIOBase` does."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _fetched(self, start: int, stop: int) -> bytes:
        content: bytes = self._filesystem.cat_file(self._path, start=start, end=stop)
        if len(content) != stop - start:
            raise OSError(f"got {len(content)} bytes at {start}, not {stop - start}")
        return content


def files_below(location: str) -> list[str]:
    """Names of the files below a folder, relative to it and sorted; hidden ones are left out.

    Raises:
        NotThere: there is no such folder.
        Unreachable: the storage does not answer.
    """
    path = local_path(location)
    try:
        if path is not None:
            names = [
                (Path(parent) / name).relative_to(path).as_posix()
                for parent, _, files in os.walk(path, onerror=_raised)
                for name in files
            ]
        else:
            files, root = filesystem(location)
            found = retried(lambda: files.find(root), location)
            names = [name.removeprefix(root.rstrip("/") + "/") for name in found]
    except (FileNotFoundError, NotADirectoryError):
        raise NotThere(f"{location}: there is no such folder; check the path.") from None
    except PermissionError:
        raise Unreachable(f"{location} may not be read; check its permissions.") from None
    return sorted(name for name in names if not any(p.startswith(".") for p in name.split("/")))


def _raised(error: OSError) -> None:
    raise error


def filesystem(location: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        SpeechkdError: the library for this kind of storage is not installed.
    """
    scheme = scheme_of(location)
    # without it s3fs asks for a file's size first, to fetch a large one in several pieces
    options = {"max_concurrency": 1} if scheme in ("s3", "s3a") else {}
    try:
        files, path = fsspec.core.url_to_fs(location, **options)
    except ImportError as error:
        raise SpeechkdError(f"{location}: {scheme}:// needs another package: {error}") from None
    return files, path
