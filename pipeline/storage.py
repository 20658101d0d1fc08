"""A folder on a disk or in object storage, where every file is either whole or absent."""

from pathlib import Path
from typing import Any

import fsspec
from zarr.storage import FsspecStore, LocalStore

from pipeline import atomic
from pipeline.errors import SpeechkdError


class Folder:
    """Named files under one location.

    Args:
        location: a path, or a URL of any scheme that fsspec knows (`s3://`, `gs://`, `hf://`,
            `file://`, …).

    Raises:
        SpeechkdError: a URL that runs a command, or of an unknown scheme.
    """

    def __init__(self, location: str | Path) -> None:
        self.location = str(location).rstrip("/")
        scheme = self.location.partition("://")[0] if "://" in self.location else "file"
        if self.location.startswith("pipe:"):
            raise SpeechkdError(
                f"{self.location}: locations that run a command are refused. Name a path or a URL."
            )
        if scheme not in fsspec.available_protocols():
            raise SpeechkdError(f"{self.location}: unknown scheme {scheme!r}.")
        self.path: Path | None = None
        if scheme == "file":
            self.path = Path(self.location.removeprefix("file://"))
        else:
            self._filesystem, self._root = fsspec.core.url_to_fs(self.location)

    def read(self, name: str) -> bytes | None:
        """Content of a file, or None where there is no such file."""
        try:
            if self.path is not None:
                return (self.path / name).read_bytes()
            content: bytes = self._filesystem.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all; on a disk it has reached the disk on return."""
        if self.path is not None:
            atomic.write_bytes(self.path / name, content)
        else:
            self._filesystem.pipe_file(f"{self._root}/{name}", content)

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files in a sub-folder; none where there is no such folder."""
        if self.path is not None:
            found = [p.name for p in (self.path / folder).glob("*") if p.is_file()]
        else:
            try:
                listed = self._filesystem.ls(f"{self._root}/{folder}", detail=False)
            except FileNotFoundError:
                listed = []
            found = [name.rpartition("/")[2] for name in listed]
        return sorted(name for name in found if name and not name.startswith("."))

    def sync(self, name: str) -> None:
        """Force a file that another library has written to the disk; object stores need no call."""
        if self.path is not None:
            atomic.sync(self.path / name)

    def zarr_store(self) -> Any:
        """The same folder as a store for Zarr."""
        if self.path is not None:
            return LocalStore(self.path)
        return FsspecStore.from_url(self.location)
