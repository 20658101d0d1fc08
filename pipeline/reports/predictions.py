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
from typing import Any, get_args

import numpy as np

from pipeline.finetuning.cells import Cell
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import Damaged, NotThere
from pipeline.tasks.metrics import score_classes, score_flags, score_values
from pipeline.tasks.mosei.schemes import score_derived
from pipeline.tasks.spans.overlap import OUTPUTS, score_spans
from pipeline.tasks.speakers import LISTED, judge
from pipeline.tasks.verification import PairKind
from pipeline.tasks.words import score_words

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
        predictions: of the same shape. Of speakers there are none: labels are numbers of speaker
            and recording `[n, 2]`, and these are vectors `[n, D]`. Of spans labels are true answers
            `[n, A, 2]`, and these are outputs `[n, Q]`.
        words: more about each answer, where words were asked of.
        seconds: length of the passage of each, where spans were asked of; else None.
        folds: the same of each fold, in order, if these are of several; each fold has a classifier
            of its own.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: Array
    predictions: Array
    words: "WordAnswers | None" = None
    seconds: Array | None = None
    folds: "tuple[Predictions, ...]" = ()

    @property
    def texts(self) -> int:
        """How many texts were tested."""
        return len(set(self.words.texts)) if self.words else len(self.ids)

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """The predictions of all folds, one after the other."""
        return cls(
            tuple(itertools.chain.from_iterable(part.ids for part in parts)),
            tuple(itertools.chain.from_iterable(part.groups for part in parts)),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.predictions for part in parts]),
            WordAnswers.joined([part.words for part in parts if part.words]),
            folds=tuple(parts),
        )


@dataclass(frozen=True)
class WordAnswers:
    """What predictions of words tell beside label and answer.

    Attributes:
        texts: the text that each word is of, by its id.
        margins: by how much yes beats no `[n]`.
        prior: the same by the word alone, without its text.
    """

    texts: tuple[str, ...]
    margins: Array
    prior: Array

    @classmethod
    def joined(cls, parts: Sequence["WordAnswers"]) -> "WordAnswers | None":
        """Those of several tests, one after the other; None of none."""
        if not parts:
            return None
        return cls(
            tuple(itertools.chain.from_iterable(part.texts for part in parts)),
            np.concatenate([part.margins for part in parts]),
            np.concatenate([part.prior for part in parts]),
        )

    @property
    def text_n(self) -> Array:
        """The text of each word, as a number."""
        return np.unique(np.array(self.texts), return_inverse=True)[1]


def read_predictions(path: Path, kind: str, outputs: Sequence[str]) -> Predictions:
    """Read a cell's predictions file.

    Raises:
        SpeechkdError: it is missing, or is no predictions file.
    """
    if kind == "speaker":
        return _read_vectors(path)
    if kind == "spans":
        return _read_spans(path)
    suffixes = [f":{name}" for name in outputs] if kind == "flags" else [""]
    more = [*(f"score:{name}" for name in outputs), "prior"] if kind == "words" else []
    texts: tuple[str, ...] = ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            place = {name: number for number, name in enumerate(next(rows))}
            names = [*_columns(suffixes), *more, *(["text"] if more else [])]
            ids, groups, *numbers = zip(
                *([row[place[name]] for name in names] for row in rows), strict=True
            )
        if more:
            *numbers, texts = numbers
        values_Fn = np.array([[float(cell) for cell in column] for column in numbers])
    except FileNotFoundError:
        raise NotThere(
            f"{path}: the predictions of a finished cell are missing; {REMEDY}."
        ) from None
    except (KeyError, TypeError, ValueError, IndexError, StopIteration, csv.Error) as error:
        raise Damaged(
            f"{path} is not a predictions file ({error!r}); remove it, and {REMEDY}."
        ) from None
    many = len(suffixes)
    labels, predictions = values_Fn[:many].T, values_Fn[many : 2 * many].T
    if kind != "flags":
        labels, predictions = labels[:, 0], predictions[:, 0]
    words = None
    if more:
        no_n, yes_n, prior_n = values_Fn[2 * many :].astype(np.float32).astype(np.float64)
        words = WordAnswers(texts, yes_n - no_n, prior_n)
    return Predictions(ids, groups, labels, predictions, words)


