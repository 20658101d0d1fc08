"""Labels as a table writes them → a task, and the labels as the task has them."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.tasks.task import Task

MOST_CLASSES = 300
MOST_LISTED = 10
LONGEST_LIST = 60
"""Classes, and letters of their names, in the description of a task."""

_CLASS_NUMBER = re.compile(r"([+-]?)(0|[1-9][0-9]*)(?:\.([0-9]*))?")


def class_name(label: str) -> str:
    """A label as the name of its class: 1, 1.0 and +1 are one class, and so are 1.50 and 1.5.

    A number with zeros in front (`007`) is a code and stays as it is.
    """
    label = label.strip()
    number = _CLASS_NUMBER.fullmatch(label)
    if not number:
        return label
    sign, whole, part = number.groups()
    part = (part or "").rstrip("0")
    value = whole + (f".{part}" if part else "")
    return f"-{value}" if sign == "-" and value != "0" else value


def alike(labels: Sequence[str]) -> list[str]:
    """Classes whose names differ in case or spaces only, as `Happy (12), happy (30)`."""
    counts = Counter(labels)
    spellings: dict[str, list[str]] = {}
    for name in sorted(counts):
        spellings.setdefault("".join(name.casefold().split()), []).append(name)
    return [
        ", ".join(f"{name} ({counts[name]:,})" for name in names)
        for names in spellings.values()
        if len(names) > 1
    ]


def task_of(
    name: str, labels: Sequence[str], kind: Literal["classes", "value"], where: str
) -> tuple[Task, Array]:
    """The task that these labels make, and the labels as it has them.

    Args:
        name: of the task.
        labels: the label of each row; classes by `class_name`.
        kind: whether they are classes or numbers.
        where: the table and its column, for messages.

    Raises:
        SpeechkdError: they are not of that kind, or there are too few or too many classes.
    """
    if kind == "value":
        values = [_number(label) for label in labels]
        wrong = [label for label, value in zip(labels, values, strict=True) if value is None]
        if wrong:
            raise SpeechkdError(
                f"{where}: {counted(len(wrong), 'label')} of {len(labels):,} "
                f"{'is' if len(wrong) == 1 else 'are'} no finite number, such as {wrong[0]!r}. "
                "Correct them, or leave the cells empty, which leaves their rows out; classes are "
                "--kind classes."
            )
        return Task(name, "value", (name,), f"{name}, regression"), np.array(values, np.float32)
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise SpeechkdError(
            f"{where}: {counted(len(labels), 'row')} can be used"
            + (f", all with the label {classes[0]!r}" if classes else "")
            + "; at least two classes are needed."
        )
    if len(classes) > MOST_CLASSES:
        raise SpeechkdError(
            f"{where}: {len(classes):,} different labels, and classes are at most {MOST_CLASSES}. "
            "Is it a number (--kind value)?"
        )
    number = {label: place for place, label in enumerate(classes)}
    return (
        Task(name, "classes", tuple(classes), f"{name}: one of {_listed(classes)}"),
        np.array([number[label] for label in labels], np.int64),
    )


def _number(label: str) -> float | None:
    """A label as a finite number, or None if it is none."""
    try:
        value = float(label)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _listed(classes: Sequence[str]) -> str:
    """`a, b, c` if there are few; else `100 classes (a, b …)`, which is never long."""
    first = ", ".join(classes[:MOST_LISTED])
    if len(classes) <= MOST_LISTED and len(first) <= LONGEST_LIST:
        return first
    if len(first) > LONGEST_LIST:
        first = first[:LONGEST_LIST].rstrip(" ,")
    return f"{len(classes)} classes ({first} …)"
