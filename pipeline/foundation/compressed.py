"""Text files that may be compressed (.gz, .zst), read as if they were plain, within bounds."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.foundation.untrusted import MAX_TEXT_FILE_BYTES

SUFFIXES = (".gz", ".zst")
MOST_UNFOLDED = 100
"""A file may unfold to so many times its size, or to `MAX_TEXT_FILE_BYTES`: texts do not compress
better than about 20 times."""


def plain_suffix(path: Path) -> str:
    """The suffix in lower case, of a compressed file the one before: `.tsv` of `a.tsv.gz`."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in SUFFIXES else suffix


@contextmanager
def opened_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a file that may be compressed.

    Raises:
        OSError: as `Path.open`.
        SpeechkdError: the package for this kind is not installed. While it is read: it is damaged,
            or unfolds to far more than a text would.
    """
    kind = path.suffix.lower()
    with ExitStack() as stack:
        file: Any = stack.enter_context(path.open("rb"))
        if kind not in SUFFIXES:
            yield file
            return
        unfolding = gzip.GzipFile(fileobj=file) if kind == ".gz" else _zst(file, path)
        stack.callback(unfolding.close)
        most = max(MAX_TEXT_FILE_BYTES, MOST_UNFOLDED * path.stat().st_size)
        yield stack.enter_context(io.BufferedReader(_Unfolded(unfolding, path, most)))


def _zst(file: BinaryIO, path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise SpeechkdError(
            f"{path}: .zst needs pyarrow, which is not installed. `pip install pyarrow`, or "
            f"`zstd -d {path.name}` first."
        ) from None
    return pyarrow.CompressedInputStream(file, "zstd")


class _Unfolded(io.RawIOBase):
    """What comes out of a compressed file, counted."""

    def __init__(self, stream: Any, path: Path, most: int) -> None:
        super().__init__()
        self._stream, self._path, self._most, self._count = stream, path, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content: bytes = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise Damaged(
                f"{self._path} cannot be unfolded ({str(error)[:100]}); get it again."
            ) from None
        self._count += len(content)
        if self._count > self._most:
            raise SpeechkdError(
                f"{self._path} unfolds to over {self._most:,} bytes, which no text of its size "
                "does. Unfold it yourself if it is what is meant."
            )
        buffer[: len(content)] = content
        return len(content)
