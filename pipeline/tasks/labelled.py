"""Tables of texts with labels → questions for fine-tuning: one, or one per fold."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.duplicates import contradictions, distinct
from pipeline.tasks.folds import Fold, Validation, leave_out
from pipeline.tasks.labelled_rows import (
    LabelColumns,
    LabelKind,
    LabelledText,
    Source,
    read_labelled_rows,
)
from pipeline.tasks.labels import task_of
from pipeline.tasks.oddities import odd_of_classes, odd_of_table
from pipeline.tasks.splits import SPLITS, made_split
from pipeline.tasks.task import Question, Task
from pipeline.tasks.word_labels import MarkedText, marked, word_question, word_task


@dataclass(frozen=True)
class Division:
    """How the rows are divided where the table does not say.

    Attributes:
        seed: of a made split, and of dealing parts to folds.
        folds: how many folds; 0 for one per value of the fold column, or for none.
        validation: what of the rest validates, where there are folds.
        drop_duplicates: whether to leave out all but one of equal texts.
        groups_per_file: whether the groups of each file are others, even if they are named alike.
    """

    seed: int = 0
    folds: int = 0
    validation: Validation = "none"
    drop_duplicates: bool = False
    groups_per_file: bool = False


@dataclass(frozen=True)
class Labelled:
    """A table's texts and labels in their splits.

    Attributes:
        task: what is asked.
        rows: the rows with text and label.
        labels: the label of each row, as the task has it; none where each word has one.
        folds: the ways in which the rows are divided; one without a name if there are no folds.
        notes: sentences on what was left out, how often, and what is odd.
        words: the words of each row with their labels, where each word has one.
    """

    task: Task
    rows: tuple[LabelledText, ...]
    labels: Array
    folds: tuple[Fold, ...]
    notes: tuple[str, ...]
    words: tuple[MarkedText, ...] = ()

    @property
    def questions(self) -> list[Question]:
        """The task with the labels of each split: one question per fold.

        Raises:
            SpeechkdError: all training words of a fold have the same label.
        """
        if self.words:
            of = self.task, self.rows, self.words
            return [word_question(*of, fold, self.task.name) for fold in self.folds]
        questions = []
        for fold in self.folds:
            places = {s: [i for i, own in enumerate(fold.splits) if own == s] for s in SPLITS}
            labels = {split: self.labels[rows] for split, rows in places.items()}
            raw = [self.rows[i].label for i in places["test"]]
            questions.append(Question(self.task, places, labels, raw, fold=fold.name))
        return questions

    @property
    def sha256(self) -> str:
        """Digest of ids, groups, splits, texts and labels: the table's identity in results."""
        digest = hashlib.sha256()
        for row in self.rows:
            content = [f"{row.group}[{row.id}]", row.split, row.text, row.label]
            content += [row.part] if row.part else []
            digest.update(json.dumps(content).encode() + b"\n")
        return digest.hexdigest()


