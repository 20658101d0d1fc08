"""What finished cells predicted, read from their files, and the figures that follow from it.

A report shows the figures that the predictions give. A cell whose record has another one is
refused.

Shapes: n clips, F flags.
"""

import csv
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.finetuning.cells import Cell
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import Damaged, NotThere
from pipeline.tasks.metrics import score_classes, score_flags, score_values
from pipeline.tasks.mosei.schemes import score_derived

REMEDY = "the `speechkd finetune` that made it makes it again"
NEAR = 1e-6
"""How far a recorded figure may be from that of the predictions: rounding on another machine."""


@dataclass(frozen=True)
class Predictions:
    """What a cell predicted, as its predictions file holds it.

    Attributes:
        ids: the test clips.
        groups: the video of each.
        labels: true labels `[n]`, or `[n, F]` for several flags.
        predictions: of the same shape.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: Array
    predictions: Array

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """The predictions of several tests, such as those of all folds, one after the other."""
        return cls(
            tuple(itertools.chain.from_iterable(part.ids for part in parts)),
            tuple(itertools.chain.from_iterable(part.groups for part in parts)),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.predictions for part in parts]),
        )


def read_predictions(path: Path, kind: str, outputs: Sequence[str]) -> Predictions:
    """Read a cell's predictions file.

    Raises:
        SpeechkdError: it is missing, or is no predictions file.
    """
    suffixes = [f":{name}" for name in outputs] if kind == "flags" else [""]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            place = {name: number for number, name in enumerate(next(rows))}
            ids, groups, *numbers = zip(
                *([row[place[name]] for name in _columns(suffixes)] for row in rows), strict=True
            )
        values_Fn = np.array([[float(cell) for cell in column] for column in numbers])
    except FileNotFoundError:
        raise NotThere(
            f"{path}: the predictions of a finished cell are missing; {REMEDY}."
        ) from None
    except (KeyError, TypeError, ValueError, IndexError, StopIteration, csv.Error) as error:
        raise Damaged(
            f"{path} is not a predictions file ({error!r}); remove it, and {REMEDY}."
        ) from None
    labels, predictions = values_Fn[: len(suffixes)].T, values_Fn[len(suffixes) :].T
    if kind != "flags":
        labels, predictions = labels[:, 0], predictions[:, 0]
    return Predictions(ids, groups, labels, predictions)


def _columns(suffixes: Sequence[str]) -> list[str]:
    return ["id", "group", *(f"{name}{s}" for name in ("label", "prediction") for s in suffixes)]


def scored(cell: Cell, path: Path) -> tuple[Cell, Predictions]:
    """A cell with the figures that its predictions give, and these.

    Args:
        cell: as its record has it.
        path: its predictions file.

    Raises:
        SpeechkdError: the predictions are missing, cut short or no such file, or give another
            figure than the record has.
    """
    predictions = read_predictions(path, cell.kind, cell.outputs)
    if len(predictions.ids) != cell.splits["test"]:
        raise Damaged(
            f"{path} holds {len(predictions.ids):,} of {cell.splits['test']:,} test clips; remove "
            f"it, and {REMEDY}."
        )
    try:
        metrics = figures_of(cell, predictions)
    except (ValueError, OverflowError, IndexError) as error:
        raise Damaged(
            f"{path}: its labels or predictions are none of {cell.title} ({error}); remove it, "
            f"and {REMEDY}."
        ) from None
    for name, recorded, given in _unequal(cell.metrics, metrics):
        raise Damaged(
            f"{path} does not give a figure of its cell: {name} is {given} by these predictions "
            f"and {recorded} by the record ({cell.name}). One of the two was changed: remove "
            f"cells/{cell.name}.json, and {REMEDY}."
        )
    return replace(cell, metrics=metrics), predictions


def figures_of(cell: Cell, of: Predictions) -> dict[str, Any]:
    """Every metric of a cell's kind from predictions.

    Raises:
        ValueError: they are not of that kind.
    """
    if cell.kind == "value":
        labels_n, predictions_n = of.labels.astype(np.float32), of.predictions.astype(np.float32)
        if not (np.isfinite(labels_n).all() and np.isfinite(predictions_n).all()):
            raise ValueError("not every value is a finite number")
        values = score_values(labels_n, predictions_n)
        derived = score_derived(labels_n, predictions_n) if "derived" in cell.metrics else {}
        return values | derived
    classes = 2 if cell.kind == "flags" else len(cell.outputs)
    for numbers in (of.labels, of.predictions):
        if not np.isin(numbers, np.arange(classes)).all():
            raise ValueError(f"a class is not one of 0 to {classes - 1}")
    if cell.kind == "flags":
        return score_flags(of.labels, of.predictions, cell.outputs)
    return score_classes(of.labels, of.predictions, classes)


def _unequal(recorded: Any, given: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Figures of a record that are not those of the predictions; names the record lacks are not."""
    if isinstance(recorded, Mapping) and isinstance(given, Mapping):
        for key, value in recorded.items():
            yield from _unequal(value, given.get(key), f"{name}.{key}" if name else key)
    elif isinstance(recorded, list) and isinstance(given, list) and len(recorded) == len(given):
        for place, (one, other) in enumerate(zip(recorded, given, strict=True)):
            yield from _unequal(one, other, f"{name}[{place}]")
    elif isinstance(recorded, int | float) and isinstance(given, int | float):
        if not math.isclose(recorded, given, rel_tol=NEAR, abs_tol=NEAR):
            yield name, recorded, given
    elif recorded != given:
        yield name, recorded, given
