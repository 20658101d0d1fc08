"""Any table of texts with one label each → one question for fine-tuning."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.tables import read_rows
from pipeline.tasks.splits import SPLIT_NAMES, SPLITS, made_split
from pipeline.tasks.task import Question, Task

MOST_CLASSES = 100
MOST_LISTED = 10  # classes named in the description of a task


@dataclass(frozen=True)
class LabelColumns:
    """Names of a table's columns; an empty one is not used.

    Attributes:
        text: the text.
        label: the label to be predicted.
        id: a name for each row; without it a row is named by its number.
        group: rows that must stay in one split together; without it each row is by itself.
        split: the table's own split; without it one is made.
    """

    text: str
    label: str
    id: str = ""
    group: str = ""
    split: str = ""


@dataclass(frozen=True)
class LabelledText:
    """One row of a table.

    Attributes:
        id: its name, unique in the table.
        group: what it must stay in one split with, such as its speaker.
        split: `train`, `valid` or `test`.
        text: its text.
        label: its label, as text.
    """

    id: str
    group: str
    split: str
    text: str
    label: str


@dataclass(frozen=True)
class Labelled:
    """A table's texts and labels in their splits.

    Attributes:
        task: what is asked.
        rows: the rows with text and label.
        labels: the label of each row, as the task has it.
        skipped: number of rows without text or label.
    """

    task: Task
    rows: tuple[LabelledText, ...]
    labels: Array
    skipped: int

    @property
    def question(self) -> Question:
        """The task with the labels of each split."""
        places = {
            split: [i for i, row in enumerate(self.rows) if row.split == split] for split in SPLITS
        }
        labels = {split: self.labels[rows] for split, rows in places.items()}
        return Question(self.task, places, labels, [self.rows[i].label for i in places["test"]])

    @property
    def sha256(self) -> str:
        """Digest of ids, groups, splits, texts and labels: the table's identity in results."""
        digest = hashlib.sha256()
        for row in self.rows:
            content = [f"{row.group}[{row.id}]", row.split, row.text, row.label]
            digest.update(json.dumps(content).encode() + b"\n")
        return digest.hexdigest()


def read_labelled(
    path: Path,
    columns: LabelColumns,
    kind: Literal["classes", "value"],
    split_seed: int,
    reserved: Collection[str] = (),
) -> Labelled:
    """Read a table of labelled texts.

    Args:
        path: as `pipeline.foundation.tables.read_rows` reads it.
        columns: which column is what.
        kind: whether the label is a class or a number.
        split_seed: seed of the split, where one is made.
        reserved: names that the task must not have, because other tasks have them. The task is
            called as the label's column, with ` (table)` behind where that name is reserved.

    Raises:
        SpeechkdError: a column or a value is missing or wrong, or a group is in two splits.
    """
    names, table = read_rows(path)
    missing = [c for c in vars(columns).values() if c and c not in names]
    if missing:
        raise SpeechkdError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}. Name them with "
            "--text-column, --label-column, --id-column, --group-column and --split-column."
        )
    rows, skipped = [], 0
    for number, (place, cells) in enumerate(table, start=1):
        text, label = _cell(cells.get(columns.text)), _cell(cells.get(columns.label))
        if not text.strip() or not label.strip():
            skipped += 1
            continue
        name = _cell(cells.get(columns.id)) if columns.id else str(number)
        group = _cell(cells.get(columns.group)) if columns.group else name
        split = _split(cells, columns, f"{path}, {place}")
        rows.append(LabelledText(name, group, split, " ".join(text.split()), label.strip()))
    if not rows:
        raise SpeechkdError(f"{path} has no row with both {columns.text} and {columns.label}.")
    _check(rows, path, columns)
    if not columns.split:
        splits = made_split([row.group for row in rows], split_seed)
        rows = [replace(row, split=split) for row, split in zip(rows, splits, strict=True)]
    name = columns.label if columns.label not in reserved else f"{columns.label} (table)"
    task, labels = _task(name, [row.label for row in rows], kind, path)
    for split in ("train", "test"):
        if not any(row.split == split for row in rows):
            raise SpeechkdError(f"{path}: no row is in the split {split}.")
    return Labelled(task, tuple(rows), labels, skipped)


def _cell(value: Any) -> str:
    """A cell as text, whatever the table's form keeps it as."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


def _split(cells: Mapping[str, Any], columns: LabelColumns, where: str) -> str:
    if not columns.split:
        return ""
    name = _cell(cells.get(columns.split)).strip().lower()
    if SPLIT_NAMES.get(name, "") not in SPLITS:
        raise SpeechkdError(
            f"{where}, column {columns.split}: split {name!r} is none of {', '.join(SPLITS)}."
        )
    return SPLIT_NAMES[name]


def _check(rows: Sequence[LabelledText], path: Path, columns: LabelColumns) -> None:
    twice = [name for name, n in Counter(row.id for row in rows).items() if n > 1]
    if twice:
        raise SpeechkdError(f"{path}: {columns.id or 'row'} {twice[0]} stands there twice.")
    split_of: dict[str, str] = {}
    for row in rows:
        if split_of.setdefault(row.group, row.split) != row.split:
            raise SpeechkdError(
                f"{path}: {columns.group} {row.group} is both in {split_of[row.group]} and in "
                f"{row.split}; what is met in training must not be in the test."
            )


def _task(
    name: str, labels: Sequence[str], kind: Literal["classes", "value"], path: Path
) -> tuple[Task, Array]:
    """The task that these labels make, and the labels as it has them."""
    if kind == "value":
        try:
            values = [float(label) for label in labels]
        except ValueError as error:
            raise SpeechkdError(
                f"{path}, column {name}: not every value is a number ({error}). Correct it, or use "
                "--kind classes."
            ) from None
        if not all(map(math.isfinite, values)):
            raise SpeechkdError(f"{path}, column {name}: not all values are finite numbers.")
        return Task(name, "value", (name,), f"{name}, regression"), np.array(values, np.float32)
    classes = sorted(set(labels))
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise SpeechkdError(
            f"{path}, column {name}: {len(classes)} different values; classes are 2 to "
            f"{MOST_CLASSES}. Is it a number (--kind value)?"
        )
    listed = ", ".join(classes[:MOST_LISTED])
    if len(classes) > MOST_LISTED:
        listed = f"{len(classes)} classes ({listed} …)"
    return (
        Task(name, "classes", tuple(classes), f"{name}: one of {listed}"),
        np.array([classes.index(label) for label in labels], np.int64),
    )
