"""Any table of texts with a label each → one question for fine-tuning."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.tables import read_rows
from pipeline.tasks.mosei.clips import SPLITS, Clip, made_split
from pipeline.tasks.mosei.questions import TASKS, Task
from pipeline.tasks.mosei.tables import SPLIT_NAMES

MOST_CLASSES = 100


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; an empty one is not used.

    Attributes:
        text: what is read.
        label: what is to be told.
        id: a name for each row; else its number.
        group: rows that must stay in one split together; else each row by itself.
        split: the given split; else one is made.
    """

    text: str
    label: str
    id: str = ""
    group: str = ""
    split: str = ""


@dataclass(frozen=True)
class Labelled:
    """Texts and labels in their splits.

    Attributes:
        task: the question.
        clips: id, group, split and text of each row.
        raw: the label of each row, as text.
        labels: the label of each row, as the task has it.
        skipped: rows without text or label.
        sha256: digest of all of it.
    """

    task: Task
    clips: tuple[Clip, ...]
    raw: tuple[str, ...]
    labels: Array
    skipped: int
    sha256: str

    def places(self, split: str) -> list[int]:
        """The rows of a split."""
        return [i for i, clip in enumerate(self.clips) if clip.split == split]


def read_labelled(
    path: Path, columns: Columns, kind: Literal["classes", "value"], split_seed: int
) -> Labelled:
    """Read a table of labelled texts.

    Args:
        path: as `pipeline.foundation.tables.read_rows` reads it.
        columns: which column is what.
        kind: whether the label is a class or a number.
        split_seed: seed of the split, where one is made.

    Raises:
        SpeechkdError: a column or a value is missing or wrong, or a group is in two splits.
    """
    names, rows = read_rows(path)
    missing = [c for c in vars(columns).values() if c and c not in names]
    if missing:
        raise SpeechkdError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}. Name them with "
            "--text-column, --label-column, --id-column, --group-column and --split-column."
        )
    clips, raw, skipped = [], [], 0
    for number, (at, row) in enumerate(rows, start=1):
        text, label = _told(row.get(columns.text)), _told(row.get(columns.label))
        if not text.strip() or not label.strip():
            skipped += 1
            continue
        name = _told(row.get(columns.id)) if columns.id else str(number)
        group = _told(row.get(columns.group)) if columns.group else name
        split = _split(row, columns, f"{path}, {at}")
        clips.append(Clip(group, name, split, " ".join(text.split()), 0.0))
        raw.append(label.strip())
    if not clips:
        raise SpeechkdError(f"{path} has no row with both {columns.text} and {columns.label}.")
    _check(clips, path, columns)
    if not columns.split:
        clips = list(made_split(clips, split_seed))
    task, labels = _task(raw, kind, columns, path)
    digest = hashlib.sha256()
    for clip, label in zip(clips, raw, strict=True):
        digest.update(json.dumps([clip.id, clip.split, clip.text, label]).encode() + b"\n")
    found = Labelled(task, tuple(clips), tuple(raw), labels, skipped, digest.hexdigest())
    for split in ("train", "test"):
        if not found.places(split):
            raise SpeechkdError(f"{path}: no row is in the split {split}.")
    return found


def _told(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


def _split(row: Mapping[str, Any], columns: Columns, where: str) -> str:
    if not columns.split:
        return ""
    name = _told(row.get(columns.split)).strip().lower()
    if SPLIT_NAMES.get(name, "") not in SPLITS:
        raise SpeechkdError(
            f"{where}, column {columns.split}: split {name!r} is none of {', '.join(SPLITS)}."
        )
    return SPLIT_NAMES[name]


def _check(clips: list[Clip], path: Path, columns: Columns) -> None:
    twice = [name for name, n in Counter(clip.clip_id for clip in clips).items() if n > 1]
    if twice:
        raise SpeechkdError(f"{path}: {columns.id or 'row'} {twice[0]} stands there twice.")
    home: dict[str, str] = {}
    for clip in clips:
        if home.setdefault(clip.video_id, clip.split) != clip.split:
            raise SpeechkdError(
                f"{path}: {columns.group} {clip.video_id} is both in {home[clip.video_id]} and in "
                f"{clip.split}; what is met in training must not be in the test."
            )


def _task(
    raw: list[str], kind: Literal["classes", "value"], columns: Columns, path: Path
) -> tuple[Task, Array]:
    name = columns.label if columns.label not in TASKS else f"{columns.label} (table)"
    if kind == "value":
        try:
            values = [float(label) for label in raw]
        except ValueError as error:
            raise SpeechkdError(f"{path}, column {name}: {error}; or use --kind classes.") from None
        if not all(map(math.isfinite, values)):
            raise SpeechkdError(f"{path}, column {name}: not all values are finite numbers.")
        return Task(name, "value", (name,), f"{name}, regression"), np.array(values, np.float32)
    classes = sorted(set(raw))
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise SpeechkdError(
            f"{path}, column {name}: {len(classes)} different values; classes are 2 to "
            f"{MOST_CLASSES}. Is it a number (--kind value)?"
        )
    definition = f"{name}: one of {', '.join(classes)}"
    return (
        Task(name, "classes", tuple(classes), definition),
        np.array([classes.index(label) for label in raw], np.int64),
    )
