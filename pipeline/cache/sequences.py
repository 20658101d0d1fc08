"""Reading sequences: any clips' rows, in place, without a second copy.

The storage objects of a cache hold plain bytes, so a clip's rows are one range of bytes, or two
where an object ends within them. They are read by position. They are not mapped, because a large
cache has more objects than a process may have maps.

Shapes: C clips of the cache, B clips of a batch, N rows of all of them, E width.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.cache.layout import IDS, ROWS, ArrayLayout
from pipeline.cache.quantisation import values_of
from pipeline.cache.store import TeacherCache
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError


@dataclass(frozen=True)
class Clips:
    """Every clip of the finished shards, in the manifest's order; the place in it names a clip.

    Attributes:
        row: each clip's first row in the cache, int64.
        rows: how many it has, int64.
        duration_s: seconds of audio, float32.
        key: of the sample.
        text: its transcript.
        speaker: None if unknown.
        recording: None if unknown.
        low: of uint8, what byte 0 stands for; empty for other dtypes.
        step: of uint8, the step from one byte to the next; empty for other dtypes.
        words: of kind `words`, each clip's words with `text`, `start_s`, `end_s` and `trusted`,
            one per row; empty for other kinds.
    """

    row: NDArray[np.int64]
    rows: NDArray[np.int64]
    duration_s: NDArray[np.float32]
    key: list[str] = field(repr=False)
    text: list[str] = field(repr=False)
    speaker: list[str | None] = field(repr=False)
    recording: list[str | None] = field(repr=False)
    low: NDArray[np.float32] = field(repr=False)
    step: NDArray[np.float32] = field(repr=False)
    words: list[list[dict[str, Any]]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.key)

    @property
    def place_of(self) -> dict[str, int]:
        """The place of each clip, by its key."""
        return {key: place for place, key in enumerate(self.key)}

    def places(self, keys: Sequence[str]) -> list[int]:
        """The places of the clips of these keys, all of which there are."""
        place_of = self.place_of
        return [place_of[key] for key in keys]


class SequenceReader:
    """Reads rows of clips. It may be sent to other processes and used by several threads.

    Args:
        cache: a cache of any kind but `vector`; its unfinished shards are left out.
        with_words: False leaves the words of kind `words` out, which take most of the memory: some
            10 kB per clip of 34 words, while all else takes a tenth of that.

    Raises:
        SpeechkdError: it is a cache of vectors.
        Damaged: the samples of a shard are.
    """

    def __init__(self, cache: TeacherCache, *, with_words: bool = True) -> None:
        if not cache.identity.is_sequence:
            raise SpeechkdError(
                f"{cache.location} is a cache of vectors, one per clip; wanted is one of several "
                "rows per clip, as `speechkd extract-features` makes."
            )
        self.cache, self.identity = cache, cache.identity
        self.clips = _clips(cache, with_words=with_words)

    def read(self, first_B: Sequence[int] | Array, rows_B: Sequence[int] | Array) -> torch.Tensor:
        """Rows as they are stored, one clip behind the other.

        Args:
            first_B: the first row of each clip.
            rows_B: rows of each clip.

        Returns:
            `[N, E]` in the cache's dtype.

        Raises:
            Damaged: an object is missing or too short.
        """
        return torch.from_numpy(self._read(ROWS, first_B, rows_B))

    def ids(self, first_B: Sequence[int] | Array, rows_B: Sequence[int] | Array) -> torch.Tensor:
        """Of kind `text`, the token of each row, int32 `[N]`; arguments as of `read`."""
        return torch.from_numpy(self._read(IDS, first_B, rows_B))

    def values(self, clip_B: Sequence[int] | Array) -> torch.Tensor:
        """Values of the rows of some clips, one clip behind the other.

        Args:
            clip_B: places in `clips`.

        Returns:
            `[N, E]`: float32 of a cache of uint8, else as `read`.
        """
        place_B = np.asarray(clip_B, np.int64)
        rows_B = self.clips.rows[place_B]
        stored_NE = self._read(ROWS, self.clips.row[place_B], rows_B)
        if self.identity.dtype == "uint8":
            low_N1, step_N1 = (
                np.repeat(values_C[place_B], rows_B)[:, None]
                for values_C in (self.clips.low, self.clips.step)
            )
            stored_NE = values_of(stored_NE, low_N1, step_N1)
        return torch.from_numpy(stored_NE)

    def _read(self, name: str, first_B: Any, rows_B: Any) -> Array:
        array = self.cache.arrays[name]
        pieces = list(_pieces(array, np.asarray(first_B).tolist(), np.asarray(rows_B).tolist()))
        total = sum(piece.rows for piece in pieces)
        values = np.empty((total, *array.chunk[1:]), array.dtype)
        place = memoryview(values.reshape(-1).view(np.uint8).data)
        if self.cache.folder.path is not None:
            for piece in pieces:
                self._pread(name, array, piece, place)
        elif pieces:
            self._fetch(name, array, pieces, place)
        return values

    def _pread(self, name: str, array: ArrayLayout, piece: "_Piece", into: memoryview) -> None:
        path = f"{self.cache.folder.path}/{array.object_name(name, piece.number)}"
        part = into[piece.into : piece.into + piece.bytes]
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise self._damaged(name, array, piece, "is missing") from None
        try:
            offset = piece.offset
            while part:
                count = os.preadv(handle, [part], offset)
                if not count:
                    raise self._damaged(name, array, piece, "is too short")
                part, offset = part[count:], offset + count
        finally:
            os.close(handle)

    def _fetch(
        self, name: str, array: ArrayLayout, pieces: "list[_Piece]", into: memoryview
    ) -> None:
        wanted = [(array.object_name(name, p.number), p.offset, p.offset + p.bytes) for p in pieces]
        for piece, content in zip(pieces, self.cache.folder.read_ranges(wanted), strict=True):
            if content is None or len(content) != piece.bytes:
                raise self._damaged(name, array, piece, "is missing or too short")
            into[piece.into : piece.into + piece.bytes] = content

    def _damaged(self, name: str, array: ArrayLayout, piece: "_Piece", what: str) -> Damaged:
        return Damaged(
            f"{self.cache.location}: storage object {array.object_name(name, piece.number)} {what}."
            " `speechkd cache verify` lists all damage; delete the shard's receipt and extract "
            "again."
        )


@dataclass(frozen=True)
class _Piece:
    """Bytes of one storage object, and where they go."""

    number: int
    offset: int
    bytes: int
    rows: int
    into: int


def _pieces(array: ArrayLayout, first_B: list[int], rows_B: list[int]) -> Iterator[_Piece]:
    size = array.object_rows
    row_bytes = array.object_bytes // size
    into = 0
    for first, rows in zip(first_B, rows_B, strict=True):
        while rows > 0:
            number, place = divmod(first, size)
            count = min(rows, size - place)
            length = count * row_bytes
            yield _Piece(number, place * row_bytes, length, count, into)
            first, rows, into = first + count, rows - count, into + length


def finished(cache: TeacherCache) -> TeacherCache:
    """The cache, if it is finished.

    Raises:
        NotThere: it is not; the message names the command that goes on.
    """
    unfinished = cache.unfinished()
    if unfinished:
        raise NotThere(
            f"{cache.location}: {len(unfinished)} of {len(cache.manifest)} shards are not finished "
            f"(the first is {unfinished[0]}). Run `{cache.maker}` again; it computes only what is "
            "missing."
        )
    return cache


def _clips(cache: TeacherCache, *, with_words: bool) -> Clips:
    # column by column from the first: the records of all clips at once would take as much again
    wanted = ["row", "rows", "duration_s", "key", "text", "speaker", "recording"]
    wanted += ["low", "step"] if cache.identity.dtype == "uint8" else []
    wanted += ["words"] if with_words and cache.identity.kind == "words" else []
    told: dict[str, list[Any]] = {name: [] for name in wanted}
    for shard in cache.receipts():
        for record in cache.shard_samples(shard):
            for name, values in told.items():
                values.append(record[name])
    return Clips(
        row=np.array(told["row"], np.int64),
        rows=np.array(told["rows"], np.int64),
        duration_s=np.array(told["duration_s"], np.float32),
        key=told["key"],
        text=told["text"],
        speaker=told["speaker"],
        recording=told["recording"],
        low=np.array(told.get("low", []), np.float32),
        step=np.array(told.get("step", []), np.float32),
        words=told.get("words", []),
    )
