"""Tables that hold audio: Parquet and Arrow files, as Hugging Face's `datasets` writes them.

Files are read a row at a time, wherever they lie. What is read is data only: no code of a corpus is
run. Arrow's library dies of some broken files, so it runs in a process of its own.
"""

import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.guarded import guarded, guarded_call
from pipeline.foundation.storage import RemoteFile, files_below, local_path, read_file
from pipeline.foundation.tables import pyarrow_faults, pyarrow_for
from pipeline.foundation.untrusted import parse_json
from pipeline.shards.asked import IN_PARTS
from pipeline.shards.recordings import AUDIO_SUFFIXES

REMOTE_BUFFER_BYTES = 8 * 2**20  # fetched at once, per column
LOCAL_BUFFER_BYTES = 2**20
ROWS_PER_PAGE = 1024
"""Rows that Arrow's writer puts into a page before it looks at the page's size."""
COPIES_OF_PAGE = 2
"""Of a page that is a dictionary, as the first one of a group mostly is, Arrow holds the page and a
copy of its values. Nothing smaller than a page can be unpacked."""
_NUMBERED = re.compile(r"[-_]?\d+(?:-of-\d+)?(?:-[0-9a-f]{16})?$")


@dataclass(frozen=True)
class ArrowFile:
    """One Parquet or Arrow file of a corpus."""

    location: str
    name: str
    """Its name in the corpus, without the suffix."""
    split: str
    """The part of the corpus that it belongs to: `train`, or `clean/train`."""


def find_files(source: str, split: str = "") -> list[ArrowFile]:
    """The files of a corpus, or of one split of it, in order.

    Args:
        source: a file; a folder of Parquet files; a folder of `save_to_disk`; or the URL of one.
        split: the split; "" if there is only one, `all` for all together.

    Raises:
        SpeechkdError: there is no such file, or several splits and none is named.
    """
    if source.endswith(IN_PARTS):
        return [_file("", source)]
    path = local_path(source)
    if path is not None and path.is_file():
        raise SpeechkdError(f"{source} is no Parquet or Arrow file; leave --layout parquet out.")
    names = files_below(source)
    files = [_file(source, name) for name in _listed(source, names)]
    if not files:
        raise NotThere(f"{source}: no {' or '.join(IN_PARTS)} file in it; check the path.")
    splits = list(dict.fromkeys(file.split for file in files))
    if split == "all" or (not split and len(splits) == 1):
        return files
    chosen = [file for file in files if split in (file.split, file.split.rpartition("/")[2])]
    if not split or not chosen:
        missing = f"there is no split {split!r}" if split else f"it has {len(splits)} splits"
        raise SpeechkdError(
            f"{source}: {missing}; its splits are {', '.join(splits)}. Name one with --split, or "
            "--split all to put them together."
        )
    several = sorted({file.split for file in chosen})
    if len(several) > 1:
        raise SpeechkdError(
            f"{source}: {split!r} is a split of each of {', '.join(several)}; give its whole name "
            "with --split."
        )
    return chosen


def _listed(source: str, names: Sequence[str]) -> list[str]:
    """The data files of a folder: those its own lists name, else all of the known suffixes."""
    listed = []
    for name in names:
        if name.rpartition("/")[2] == "state.json":
            folder = name.rpartition("/")[0]
            listed += [f"{folder}/{file}".lstrip("/") for file in _saved(f"{source}/{name}")]
    if listed:
        return listed
    found = [name for name in names if name.endswith(IN_PARTS)]
    return [name for name in found if not name.rpartition("/")[2].startswith("cache-")]


def _saved(location: str) -> list[str]:
    """The data files that the `state.json` of `save_to_disk` lists, in its order."""
    try:
        state = parse_json(read_file(location))
        files = [entry["filename"] for entry in state["_data_files"]]
        indices = state.get("_indices_files") or state.get("_indices_data_files")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise Damaged(f"{location} cannot be read ({type(error).__name__}: {error}).") from None
    if any(not isinstance(name, str) or "/" in name or "\\" in name for name in files):
        raise Damaged(f"{location} names a data file outside its folder.")
    if indices:
        raise SpeechkdError(
            f"{location}: the rows are chosen by a file of indices, which is not read. Save it "
            "again with a present version of `datasets`, or after `flatten_indices()`."
        )
    return files


def _file(source: str, name: str) -> ArrowFile:
    stem = name.removesuffix(".parquet").removesuffix(".arrow")
    folder, _, base = stem.rpartition("/")
    kind = _NUMBERED.sub("", base)
    kind = "" if kind in ("data", "part") else kind
    parts = [part for part in folder.split("/") if part != "data"] if source else []
    split = "/".join(part for part in (*parts, kind) if part) or "train"
    location = f"{source}/{name}" if source else name
    return ArrowFile(location, stem if source else base, split)


@dataclass(frozen=True)
class Shape:
    """What a file's own header says."""

    columns: Mapping[str, str]
    """Name of each column, and what it can be: `audio`, `bytes`, `text`, or "" for else."""
    rows: int
    audio_bytes: int
    """Size of the largest column, unpacked: about that of all audio."""
    held_bytes: int = 0
    """How much of that column a reader must hold at once."""


def shape_of(file: ArrowFile) -> Shape:
    """Read the header of a file.

    Raises:
        Damaged: it cannot be read, or the library died of it.
        SpeechkdError: it is not there, or pyarrow is not installed.
    """
    return guarded_call(file.location, _shape_of, file)


def _shape_of(file: ArrowFile) -> Shape:
    with closing(_Reader(file)) as reader:
        return reader.shape()