def _read_vectors(path: Path) -> Predictions:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            names = next(rows)
            first = names.index("vector:0")
            place = [names.index(name) for name in ("id", "group", "label", "recording")]
            own, vectors = [], []
            for row in rows:
                own.append([row[i] for i in place])
                vectors.append(np.array(row[first:], np.float32))
        labels_n2 = np.array([[int(cell) for cell in row[2:]] for row in own], np.int64)
        vectors_nD = np.stack(vectors)
    except FileNotFoundError:
        raise NotThere(f"{path}: the vectors of a finished cell are missing; {REMEDY}.") from None
    except (ValueError, IndexError, StopIteration, csv.Error) as error:
        raise Damaged(
            f"{path} is no file of vectors ({error!r}); remove it, and {REMEDY}."
        ) from None
    ids, groups = (tuple(row[i] for row in own) for i in (0, 1))
    return Predictions(ids, groups, labels_n2, vectors_nD)


def _read_spans(path: Path) -> Predictions:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            place = {name: number for number, name in enumerate(next(rows))}
            names = ["id", "group", "raw", "seconds", *OUTPUTS]
            ids, groups, raw, seconds, *outputs = zip(
                *([row[place[name]] for name in names] for row in rows), strict=True
            )
        answers = [[one.split(" ") for one in cell.split(";")] for cell in raw]
        labels_nA2 = np.zeros((len(ids), max(map(len, answers)), 2))
        for number, own in enumerate(answers):
            labels_nA2[number, : len(own)] = np.array(own, np.float64)
        outputs_nQ = np.array(outputs, np.float32).T.astype(np.float64)
        seconds_n = np.array(seconds, np.float64)
    except FileNotFoundError:
        raise NotThere(f"{path}: the answers of a finished cell are missing; {REMEDY}.") from None
    except (KeyError, ValueError, IndexError, StopIteration, csv.Error) as error:
        raise Damaged(
            f"{path} is no file of answers ({error!r}); remove it, and {REMEDY}."
        ) from None
    return Predictions(ids, groups, labels_nA2, outputs_nQ, seconds=seconds_n)


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
    if predictions.texts != cell.splits["test"]:
        raise Damaged(
            f"{path} holds {predictions.texts:,} of {cell.splits['test']:,} test clips; remove "
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
    if cell.kind == "speaker":
        if cell.metrics["trials"] == LISTED:  # the list is the user's, and is not kept
            return dict(cell.metrics)
        if not np.isfinite(of.predictions).all():
            raise ValueError("not every vector is finite")
        if cell.metrics["trials"] not in get_args(PairKind):
            raise ValueError(f"trials are {cell.metrics['trials']!r}")
        kind: PairKind = cell.metrics["trials"]
        return judge(of.labels, of.predictions, kind=kind, listed=None)
    if of.seconds is not None:
        if not all(np.isfinite(part).all() for part in (of.labels, of.predictions, of.seconds)):
            raise ValueError("not every time is a finite number")
        return score_spans(of.labels, of.predictions, of.seconds)
    classes = 2 if cell.kind == "flags" else len(cell.outputs)
    for numbers in (of.labels, of.predictions):
        if not np.isin(numbers, np.arange(classes)).all():
            raise ValueError(f"a class is not one of 0 to {classes - 1}")
    if cell.kind == "flags":
        return score_flags(of.labels, of.predictions, cell.outputs)
    if of.words:
        words = of.words
        if not (np.isfinite(words.margins).all() and np.isfinite(words.prior).all()):
            raise ValueError("not every score is a finite number")
        if not np.array_equal(of.predictions, words.margins > 0):
            raise ValueError("an answer is not that of its scores")
        labels_n = of.labels.astype(np.int64)
        return score_words(labels_n, words.margins, words.text_n, words.prior)
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
