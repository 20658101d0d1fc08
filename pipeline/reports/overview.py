"""What students gain on all tasks of a page: one table of student × task, with Holm's correction.

Every comparison is one that its own set of results makes: within one data set, split and recipe,
between encoders of one setup. Nothing here compares figures of two sets. A line of the table is a
student and what it is compared with; a column is a task, in its first measure or a named one.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.formats import NOTHING
from pipeline.reports.holm import holm
from pipeline.reports.partners import Group, common_name
from pipeline.reports.starts import alike

LEVEL = 0.05


@dataclass(frozen=True)
class Shown:
    """A difference as a page shows it.

    Attributes:
        mean: how much better, as a share, or in the measure's own unit.
        low: lower end of the 95 % interval.
        high: upper end.
        p: two-sided, against zero.
        seeds: of fine-tuning; 0 where nothing is fine-tuned.
        runs: pre-training seeds of either side.
        least_p: the least p that its draws could have shown.
        units: how many videos, recordings or the like are drawn; None where none are too few.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int
    runs: tuple[int, ...]
    least_p: float
    units: int | None = None


@dataclass(frozen=True)
class Column:
    """A task in one of its measures.

    Attributes:
        task: as a heading; where two sets have one of the same name, with the set's number.
        name: the task as the data call it.
        key: the measure's name on the command line.
        title: the measure's name in tables.
        first: whether it is the first measure of its kind of task.
        percent: whether it is shown times 100.
        chapter: of the page that has its tables.
        mark: what stands behind its heading where epochs were selected on the test.
    """

    task: str
    name: str
    key: str
    title: str
    first: bool
    percent: bool
    chapter: str
    mark: str = ""

    @property
    def heading(self) -> str:
        """Task and measure."""
        return f"{self.task}: {self.title}{self.mark}"

    def is_named(self, name: str) -> bool:
        """Whether `TASK` or `TASK:MEASURE` is this."""
        alone = (self.name, self.task) if self.first else ()
        return name in (
            *alone,
            *(f"{t}:{m}" for t in (self.name, self.task) for m in self.measures),
        )

    @property
    def measures(self) -> tuple[str, str]:
        """Both names of the measure."""
        return self.key, self.title

    def written(self, value: float) -> str:
        """A difference with its sign."""
        return f"{100 * value:+.2f}" if self.percent else f"{value:+.4f}"


@dataclass(frozen=True)
class Comparison:
    """A student and what it is compared with, on one task.

    Attributes:
        column: the task and measure.
        student: the group that is to be better.
        other: than this one.
        shown: by how much it is; None where that cannot be stated.
    """

    column: Column
    student: Group
    other: Group
    shown: Shown | None

    @property
    def over_control(self) -> bool:
        """Whether it is over the student's own control, and not over none at all."""
        return self.other.first.is_control


@dataclass(frozen=True, eq=False)
class Line:
    """A line of the table.

    Attributes:
        student: the name of the student.
        other: that of what it is compared with.
        first: a comparison of it.
        by_column: all of them.
    """

    student: str
    other: str
    first: Comparison
    by_column: Mapping[Column, Comparison]

    @property
    def is_control(self) -> bool:
        """Whether the student is itself a control."""
        return self.first.student.first.is_control