def read_labelled(
    sources: Sequence[Source],
    columns: LabelColumns,
    kind: LabelKind,
    division: Division,
    reserved: Collection[str] = (),
    only: Collection[str] | None = None,
) -> Labelled:
    """Read a table of labelled texts from one file or several.

    Args:
        sources: the files, whose rows follow each other.
        columns: which column is what.
        kind: whether the label is a class or a number, or labels of words.
        division: how to divide the rows.
        reserved: names that the task must not have, because other tasks have them. The task is
            called as the label's column, with ` (table)` behind where that name is reserved.
        only: keys of the rows that can be used, such as those of clips in a cache; None for all.

    Raises:
        SpeechkdError: a column or a value is missing or wrong, or a group is in two splits.
    """
    _check_sources(sources, columns, division)
    notes: Counter[str] = Counter()
    where = " + ".join(str(source.path) for source in sources)
    rows = read_labelled_rows(
        sources, columns, kind, notes, only, groups_per_file=division.groups_per_file
    )
    if not rows:
        omissions = "".join(f" {what}: {count:,}." for what, count in notes.items())
        both = f"both {columns.text} and {columns.label}" if columns.text else columns.label
        if only is not None:
            omissions += f" --id-column names the column of the clips' keys; it is {columns.id}."
        raise SpeechkdError(f"{where} has no row with {both} that can be used.{omissions}")
    _check_ids(rows, where, columns)
    has_split = bool(columns.split or sources[0].split)
    if division.drop_duplicates:
        rows = _distinct(rows, notes)
    if not has_split and not (columns.fold or division.folds):
        splits = made_split([row.group for row in rows], division.seed)
        rows = [replace(row, split=split) for row, split in zip(rows, splits, strict=True)]
    name = columns.label if columns.label not in reserved else f"{columns.label} (table)"
    column = f"{where}, column {columns.label}"
    words: list[MarkedText] = []
    if kind == "words":
        rows, words = marked(rows, column, notes)
        task, labels = word_task(name), np.empty(0, np.int64)
    else:
        task, labels = task_of(name, [row.label for row in rows], kind, column)
    folds = _folds(rows, columns, division)
    _check_folds(rows, folds, where, columns)
    odd = odd_of_table(sources, columns, divided=bool(has_split or columns.fold))
    if kind == "classes":
        odd += odd_of_classes(rows, folds)
    counted = [f"{what}: {n:,}" for what, n in notes.items()]
    return Labelled(task, tuple(rows), labels, tuple(folds), (*counted, *odd), tuple(words))


def _check_sources(sources: Sequence[Source], columns: LabelColumns, division: Division) -> None:
    folds = bool(columns.fold or division.folds)
    splits = [source.split for source in sources]
    if any(splits) and not all(splits):
        alone = next(source.path for source in sources if not source.split)
        raise SpeechkdError(
            f"some files are given as SPLIT=FILE and {alone} is not; give each a split, or none."
        )
    ways = {
        "files given as SPLIT=FILE": any(splits),
        "--split-column": bool(columns.split),
        "--fold-column or --folds": folds,
    }
    chosen = [way for way, is_so in ways.items() if is_so]
    if len(chosen) > 1:
        raise SpeechkdError(f"{' and '.join(chosen)} divide the rows in two ways; leave one out.")


def _distinct(rows: Sequence[LabelledText], notes: Counter[str]) -> list[LabelledText]:
    texts = [row.text for row in rows]
    stay, repeats = distinct(texts, [row.split for row in rows])
    if repeats:
        notes["rows whose text stands elsewhere, left out"] = repeats
    if differing := contradictions(texts, [row.label for row in rows]):
        notes["of their texts stand with different labels"] = differing
    return [rows[i] for i in stay]


def _folds(rows: Sequence[LabelledText], columns: LabelColumns, division: Division) -> list[Fold]:
    if not (columns.fold or division.folds):
        return [Fold("", tuple(row.split for row in rows))]
    return leave_out(
        [row.part if columns.fold else row.group for row in rows],
        count=division.folds,
        validation=division.validation,
        seed=division.seed,
        what=columns.fold or columns.group or "row",
    )


def _check_ids(rows: Sequence[LabelledText], where: str, columns: LabelColumns) -> None:
    twice = [name for name, n in Counter(row.id for row in rows).items() if n > 1]
    if twice:
        raise SpeechkdError(f"{where}: {columns.id or 'row'} {twice[0]} stands there twice.")


def _check_folds(
    rows: Sequence[LabelledText], folds: Sequence[Fold], where: str, columns: LabelColumns
) -> None:
    for fold in folds:
        split_of: dict[str, str] = {}
        for row, split in zip(rows, fold.splits, strict=True):
            if split_of.setdefault(row.group, split) != split:
                raise SpeechkdError(
                    f"{where}: {columns.group} {row.group} is both in {split_of[row.group]} and in "
                    f"{split}{f' of fold {fold.name}' if fold.name else ''}; what is met in "
                    "training must not be in the test. If groups are named anew in each file, add "
                    "--group-per-file."
                )
        for split in ("train", "test"):
            if split not in fold.splits:
                groups = len({row.group for row in rows})
                why = (
                    f"; all rows are of one {columns.group}, and a made split keeps it whole"
                    if columns.group and groups == 1
                    else ""
                )
                raise SpeechkdError(f"{where}: no row is in the split {split}{why}.")
