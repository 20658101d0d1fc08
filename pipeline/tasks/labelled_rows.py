"""The rows of tables of labelled texts, from one file or several."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.missing import is_missing
from pipeline.foundation.tables import read_rows
from pipeline.shards.recordings import key_of_path
from pipeline.tasks.labels import class_name
from pipeline.tasks.splits import SPLIT_NAMES, SPLITS

LabelKind: TypeAlias = Literal["classes", "value", "words"]
"""What the labels of a table are: classes, numbers, or a label for each word."""
LABELS_JOINED_BY = " + "


@dataclass(frozen=True)
class Source:
    """One file of a table.

    Attributes:
        path: as `pipeline.foundation.tables.read_rows` reads it.
        split: the split of all its rows; empty if the file is not one split.
    """

    path: Path
    split: str = ""

    @classmethod
    def of(cls, written: str) -> "Source":
        """What a user wrote as `PATH` or `SPLIT=PATH`, such as `dev=dev.csv`."""
        name, equals, path = written.partition("=")
        split = SPLIT_NAMES.get(name, "")
        if not (equals and split) or Path(written).exists():
            return cls(Path(written))
        return cls(Path(path), split)


@dataclass(frozen=True)
class LabelColumns:
    """Names of a table's columns; an empty one is not used.

    Attributes:
        text: the text; empty where the examples are clips of audio.
        label: the label to be predicted, or several columns joined by `+`, which make one label.
        id: a name for each row; without it a row is named by its number.
        group: rows that must stay in one split together; without it each row is by itself.
        split: the table's own split; without it one is made.
        fold: what is left out in turn, such as the session or the speaker; in place of a split.
    """

    text: str
    label: str
    id: str = ""
    group: str = ""
    split: str = ""
    fold: str = ""


@dataclass(frozen=True)
class LabelledText:
    """One row of a table.

    Attributes:
        id: its name, unique in the table.
        group: what it must stay in one split with, such as its speaker.
        split: `train`, `valid` or `test`; empty where there are folds.
        text: its text.
        label: its label, as text.
        part: its value in the fold column.
        key: its name in its own file, by which a clip of a cache is found.
    """

    id: str
    group: str
    split: str
    text: str
    label: str
    part: str = ""
    key: str = ""


def read_labelled_rows(
    sources: Sequence[Source],
    columns: LabelColumns,
    kind: LabelKind,
    notes: Counter[str],
    only: Collection[str] | None = None,
    *,
    groups_per_file: bool = False,
) -> list[LabelledText]:
    """The rows with text and label of all files, in order.

    Args:
        sources: the files.
        columns: which column is what.
        kind: labels that are classes are named by `class_name`.
        notes: counts what is left out, and why.
        only: keys of the rows that can be used; None for all. An id that is a path is taken for the
            key that `speechkd shard` gives a recording of that path.
        groups_per_file: whether the groups of each file are others, even if they are named alike.

    Raises:
        SpeechkdError: a column is missing, or a row has no id or no known split.
    """
    rows = [
        row
        for source, prefix in _named(sources)
        for row in _read(
            source, prefix, columns, kind, notes, group_prefix=prefix if groups_per_file else ""
        )
    ]
    if only is None:
        return rows
    # clips are keyed by their paths without suffix where a table of recordings has no ids
    rows = [r if r.key in only else replace(r, key=key_of_path(r.key)) for r in rows]
    without = [row.key for row in rows if row.key not in only]
    if without:
        notes[f"rows without a clip in the cache, such as {without[0]!r}, left out"] = len(without)
    return [row for row in rows if row.key in only]


def _named(sources: Sequence[Source]) -> Iterator[tuple[Source, str]]:
    """Each source, and what the names of its rows begin with: nothing if it is the only one."""
    stems = [source.split or source.path.stem for source in sources]
    for place, source in enumerate(sources):
        stem = stems[place]
        number = f"-{place + 1}" if stems.count(stem) > 1 else ""
        yield source, f"{stem}{number}:" if len(sources) > 1 else ""


def _read(
    source: Source,
    prefix: str,
    columns: LabelColumns,
    kind: LabelKind,
    notes: Counter[str],
    *,
    group_prefix: str,
) -> Iterator[LabelledText]:
    path = source.path
    names, table = read_rows(path)
    labels = [columns.label] if columns.label in names else columns.label.split("+")
    others = [c for name, c in vars(columns).items() if c and name != "label"]
    missing = [c for c in (*others, *labels) if c not in names]
    if missing:
        raise SpeechkdError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}. Name them with "
            "--text-column, --label-column, --id-column, --group-column, --split-column and "
            "--fold-column."
        )
    for number, (place, cells) in enumerate(table, start=1):
        text = _cell(cells.get(columns.text)) if columns.text else ""
        parts = [_cell(cells.get(column)).strip() for column in labels]
        needed = [("text", text)] if columns.text else []
        needed += [("label", part) for part in parts]
        if blank := next((both for both in needed if is_missing(both[1])), None):
            what, cell = blank
            notes[f"rows whose {what} is {cell.strip() or 'blank'}, left out"] += 1
            continue
        label = LABELS_JOINED_BY.join(parts)
        own = _cell(cells.get(columns.id)) if columns.id else str(number)
        if is_missing(own):
            raise SpeechkdError(f"{path}, {place}: column {columns.id} is empty; each row has one.")
        name = f"{prefix}{own}"
        group, part = name, ""
        if columns.group:
            group = _cell(cells.get(columns.group)).strip()
            if is_missing(group):
                notes[f"rows without {columns.group}, each by itself"] += 1
                group = f"{name} (no {columns.group})"
            else:
                group = f"{group_prefix}{group}"
        if columns.fold:
            part = _cell(cells.get(columns.fold)).strip()
            if is_missing(part):
                notes[f"rows without {columns.fold}, left out"] += 1
                continue
        split = source.split or _split(cells, columns, f"{path}, {place}")
        label = class_name(label) if kind == "classes" else label
        text = " ".join(text.split())
        yield LabelledText(name, group, split, text, label, class_name(part), own.strip())


def _cell(value: Any) -> str:
    """A cell as text, whatever the table's form keeps it as."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool | int | float | list) else str(value)


def _split(cells: Mapping[str, Any], columns: LabelColumns, where: str) -> str:
    if not columns.split:
        return ""
    name = _cell(cells.get(columns.split)).strip().lower()
    if SPLIT_NAMES.get(name, "") not in SPLITS:
        raise SpeechkdError(
            f"{where}, column {columns.split}: split {name!r} is none of {', '.join(SPLITS)}."
        )
    return SPLIT_NAMES[name]
