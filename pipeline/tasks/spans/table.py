"""Questions about spoken passages, from the table that a user has: text in, stretches of time out.

Shapes: n questions of a split, A answers of the question that has most.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.hashing import json_sha256
from pipeline.foundation.missing import is_missing
from pipeline.foundation.tables import cell_text, read_rows
from pipeline.foundation.units import Seconds
from pipeline.tasks.labelled_rows import Source
from pipeline.tasks.spans.overlap import OUTPUTS
from pipeline.tasks.spans.passages import TOLERANCE, Passage, seconds_in
from pipeline.tasks.splits import SPLIT_NAMES, SPLITS, made_split
from pipeline.tasks.task import AskedPassages, Question, Task

COLUMNS = ("question_id", "question", "passage", "answer_start_s", "answer_end_s")
"""The columns that a table of questions must have; `split` and `group` are optional."""
CONTROLS = {
    "shuffled:": "trained on questions about other passages",
    "blind:": "reads no question",
}
"""What stands before a checkpoint to make it a control, and what that does."""
TASK = Task(
    "answer",
    "spans",
    OUTPUTS,
    "answer: where a spoken passage answers a question that is read, in seconds",
)


@dataclass(frozen=True)
class AskedSpan:
    """A question about a passage.

    Attributes:
        id: its name, unique in the table.
        text: the question.
        passage: name of the passage.
        group: what must stay in one split, such as the article; the passage by default.
        split: `train`, `valid` or `test`.
        answers: start and end of each stretch that answers it, in seconds; each one once.
    """

    id: str
    text: str
    passage: str
    group: str
    split: str
    answers: tuple[tuple[Seconds, Seconds], ...]


@dataclass(frozen=True)
class SpanTable:
    """Questions in their splits.

    Attributes:
        rows: the questions.
        passages: those that are asked about, by name.
        notes: sentences on what was left out, and how often.
        has_split: whether the split is the table's own.
    """

    rows: tuple[AskedSpan, ...]
    passages: Mapping[str, Passage]
    notes: tuple[str, ...]
    has_split: bool

    @property
    def question(self) -> Question:
        """What is asked of a reader, with the true answers of each split."""
        places = {s: [i for i, row in enumerate(self.rows) if row.split == s] for s in SPLITS}
        most = max(len(row.answers) for row in self.rows)
        labels = {split: self._answers(inside, most) for split, inside in places.items()}
        asked = {
            split: AskedPassages(
                tuple(self.rows[i].passage for i in inside),
                np.array([self.passages[self.rows[i].passage].end_s for i in inside], np.float64),
            )
            for split, inside in places.items()
        }
        raw = [in_cell(self.rows[i].answers) for i in places["test"]]
        return Question(TASK, places, labels, raw, passages=asked)

    def _answers(self, inside: Sequence[int], most: int) -> Array:
        answers_nA2 = np.zeros((len(inside), most, 2))
        for place, i in enumerate(inside):
            own = self.rows[i].answers
            answers_nA2[place, : len(own)] = own
        return answers_nA2

    @property
    def sha256(self) -> str:
        """Digest of questions, answers, splits and of what each passage is made of."""
        passages = [vars(self.passages[name]) for name in sorted(self.passages)]
        return json_sha256([[vars(row) for row in self.rows], passages])


def in_cell(answers: Sequence[tuple[Seconds, Seconds]]) -> str:
    """Answers as a cell of a table: `12.34 13.1;20.0 21.5`."""
    return ";".join(f"{start!r} {end!r}" for start, end in answers)


@dataclass
class _Draft:
    """What the rows of one question say; `answers` are those that can be used."""

    text: str
    passage: str
    group: str
    split: str
    where: str
    answers: list[tuple[Seconds, Seconds]] = field(default_factory=list)


def read_spans(
    sources: Sequence[Source], passages: Mapping[str, Passage], seed: int, notes: Counter[str]
) -> SpanTable:
    """Read questions and their answers.

    Args:
        sources: tables of `COLUMNS`, a row per answer: several rows of one `question_id` are
            several answers to it. `split` is train, valid or test (or each file is one); without
            it a split of whole groups is made. `group` is what must stay in one split.
        passages: the passages that can be asked about.
        seed: of a made split.
        notes: what is left out already; what is left out here is added.

    Raises:
        SpeechkdError: a column is missing, a time is no number, a row is of another split than its
            file, two rows of a question differ in anything but the answer, a passage or group is in
            two splits, or training or test is empty.
    """
    where = " + ".join(str(source.path) for source in sources)
    drafts: dict[str, _Draft] = {}
    has_splits = set()
    for source in sources:
        for row in _rows(source, passages, drafts, notes):
            has_splits.add(bool(row.split))
    if has_splits == {True, False}:
        raise SpeechkdError(
            f"{where}: some questions have a split and some have none; give each one."
        )
    if unanswered := [name for name, row in drafts.items() if not row.answers]:
        notes["questions without an answer that can be used, left out"] = len(unanswered)
    rows = [
        AskedSpan(
            name, row.text, row.passage, row.group, row.split, tuple(dict.fromkeys(row.answers))
        )
        for name, row in drafts.items()
        if row.answers
    ]
    lines = tuple(f"{what}: {count:,}" for what, count in notes.items())
    if not rows:
        omissions = "".join(f" {line}." for line in lines)
        raise SpeechkdError(f"{where} has no question that can be asked.{omissions}")
    has_split = has_splits == {True}
    if not has_split:
        made = made_split([row.group for row in rows], seed)
        rows = [replace(row, split=split) for row, split in zip(rows, made, strict=True)]
    _check_apart(rows, where)
    inside = {row.passage for row in rows}
    return SpanTable(
        tuple(rows), {name: p for name, p in passages.items() if name in inside}, lines, has_split
    )


def _rows(
    source: Source,
    passages: Mapping[str, Passage],
    drafts: dict[str, _Draft],
    notes: Counter[str],
) -> Iterator[_Draft]:
    """Add the rows of a file to the questions, and give each row's own."""
    path: Path = source.path
    names, table = read_rows(path)
    if missing := [column for column in COLUMNS if column not in names]:
        raise SpeechkdError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}. A table of "
            f"questions has {', '.join(COLUMNS)}, and split if it brings its own."
        )
    for at, cells in table:
        cell = {name: cell_text(value).strip() for name, value in cells.items()}
        place = f"{path}, {at}"
        name = cell.get("question_id", "")
        if is_missing(name):
            raise SpeechkdError(f"{place}: question_id is empty; each row has one.")
        text = " ".join(cell.get("question", "").split())
        if is_missing(text):
            notes["rows whose question is blank, left out"] += 1
            continue
        passage = passages.get(cell.get("passage", ""))
        if passage is None:
            notes[_unknown(notes, cell.get("passage", ""))] += 1
            continue
        split = _split(cell, place)
        if source.split and split not in ("", source.split):
            raise SpeechkdError(
                f"{place}: the row's split is {split}, and the file is given as {source.split}="
                f"{path}. Name the file without a split, or take the column split out."
            )
        split = source.split or split
        group = cell.get("group", "")
        group = passage.name if is_missing(group) else group
        row = _Draft(text, passage.name, group, split, place)
        before = drafts.setdefault(name, row)
        mine, theirs = ((r.text, r.passage, r.group, r.split) for r in (row, before))
        if mine != theirs:
            raise SpeechkdError(
                f"{place}: question_id {name} stands with another question, passage, group or "
                f"split in {before.where}. Several rows of one question differ in their answers."
            )
        answer = _answer(cell, passage, place, notes)
        if answer is not None:
            before.answers.append(answer)
        yield before