class Overview:
    """All comparisons of a page in one table, and the family of Holm's correction among them.

    `columns` and `lines` are those of the table; `family` and `members` the columns and lines of
    the family. `pairs` are its comparisons and `size` their number, also of such as cannot be
    stated; where students are named, each is counted with every task of the family, over no teacher
    and over a control, whether these were run or not. `floor` is the least p that could be shown,
    times that number.

    Args:
        comparisons: of all sets, in all measures.
        tasks: TASK or TASK:MEASURE of the family of Holm's correction; empty for the first measure
            of every task.
        students: their names or labels; empty for every one that is no control.

    Raises:
        SpeechkdError: a name is none of a task or a student here; the names are shown.
    """

    def __init__(
        self, comparisons: Sequence[Comparison], tasks: Sequence[str], students: Sequence[str]
    ) -> None:
        comparisons = _numbered(comparisons)
        every = list(dict.fromkeys(one.column for one in comparisons))
        for name in tasks:
            if not any(column.is_named(name) for column in every):
                there = ", ".join(f"{c.task}:{c.key}" for c in every) or NOTHING
                raise SpeechkdError(
                    f"--holm-task {name}: no comparison is of that; there are {there}."
                )
        self.family = [
            c for c in every if (any(c.is_named(n) for n in tasks) if tasks else c.first)
        ]
        self.columns = [c for c in every if c.first or c in self.family]
        self.lines = _lines([one for one in comparisons if one.column in self.columns])
        self._taught = [line for line in self.lines if not line.is_control]
        names = list(dict.fromkeys(line.student for line in self._taught))
        for name in students:
            if not any(_is(line, name) for line in self._taught):
                raise SpeechkdError(
                    f"--holm-student {name}: no such student is compared here; there are "
                    f"{', '.join(names) or NOTHING}."
                )
        self.members = [
            line for line in self._taught if not students or any(_is(line, n) for n in students)
        ]
        self.pairs = [
            (line, column)
            for column in self.family
            for line in self.members
            if students or column in line.by_column
        ]
        sides = {(line.student, line.first.over_control) for line in self.members}
        absent = 2 * len({student for student, _ in sides}) - len(sides) if students else 0
        self.size = len(self.pairs) + absent * len(self.family)
        known = [
            (line, column, shown)
            for line, column in self.pairs
            if (shown := shown_of(line, column))
        ]
        adjusted = holm([shown.p for _, _, shown in known], self.size)
        self.known = {
            (line.student, line.other, column): p
            for (line, column, _), p in zip(known, adjusted, strict=True)
        }
        self.floor = max((shown.least_p for _, _, shown in known), default=0.0) * self.size

    def adjusted(self, line: Line, column: Column) -> float | None:
        """Holm's p of a comparison; None if it is not of the family, or cannot be stated."""
        return self.known.get((line.student, line.other, column))

    def is_better(self, line: Line, column: Column) -> bool:
        """Whether a comparison of the family is a gain after Holm's correction."""
        p, shown = self.adjusted(line, column), shown_of(line, column)
        return p is not None and shown is not None and p <= LEVEL and shown.mean > 0

    def grid(self) -> list[list[str]]:
        """Lines × tasks: each gain with its interval, and a star where Holm's p is 0.05 or less."""
        rows = [["student", "compared with", *(column.heading for column in self.columns)]]
        for line in self.lines:
            cells = []
            for column in self.columns:
                shown, p = shown_of(line, column), self.adjusted(line, column)
                star = " *" if p is not None and p <= LEVEL else ""
                cells.append(f"{_with_interval(column, shown)}{star}")
            rows.append([line.student, line.other, *cells])
        return rows

    def all_lines(self) -> list[list[object]]:
        """Every comparison in full, one per line, after a head."""
        rows: list[list[object]] = [
            [
                *("chapter", "task", "measure", "student", "compared with", "gain", "low", "high"),
                *("p", "holm_p", "fine-tuning seeds", "pre-training seeds", "control"),
            ]
        ]
        for line in self.lines:
            for column, one in line.by_column.items():
                shown, p = one.shown, self.adjusted(line, column)
                figures: list[object] = [""] * 7
                if shown:
                    figures = [shown.mean, shown.low, shown.high, shown.p, "" if p is None else p]
                    figures += [shown.seeds or "", _runs(shown)]
                control = one.student.first.control if line.is_control else ""
                title = f"{column.title}{column.mark}"
                names = [column.chapter, column.task, title, line.student, line.other]
                rows.append([*names, *figures, control or ""])
        return rows

    def details(self) -> list[list[str]]:
        """The comparisons of the family with p, Holm's p and seeds, as text."""
        rows = [
            [
                *("task", "student", "compared with", "gain", "p", "Holm's p"),
                *("fine-tuning seeds", "pre-training seeds"),
            ]
        ]
        for line, column in self.pairs:
            shown, p = shown_of(line, column), self.adjusted(line, column)
            rows.append([column.heading, line.student, line.other])
            if shown is None or p is None:
                rows[-1] += [NOTHING] * 5
                continue
            rows[-1] += [_with_interval(column, shown), f"{shown.p:.4f}", f"{p:.4f}"]
            rows[-1] += [str(shown.seeds or NOTHING), _runs(shown)]
        return rows


def shown_of(line: Line, column: Column) -> Shown | None:
    """A line's difference in a column; None where it has none."""
    one = line.by_column.get(column)
    return one.shown if one else None


def _runs(shown: Shown) -> str:
    return " and ".join(map(str, dict.fromkeys(shown.runs)))


def _with_interval(column: Column, shown: Shown | None) -> str:
    if shown is None:
        return NOTHING
    mean, low, high = (column.written(x) for x in (shown.mean, shown.low, shown.high))
    return f"{mean} ({low} to {high})"


def _is(line: Line, name: str) -> bool:
    return name == line.student or any(
        name in one.student.members or name == one.student.name for one in line.by_column.values()
    )


def _numbered(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons, tasks of one name from several sets told apart by their number."""
    sets: dict[str, list[str]] = {}
    for one in comparisons:
        several = sets.setdefault(one.column.name, [])
        if one.column.task not in several:
            several.append(one.column.task)
    return [
        one
        if len(sets[one.column.name]) > 1
        else replace(one, column=replace(one.column, task=one.column.name))
        for one in comparisons
    ]


def _lines(comparisons: Sequence[Comparison]) -> list[Line]:
    """A line per student and what it is compared with; who is the same has the same record."""
    members: dict[str, dict[str, None]] = {}
    for one in comparisons:
        for group in (one.student, one.other):
            members.setdefault(_identity(group), {}).update(dict.fromkeys(group.members))
    names = _told_apart({key: list(labels) for key, labels in members.items()})
    kinds: dict[tuple[str, str], dict[Column, Comparison]] = {}
    for one in comparisons:
        pair = _identity(one.student), _identity(one.other)
        kinds.setdefault(pair, {})[one.column] = one
    lines = [
        Line(names[student], names[other], next(iter(by_column.values())), by_column)
        for (student, other), by_column in kinds.items()
    ]
    order = list(dict.fromkeys(line.student for line in lines))
    return sorted(
        lines,
        key=lambda line: (line.is_control, order.index(line.student), line.first.over_control),
    )


def _told_apart(labels: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A name for each identity, of its labels; others of the same name have a number behind it."""
    names = {key: common_name(list(several)) for key, several in labels.items()}
    for as_labels in (True, False):
        how_many = Counter(names.values())
        numbers: Counter[str] = Counter()
        for key, name in names.items():
            if how_many[name] > 1:
                numbers[name] += 1
                names[key] = " + ".join(labels[key]) if as_labels else f"{name} #{numbers[name]}"
    return names


def _identity(group: Group) -> str:
    """What is equal for the same encoders in several sets.

    Records that do not tell recipes apart cannot say so, and there it is the weights.
    """
    record = alike(next(iter(group.members)), group.first)
    if group.first.setup is not None:
        return record
    return json.dumps([record, sorted(one.weights_sha256 for one in group.members.values())])
