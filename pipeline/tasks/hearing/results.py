"""The results folder of `speechkd probe hearing`: what was asked, of what, and what was told.

    hearing.json           what was asked of which caches and how, and what was left out
    items-clip.csv         a line per clip (`items-word.csv`: per word) with what was heard
    encoders/NAME.json     an encoder that is done; written last
    encoders/NAME-clip.csv what it told of each clip, in the order of the items

Every figure and its interval can be computed again from these. Numbers have nine digits.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.atomic import remove_leftovers, write_json, write_text
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.untrusted import file_part, parse_json, read_text_file
from pipeline.models.pretrained import Pretrained
from pipeline.tasks.hearing.names import Level

if TYPE_CHECKING:
    from pipeline.tasks.hearing.judging import Examination

FORMAT = 1
HEARING = "hearing.json"

Role = Literal["encoder", "untrained", "words"]
"""An encoder that the user named, a student with the weights that it began with, or the words
alone."""


@dataclass(frozen=True)
class Judged:
    """What one encoder told of all items.

    Attributes:
        encoder: what is known of it.
        role: what it is.
        start: digest of a student's configuration and tokenizer, which it shares with the
            untrained one; empty for others.
        columns: per level, the columns of `Examination.answers`.
    """

    encoder: Pretrained
    role: Role
    start: str
    columns: Mapping[Level, Mapping[str, Array]]

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{file_part(self.encoder.label)}-{self.encoder.weights_sha256[:8]}"


@dataclass(frozen=True)
class LevelItems:
    """The items of one level, as a report reads them.

    Attributes:
        recording_n: number of each item's recording, as text.
        speaker_n: number of its speaker, or of its recording where no speaker is known; -1 where
            neither is.
        half_n: 0 or 1.
        candidates_n: among how many each is sought; 0 for one that is not.
        heard: the columns of `Examination.truths`.
    """

    recording_n: Sequence[str]
    speaker_n: Sequence[str]
    half_n: Array
    candidates_n: Array
    heard: Mapping[str, Array]


@dataclass(frozen=True)
class Hearing:
    """A results folder.

    Attributes:
        folder: where it is.
        asked: what was asked, by name.
        notes: what was left out, in words.
        missing: per level, what is not asked and why.
        levels: the items of each level.
        judged: what each encoder told, those of one role together.
    """

    folder: Path
    asked: Mapping[str, Any]
    notes: Sequence[str]
    missing: Mapping[Level, Sequence[str]]
    levels: Mapping[Level, LevelItems]
    judged: Sequence[Judged]


class HearingFolder:
    """A results folder that is being written.

    Args:
        path: where it is or shall be.
        asked: what is asked, as plain JSON values by name; results of something else are refused.
        notes: what was left out, in words.
        examinations: by level.
        provenance: of the command that begins the folder.

    Raises:
        SpeechkdError: the folder holds results of something else, or other files.
    """

    def __init__(
        self,
        path: Path,
        asked: Mapping[str, Any],
        notes: Sequence[str],
        examinations: "Mapping[Level, Examination]",
        provenance: Mapping[str, Any],
    ) -> None:
        self.path, self._levels = path, tuple(examinations)
        tables = {level: _items_table(one) for level, one in examinations.items()}
        self._check(asked, tables)
        for part in (path, path / "encoders"):
            remove_leftovers(part)
        for level, text in tables.items():
            write_text(path / f"items-{level}.csv", text)
        record = {
            "format": FORMAT,
            "asked": asked,
            "told": list(notes),
            "missing": {level: list(one.missing) for level, one in examinations.items()},
            "created_by": provenance,
        }
        write_json(path / HEARING, record)

    def _check(self, asked: Mapping[str, Any], tables: Mapping[Level, str]) -> None:
        known = self.path / HEARING
        if not known.is_file():
            if self.path.is_dir() and any(self.path.iterdir()):
                raise SpeechkdError(
                    f"--out {self.path} holds other files and no {HEARING}; name a new folder."
                )
            return
        if not any((self.path / "encoders").glob("*.json")):
            return
        before = _read_record(known)["asked"]
        differing = [
            f"{name}: {before.get(name)!r} there, {asked.get(name)!r} now"
            for name in sorted({*before, *asked})
            if before.get(name) != asked.get(name)
        ]
        if differing:
            raise SpeechkdError(
                f"{self.path} holds results of something else ({'; '.join(differing)}). Name "
                "another --out."
            )
        for level, text in tables.items():
            if _read_text(self.path / f"items-{level}.csv") != text:
                raise SpeechkdError(
                    f"{self.path} holds results on other {level}s: with these checkpoints others "
                    "can be judged, because one was trained on some, or has no token for them. "
                    "Name another --out."
                )

    def has(self, encoder: Pretrained, start: str = "") -> bool:
        """Whether an encoder is done.

        Raises:
            SpeechkdError: its label stands here for other weights, or for another tokenizer.
        """
        for path in sorted((self.path / "encoders").glob("*.json")):
            record = _read_json(path)
            known = _pretrained(record, path)
            if known.label == encoder.label:
                same = known.weights_sha256 == encoder.weights_sha256
                if same and record.get("start") == start:
                    return True
                if same:
                    raise SpeechkdError(
                        f"{self.path} has {encoder.label} with another tokenizer or configuration. "
                        "Use another --out."
                    )
                raise SpeechkdError(
                    f"{self.path} has {encoder.label} with other weights (sha256 "
                    f"{known.weights_sha256[:12]} there, {encoder.weights_sha256[:12]} now). Use "
                    "another --out, or write one as NAME=PATH."
                )
        return False

    def untrained(self) -> dict[str, str]:
        """The labels of the untrained students that are done, by their starts."""
        records = map(_read_json, sorted((self.path / "encoders").glob("*.json")))
        return {
            str(record["start"]): str(record["encoder"]["label"])
            for record in records
            if record.get("role") == "untrained"
        }

    def add(self, judged: Judged) -> None:
        """Write what an encoder told, and last the file that says that it is done."""
        folder = self.path / "encoders"
        for level in self._levels:
            write_text(folder / f"{judged.name}-{level}.csv", _table(judged.columns[level]))
        record = {
            "encoder": judged.encoder.record(),
            "role": judged.role,
            "start": judged.start,
        }
        write_json(folder / f"{judged.name}.json", record)


def is_hearing(folder: Path) -> bool:
    """Whether a folder is one of results of `speechkd probe hearing`."""
    return (folder / HEARING).is_file()


def read_hearing(folder: Path) -> Hearing:
    """Read a results folder.

    Raises:
        NotThere: there is none, or no encoder is done.
        Damaged: a file is not what this writes.
    """
    path = folder / HEARING
    if not path.is_file():
        raise NotThere(f"{path}: there is no such file; `speechkd probe hearing … --out` makes it.")
    record = _read_record(path)
    missing = record["missing"]
    levels = {
        level: _read_items(folder / f"items-{level}.csv")
        for level in get_args(Level)
        if level in missing
    }
    judged = [
        _read_judged(file, {level: len(one.half_n) for level, one in levels.items()})
        for file in sorted((folder / "encoders").glob("*.json"))
    ]
    if not judged:
        raise NotThere(f"{folder}: no encoder is done yet; the same command carries on.")
    order = {"words": 0, "untrained": 1, "encoder": 2}
    judged.sort(key=lambda one: (order[one.role], one.encoder.label))
    return Hearing(folder, record["asked"], record["told"], missing, levels, judged)


def _items_table(examination: "Examination") -> str:
    items = examination.items
    columns: dict[str, Sequence[Any]] = {"key": items.key_n}
    if items.level == "word":
        columns |= {"number": items.number_n.tolist(), "word": items.text_n}
    columns |= {
        "recording": items.recording_n.tolist(),
        "speaker": items.speaker_n.tolist(),
        "half": items.half_n.tolist(),
        "candidates": examination.sought_n.tolist(),
    }
    return _csv(columns | {name: _written(x_n) for name, x_n in examination.truths().items()})


def _table(columns: Mapping[str, Array]) -> str:
    return _csv({name: _written(value_n) for name, value_n in columns.items()})


def _written(value_n: Array) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.9g}" for value in value_n.tolist()]


def _csv(columns: Mapping[str, Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _read_items(path: Path) -> LevelItems:
    columns = _read_columns(path)
    try:
        recordings, speakers = (columns.pop(n) for n in ("recording", "speaker"))
        half_n, candidates_n = (_numbers(columns.pop(n)) for n in ("half", "candidates"))
        figures = {
            name: _numbers(values)
            for name, values in columns.items()
            if name.startswith(("total:", "heard:"))
        }
        if not len(half_n) or not np.isin(half_n, (0, 1)).all() or not figures:
            raise ValueError("no items, no half or nothing heard")
    except (KeyError, ValueError) as error:
        raise Damaged(_torn(path, error)) from None
    return LevelItems(
        recordings, speakers, half_n.astype(np.int64), candidates_n.astype(np.int64), figures
    )


def _read_judged(path: Path, sizes: Mapping[Level, int]) -> Judged:
    record = _read_json(path)
    encoder = _pretrained(record, path)
    start = record.get("start")
    role: Any = record.get("role")
    if role not in get_args(Role) or not isinstance(start, str):
        raise Damaged(_torn(path, "role or start is missing"))
    columns: dict[Level, dict[str, Array]] = {}
    for level, size in sizes.items():
        file = path.with_name(f"{path.stem}-{level}.csv")
        try:
            columns[level] = {name: _numbers(x) for name, x in _read_columns(file).items()}
        except ValueError as error:
            raise Damaged(_torn(file, error)) from None
        lengths = {len(values) for values in columns[level].values()}
        if lengths != {size}:
            raise Damaged(_torn(file, f"{size} lines are wanted"))
    return Judged(encoder, role, start, columns)


def _numbers(values: Sequence[str]) -> Array:
    return np.array([float(value) if value else np.nan for value in values], np.float64)


def _read_columns(path: Path) -> dict[str, list[str]]:
    rows = list(csv.reader(io.StringIO(_read_text(path), newline="")))
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise Damaged(_torn(path, "its lines are not of one length"))
    return {name: [row[place] for row in rows[1:]] for place, name in enumerate(rows[0])}


def _read_record(path: Path) -> dict[str, Any]:
    record = _read_json(path)
    if record.get("format") != FORMAT:
        raise SpeechkdError(
            f"{path} has format {record.get('format')!r}; this version of speechkd reads {FORMAT}. "
            "Probe again with another --out."
        )
    asked, told, missing = (record.get(name) for name in ("asked", "told", "missing"))
    if not (isinstance(asked, dict) and isinstance(told, list) and isinstance(missing, dict)):
        raise Damaged(_torn(path, "asked, told or missing is not what it should be"))
    return record


def _pretrained(record: Mapping[str, Any], path: Path) -> Pretrained:
    try:
        return Pretrained.from_record(record.get("encoder"))
    except ValueError as error:
        raise Damaged(_torn(path, error)) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = parse_json(_read_text(path))
    except ValueError as error:
        raise Damaged(_torn(path, error)) from None
    if not isinstance(record, dict):
        raise Damaged(_torn(path, "it is no JSON object"))
    return record


def _read_text(path: Path) -> str:
    try:
        return read_text_file(path)
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise Damaged(_torn(path, error)) from None


def _torn(path: Path, why: object) -> str:
    return f"{path} is damaged ({why}); remove it and run the same probe again."
