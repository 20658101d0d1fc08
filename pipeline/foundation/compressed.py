"""Text files that may be compressed (.gz, .zst), read as if they were plain, within bounds."""

import gzip
import io
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.foundation.guarded import guarded
from pipeline.foundation.untrusted import MAX_TEXT_FILE_BYTES

SUFFIXES = (".gz", ".zst")
MOST_UNFOLDED = 100
"""A file may unfold to so many times its size, or to `MAX_TEXT_FILE_BYTES`: texts do not compress
better than about 20 times."""
PIECE_BYTES = 1 << 20


def plain_suffix(path: Path) -> str:
    """The suffix in lower case, of a compressed file the one before: `.tsv` of `a.tsv.gz`."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in SUFFIXES else suffix


@contextmanager
def opened_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a file that may be compressed.

    `.gz` is unfolded by zlib here, `.zst` by Arrow in a process of its own, because Arrow's library
    has died of broken files.

    Raises:
        OSError: as `Path.open`.
        SpeechkdError: the package for this kind is not installed. While it is read: it is damaged,
            or unfolds to far more than a text would.
    """
    kind = path.suffix.lower()
    with path.open("rb") as file:
        if kind not in SUFFIXES:
            yield file
            return
        pieces = _of_gz(file) if kind == ".gz" else guarded(str(path), _of_zst, path)
        with closing(pieces), io.BufferedReader(_Unfolded(pieces, path)) as unfolded:
            yield unfolded


def _of_gz(file: BinaryIO) -> Generator[bytes, None, None]:
    with gzip.GzipFile(fileobj=file) as stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece


def _of_zst(path: Path) -> Iterator[bytes]:
    try:
        import pyarrow
    except ImportError:
        raise SpeechkdError(
            f"{path}: .zst needs pyarrow, which is not installed. `pip install pyarrow`, or "
            f"`zstd -d {path.name}` first."
        ) from None
    with path.open("rb") as file, pyarrow.CompressedInputStream(file, "zstd") as stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece


class _Unfolded(io.RawIOBase):
    """What comes out of a compressed file, counted.

    It asks for one piece more than it gives out, so that the process that unfolds a small file is
    through with it, and can serve the next, even if nobody reads to the end.
    """

    def __init__(self, pieces: Iterator[bytes], path: Path) -> None:
        super().__init__()
        self._pieces, self._path, self._count = pieces, path, 0
        self._most = max(MAX_TEXT_FILE_BYTES, MOST_UNFOLDED * path.stat().st_size)
        self._rest, self._next = memoryview(b""), b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._begun:
            self._begun, self._next = True, self._piece()
        if not self._rest:
            self._rest = memoryview(self._next)
            self._next = self._piece() if self._next else b""
        content, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(content)] = content
        return len(content)

    def _piece(self) -> bytes:
        try:
            piece = next(self._pieces, b"")
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise Damaged(
                f"{self._path} cannot be unfolded ({str(error)[:100]}); get it again."
            ) from None
        self._count += len(piece)
        if self._count > self._most:
            raise SpeechkdError(
                f"{self._path} unfolds to over {self._most:,} bytes, which no text of its size "
                "does. Unfold it yourself if it is what is meant."
            )
        return piece
