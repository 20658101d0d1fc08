"""The survey of a corpus in parts: the names and texts of all its files, not their audio.

Every array task must know all of it: which keys stand twice, how the files are dealt out, and
whether the corpus is still the one that the folder was begun with. So what is learnt of a file is
kept in the output folder, for the other tasks and for the next sitting, as long as the file is
unchanged.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.foundation.atomic import write_bytes
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.foundation.guarded import guarded_call
from pipeline.foundation.progress import counted
from pipeline.foundation.storage import file_version
from pipeline.foundation.untrusted import parse_json
from pipeline.foundation.workers import ahead
from pipeline.shards.arrow import ArrowFile, rows_of, shape_of
from pipeline.shards.parts import Part, Plan, key_of_row

ROWS_AT_ONCE = 1000
FORMAT = 1


@dataclass(frozen=True)
class _Surveyed:
    """What one file holds."""

    rows: int
    audio_bytes: int
    held_bytes: int
    digest: str
    keys: NDArray[np.uint64]
    """Hash of each row's key."""

    def fields(self) -> tuple[int, int, int, str]:
        """Rows, bytes of audio, bytes held at once, and digest."""
        return self.rows, self.audio_bytes, self.held_bytes, self.digest

    def content(self) -> bytes:
        """As it is kept: a line of JSON, then the hashes, eight bytes each."""
        header = [FORMAT, *self.fields()]
        return json.dumps(header).encode() + b"\n" + self.keys.astype("<u8").tobytes()

    @classmethod
    def of_content(cls, content: bytes) -> "_Surveyed":
        """Read what `content` gave.

        Raises:
            ValueError: it is torn, or of another format.
        """
        header, _, hashes = content.partition(b"\n")
        form, rows, audio_bytes, held_bytes, digest = parse_json(header)
        keys = np.frombuffer(hashes, "<u8").astype(np.uint64)
        if form != FORMAT or rows != len(keys) or not isinstance(digest, str):
            raise ValueError("it is not a survey of this format")
        return cls(rows, int(audio_bytes), int(held_bytes), digest, keys)


def survey(
    files: Sequence[ArrowFile],
    plan: Plan,
    threads: int,
    advance: Callable[[int], None],
    kept: Path | None = None,
    first: int = 0,
) -> list[Part]:
    """Look through the names and texts of all files.

    Args:
        files: the corpus.
        plan: its columns.
        threads: files that are read at once; most of it is waiting for the storage.
        advance: is told the rows of each file that is done.
        kept: the folder in which surveys are kept for others; None to keep none.
        first: the file to begin with, so that several processes do not all read the same one.

    Returns:
        The parts, in the order of `files`.

    Raises:
        Damaged: a file cannot be read, or the library died of it.
        SpeechkdError: it lacks a column.
    """
    order = [*range(first, len(files)), *range(first)]
    found: dict[int, _Surveyed] = {}
    look = _Survey(plan, kept)
    for number, surveyed in zip(
        order, ahead(look, (files[i] for i in order), max(threads, 1)), strict=True
    ):
        found[number] = surveyed
        advance(surveyed.rows)
    ordered = [found[number] for number in range(len(files))]
    repeated = _repeated([surveyed.keys for surveyed in ordered])
    parts = [
        Part(number, file, *surveyed.fields())
        for number, (file, surveyed) in enumerate(zip(files, ordered, strict=True))
    ]
    return [
        replace(part, repeated=repeated[part.number]) if part.number in repeated else part
        for part in parts
    ]


@dataclass(frozen=True)
class _Survey:
    plan: Plan
    kept: Path | None

    def __call__(self, file: ArrowFile) -> _Surveyed:
        path = self._path(file)
        if path is not None:
            try:
                return _Surveyed.of_content(path.read_bytes())
            except (OSError, ValueError, TypeError):  # not there yet, or torn: it is made anew
                pass
        surveyed = guarded_call(file.location, _survey_of, file, self.plan)
        if path is not None:
            write_bytes(path, surveyed.content())
        return surveyed

    def _path(self, file: ArrowFile) -> Path | None:
        """Where the survey of a file is kept; None if nothing would tell that it has changed."""
        version = file_version(file.location) if self.kept is not None else ""
        if self.kept is None or not version:
            return None
        known_by = json.dumps([file.name, version, dict(self.plan.columns)]).encode()
        return self.kept / hashlib.blake2b(known_by, digest_size=16).hexdigest()


def _survey_of(file: ArrowFile, plan: Plan) -> _Surveyed:
    shape = shape_of(file)
    missing = [name for name in plan.columns.values() if name not in shape.columns]
    if missing:
        raise SpeechkdError(
            f"{file.location}: no column {missing[0]!r}, which the first file has. Leave the "
            "file out, or name a split with --split."
        )
    audio = plan.columns["path"]
    light = [name for name in plan.columns.values() if name != audio]
    digest, keys = hashlib.sha256(), array("Q")
    with closing(rows_of(file, light, at_once=ROWS_AT_ONCE)) as rows:
        for row, cells in rows:
            fields = {
                name: cells[column] for name, column in plan.columns.items() if column != audio
            }
            digest.update(json.dumps(fields, default=str).encode())
            key = key_of_row(file, row, fields.get("key")).encode("utf-8", "surrogatepass")
            keys.append(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()))
    if len(keys) != shape.rows:
        raise Damaged(
            f"{file.location} cannot be read: its header tells of {counted(shape.rows, 'row')}, "
            "and "
            f"{len(keys):,} are there."
        )
    hashes = np.array(keys, np.uint64)
    return _Surveyed(shape.rows, shape.audio_bytes, shape.held_bytes, digest.hexdigest(), hashes)


def _repeated(hashes: Sequence[NDArray[np.uint64]]) -> dict[int, tuple[int, ...]]:
    """By number of part, the rows whose key stands earlier in the corpus."""
    if not hashes:
        return {}
    together = np.concatenate(hashes)
    order = np.argsort(together, kind="stable")
    again = order[1:][together[order[1:]] == together[order[:-1]]]
    starts = np.cumsum([0, *map(len, hashes)])
    rows: dict[int, list[int]] = {}
    for place in np.sort(again):
        part = int(np.searchsorted(starts, place, side="right")) - 1
        rows.setdefault(part, []).append(int(place - starts[part]))
    return {part: tuple(found) for part, found in rows.items()}