def _unknown(notes: Counter[str], name: str) -> str:
    """The note on rows of unknown passages, with the first such passage as its example."""
    begins = "rows of a passage that is not among the passages at hand, "
    new = f"{begins}such as {name!r}, left out"
    return next((note for note in notes if note.startswith(begins)), new)


def _split(cell: Mapping[str, str], place: str) -> str:
    name = cell.get("split", "").lower()
    if name and SPLIT_NAMES.get(name, "") not in SPLITS:
        raise SpeechkdError(f"{place}: split {name!r} is none of {', '.join(SPLITS)}.")
    return SPLIT_NAMES.get(name, "")


def _answer(
    cell: Mapping[str, str], passage: Passage, place: str, notes: Counter[str]
) -> tuple[Seconds, Seconds] | None:
    """The answer of a row; None, and a note, if there is none that can be used."""
    ends = [cell.get(column, "") for column in ("answer_start_s", "answer_end_s")]
    if any(map(is_missing, ends)):
        notes["answers without a time, left out"] += 1
        return None
    start, end = (seconds_in(text, place) for text in ends)
    if end <= start:
        notes["answers that end where they begin or before, left out"] += 1
        return None
    if start < -TOLERANCE or end > passage.end_s + TOLERANCE:
        notes["answers outside the audio of their passage, left out"] += 1
        return None
    start, end = max(start, 0.0), min(end, passage.end_s)
    if end <= start:
        notes["answers that end where they begin or before, left out"] += 1
        return None
    return start, end


def _check_apart(rows: Sequence[AskedSpan], where: str) -> None:
    for what in ("passage", "group"):
        split_of: dict[str, str] = {}
        for row in rows:
            name = getattr(row, what)
            if split_of.setdefault(name, row.split) != row.split:
                raise SpeechkdError(
                    f"{where}: {what} {name} is both in {split_of[name]} and in {row.split}; what "
                    "is met in training must not be in the test."
                )
    for split in ("train", "test"):
        if not any(row.split == split for row in rows):
            groups = len({row.group for row in rows})
            raise SpeechkdError(f"{where}: no question is in the split {split} ({groups} groups).")