def rows_of(
    file: ArrowFile,
    columns: Sequence[str],
    skip: int = 0,
    most: int | None = None,
    at_once: int = 1,
) -> Generator[tuple[int, Mapping[str, Any]], None, None]:
    """Rows of a file with their numbers from 0, few in memory at a time.

    Args:
        file: the file.
        columns: the columns to read; the others are not touched.
        skip: rows to leave out at the beginning. Whole groups of them are not read at all.
        most: rows to read; None for all the others.
        at_once: rows that a Parquet file is asked for at once.

    Raises:
        Damaged: it cannot be read, or the library died of it.
        SpeechkdError: it is not there, or pyarrow is not installed.
    """
    return guarded(file.location, _rows_of, file, list(columns), skip, most, at_once)


def _rows_of(
    file: ArrowFile, columns: list[str], skip: int, most: int | None, at_once: int
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with closing(_Reader(file)) as reader:
        yield from islice(reader.rows(columns, skip, at_once), most)


class _Reader:
    """An open file. Whatever pyarrow objects to becomes a `Damaged`."""

    def __init__(self, file: ArrowFile) -> None:
        self._file = file
        path = local_path(file.location)
        self._arrow, self._parquet = pyarrow_for(Path(file.location))
        if path is not None and not path.is_file():
            raise NotThere(f"{file.location}: there is no such file.")
        self._is_remote = path is None
        self._source: Any = str(path) if path is not None else RemoteFile(file.location)
        self._opened: list[Any] = []

    def close(self) -> None:
        for opened in self._opened:
            opened.close()

    def shape(self) -> Shape:
        try:
            if self._file.location.endswith(".parquet"):
                with self._as_parquet() as opened:
                    return self._shape_of_parquet(opened)
            return self._shape_of_arrow()
        except pyarrow_faults(self._arrow) as error:
            raise self._damaged(error) from None

    def rows(
        self, columns: list[str], skip: int, at_once: int
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        try:
            if self._file.location.endswith(".parquet"):
                yield from self._rows_of_parquet(columns, skip, at_once)
            else:
                yield from self._rows_of_arrow(columns, skip)
        except pyarrow_faults(self._arrow) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> Damaged:
        return Damaged(f"{self._file.location} cannot be read: {str(error)[:200]}")

    def _as_parquet(self) -> Any:
        size = REMOTE_BUFFER_BYTES if self._is_remote else LOCAL_BUFFER_BYTES
        return self._parquet.ParquetFile(self._source, buffer_size=size, pre_buffer=False)

    def _shape_of_parquet(self, opened: Any) -> Shape:
        metadata = opened.metadata
        sizes, held = [0] * metadata.num_columns, 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            for column in range(metadata.num_columns):
                size = group.column(column).total_uncompressed_size
                sizes[column] += size
                share = min(1.0, ROWS_PER_PAGE / max(group.num_rows, 1))
                held = max(held, round(size * share))
        columns = {field.name: self._kind(field.type) for field in opened.schema_arrow}
        return Shape(columns, metadata.num_rows, max(sizes, default=0), COPIES_OF_PAGE * held)

    def _rows_of_parquet(
        self, columns: list[str], skip: int, at_once: int
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        with self._as_parquet() as opened:
            first = 0
            for group in range(opened.metadata.num_row_groups):
                count = opened.metadata.row_group(group).num_rows
                if first + count > skip:
                    batches = opened.iter_batches(
                        at_once, row_groups=[group], columns=columns, use_threads=False
                    )
                    rows = (row for batch in batches for row in batch.to_pylist())
                    yield from islice(enumerate(rows, start=first), max(skip - first, 0), None)
                first += count

    def _batches(self) -> Any:
        """The batches of an Arrow file of either form; of a local one nothing is copied."""
        source = self._source
        if not self._is_remote:
            source = self._arrow.memory_map(source)
            self._opened.append(source)
        magic = source.read(6)
        source.seek(0)
        if magic == b"ARROW1":
            opened = self._arrow.ipc.open_file(source)
            return opened.schema, (
                opened.get_batch(number) for number in range(opened.num_record_batches)
            )
        opened = self._arrow.ipc.open_stream(source)
        return opened.schema, iter(opened)

    def _shape_of_arrow(self) -> Shape:
        schema, batches = self._batches()
        rows = largest = held = 0
        for batch in batches:
            rows += batch.num_rows
            size = max((column.nbytes for column in batch.columns), default=0)
            largest += size
            held = max(held, size if self._is_remote else 0)  # else it stays on the disk
        columns = {field.name: self._kind(field.type) for field in schema}
        return Shape(columns, rows, largest, held)

    def _rows_of_arrow(
        self, columns: list[str], skip: int
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        _, batches = self._batches()
        first = 0
        for batch in batches:
            for number in range(max(skip - first, 0), batch.num_rows):
                row = batch.slice(number, 1)
                yield first + number, {name: row.column(name)[0].as_py() for name in columns}
            first += batch.num_rows

    def _kind(self, kind: Any) -> str:
        types = self._arrow.types
        if types.is_struct(kind):
            names = {kind.field(i).name for i in range(kind.num_fields)}
            return "audio" if "bytes" in names else ""
        if types.is_binary(kind) or types.is_large_binary(kind):
            return "bytes"
        is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind)
        return "text" if is_text else ""


def is_in_parts(source: str) -> bool:
    """Whether a source is a corpus of tables that hold audio, by the names of its files.

    Every URL is taken for one: of recordings that lie in object storage only tables are read.
    """
    path = local_path(source)
    if path is None or source.endswith(IN_PARTS):
        return True
    if not path.is_dir():
        return False
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return True
    found = False
    for _, _, files in os.walk(path):
        suffixes = {Path(name).suffix.lower() for name in files if not name.startswith(".")}
        if suffixes & set(AUDIO_SUFFIXES):
            return False
        found = found or bool(suffixes & set(IN_PARTS))
    return found
