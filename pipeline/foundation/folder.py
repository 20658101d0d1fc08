"""Folders of whole-or-absent files, on a disk or in object storage."""

import os
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any

from pipeline.foundation import atomic
from pipeline.foundation.storage import filesystem, local_path, retried

# s3fs; gcsfs; adlfs; disks and sftp
WHEN = ("LastModified", "updated", "last_modified", "mtime")
TAGS = ("ETag", "etag", "md5Hash")


@dataclass(frozen=True)
class Listed:
    """A file as a listing of its folder shows it.

    Attributes:
        modified: when it was written, in seconds since 1970; 0 if the storage does not say.
        stamp: equal only while the content is the same; None if the storage says too little.
    """

    modified: float
    stamp: Hashable | None


class Folder:
    """Named files under one location.

    Args:
        location: a path, or a URL of any scheme that fsspec knows (`s3://`, `gs://`, `hf://`,
            `file://`, …).

    Raises:
        SpeechkdError: the location is refused (`scheme_of`), or its package is missing.
    """

    def __init__(self, location: str | Path) -> None:
        self.location = str(location).rstrip("/")
        self.path = local_path(self.location)
        if self.path is None:
            self._filesystem, self._root = filesystem(self.location)

    def read(self, name: str) -> bytes | None:
        """Content of a file, or None if there is no such file."""
        try:
            if self.path is not None:
                return (self.path / name).read_bytes()
            content: bytes = retried(
                lambda: self._filesystem.cat_file(f"{self._root}/{name}"), self.location
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        return content

    def holds(self, name: str) -> bool:
        """Whether there is such a file."""
        if self.path is not None:
            return (self.path / name).is_file()
        return bool(retried(lambda: self._filesystem.exists(f"{self._root}/{name}"), self.location))

    def read_many(self, names: list[str]) -> dict[str, bytes]:
        """Content of several files, without absent ones; remote ones are fetched at once."""
        if self.path is not None:
            contents = {name: self.read(name) for name in names}
            return {name: content for name, content in contents.items() if content is not None}
        paths = [f"{self._root}/{name}" for name in names]
        # `cat` would first ask for each file whether it is there
        fetched: list[Any] = retried(
            lambda: self._filesystem.cat_ranges(paths, None, None, on_error="return"),
            self.location,
        )
        remote: dict[str, bytes] = {}
        for name, content in zip(names, fetched, strict=True):
            if isinstance(content, bytes):
                remote[name] = content
            elif not isinstance(content, FileNotFoundError):
                again = self.read(name)
                if again is not None:
                    remote[name] = again
        return remote

    def read_ranges(self, ranges: list[tuple[str, int, int]]) -> list[bytes | None]:
        """Parts of files in object storage, fetched at once; None for those of absent files.

        Args:
            ranges: each file's name, the first byte and the one after the last.
        """
        fetched: list[Any] = retried(
            lambda: self._filesystem.cat_ranges(
                [f"{self._root}/{name}" for name, _, _ in ranges],
                [start for _, start, _ in ranges],
                [stop for _, _, stop in ranges],
                on_error="return",
            ),
            self.location,
        )
        parts: list[bytes | None] = []
        for (name, start, stop), content in zip(ranges, fetched, strict=True):
            if isinstance(content, bytes):
                parts.append(content)
            elif isinstance(content, FileNotFoundError):
                parts.append(None)
            else:  # a failure that may pass
                whole = self.read(name)
                parts.append(None if whole is None else whole[start:stop])
        return parts

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all. On return it has reached the disk, if there is one."""
        if self.path is not None:
            atomic.write_bytes(self.path / name, content)
        else:
            retried(
                lambda: self._filesystem.pipe_file(f"{self._root}/{name}", content), self.location
            )

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
        else:
            with suppress(FileNotFoundError):
                retried(lambda: self._filesystem.rm_file(f"{self._root}/{name}"), self.location)

    def files(self, folder: str) -> dict[str, Listed]:
        """Files of a sub-folder, sorted by name; none if there is no such folder.

        Hidden files are left out, among them half-written ones.
        """
        if self.path is not None:
            listed = _files_on_disk(self.path / folder)
        else:
            self._filesystem.invalidate_cache()
            try:
                entries = retried(
                    lambda: self._filesystem.ls(f"{self._root}/{folder}", detail=True),
                    self.location,
                )
            except FileNotFoundError:
                entries = []
            files = [info for info in entries if info["type"] == "file"]
            listed = {info["name"].rpartition("/")[2]: _listed(info) for info in files}
        return {name: listed[name] for name in sorted(listed) if name and not name.startswith(".")}

    def names(self, folder: str) -> list[str]:
        """Names of the files and folders in a sub-folder, without hidden ones, in no order."""
        try:
            if self.path is not None:
                names = [entry.name for entry in (self.path / folder).iterdir()]
            else:
                self._filesystem.invalidate_cache()
                entries = retried(
                    lambda: self._filesystem.ls(f"{self._root}/{folder}", detail=False),
                    self.location,
                )
                names = [entry.rstrip("/").rpartition("/")[2] for entry in entries]
        except FileNotFoundError:
            return []
        return [name for name in names if name and not name.startswith(".")]

    def sync(self, name: str) -> None:
        """Force a file of another library to the disk; object stores need no call.

        Its folder and the folder above may be new, so they are forced too: otherwise the name
        could be lost.
        """
        if self.path is not None:
            path = self.path / name
            for part in (path, path.parent, path.parent.parent):
                atomic.sync(part)

    def remove_leftovers(self) -> None:
        """Remove half-written files of processes that were killed over an hour ago.

        Younger ones may belong to an array task at work. Object storage has none.
        """
        if self.path is not None:
            atomic.remove_leftovers(self.path, "**/*.partial")
            atomic.remove_leftovers(self.path.parent, f".{escape(self.path.name)}.*.partial")

    def zarr_store(self) -> Any:
        """The same folder as a store for Zarr."""
        from zarr.storage import FsspecStore, LocalStore

        if self.path is not None:
            return LocalStore(self.path)
        return FsspecStore.from_url(self.location)


def _files_on_disk(folder: Path) -> dict[str, Listed]:
    files = {}
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # gone since it was listed
                if entry.is_file():
                    stat = entry.stat()
                    stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
                    files[entry.name] = Listed(stat.st_mtime, stamp)
    return files


def _listed(info: dict[str, Any]) -> Listed:
    """A file from fsspec's `info`, for which each kind of storage has its own names."""
    when = next((info[name] for name in WHEN if info.get(name)), 0.0)
    tag = next((info[name] for name in TAGS if info.get(name)), None)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    modified = when.timestamp() if isinstance(when, datetime) else float(when)
    return Listed(modified, (tag, info.get("size"), modified) if tag else None)
