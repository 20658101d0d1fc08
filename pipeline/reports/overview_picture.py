"""The picture of an overview: what each student gains on each task, and its control beside it."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.lines import Line2D

from pipeline.reports.figures import name_rows, panels_of, png
from pipeline.reports.lettering import broken, short, shown
from pipeline.reports.overview import Column, Line, Overview

ACROSS, LONGEST_NAME = 3, 30
BESIDE = 0.28
"""How far below its student its last control is drawn, where rows are 1 apart."""
MOST_STUDENTS, MOST_INCHES = 40, 200
"""A picture of more would be too large to be made, or read."""


def draw(overview: Overview) -> bytes | None:
    """A panel per task, a row per student; None if nothing is compared with no teacher at all.

    A circle is the gain of a student over its equal without a teacher; a square below is that of
    a control of its own over the same. Of more than `MOST_STUDENTS` students the first are drawn.
    """
    rows = dict(itertools.islice(controls_of_students(overview).items(), MOST_STUDENTS))
    columns = [column for column in overview.columns if any(column in r.by_column for r in rows)]
    if not rows or not columns:
        return None
    students = [line.student for line in rows]
    names = [
        line.student if students.count(line.student) == 1 else f"{line.student} over {line.other}"
        for line in rows
    ]
    colours = dict(zip(rows, _colours(len(names)), strict=True))
    figure, panels = panels_of(
        len(columns),
        3.0,
        0.75 + 0.34 * len(rows),
        ACROSS,
        margins=(1.8, 0.6),
        tallest=MOST_INCHES,
        rows=True,
    )
    titles = shown([column.heading for column in columns], "task")
    for axes, column, title in zip(panels, columns, titles, strict=True):
        axes.axvline(0, color="0.35", linewidth=1)
        for place, (line, controls) in enumerate(rows.items()):
            _point(axes, line, column, place, colours[line], "o")
            for number, control in enumerate(controls, start=1):
                below = place + BESIDE * number / len(controls)
                _point(axes, control, column, below, colours[line], "s")
        labels = [short(name, LONGEST_NAME) for name in shown(names, "student")]
        name_rows(axes, broken(title), labels, beyond=0.6)
    figure.supxlabel(
        "gain over the same without a teacher (or of fresh weights), in points (MAE in its own "
        "unit),\nwith its 95 % interval; each task has its own scale",
        fontsize=8,
    )
    marks = [
        Line2D([], [], color="0.3", marker="o", linestyle="-", label="student"),
        Line2D([], [], color="0.3", marker="s", linestyle="--", label="its own control"),
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", label="interval holds 0"),
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=3, fontsize=8)
    return png(figure, [*titles, *names])


def controls_of_students(overview: Overview) -> Mapping[Line, Sequence[Line]]:
    """Each student's line over no teacher, and those of its controls over the same."""
    over_none = [line for line in overview.lines if not line.first.over_control]
    of = {(line.student, line.other): line for line in over_none if line.is_control}
    own: dict[str, list[str]] = {}
    for line in overview.lines:
        if line.first.over_control:
            own.setdefault(line.student, []).append(line.other)
    return {
        line: [of[n, line.other] for n in own.get(line.student, []) if (n, line.other) in of]
        for line in over_none
        if not line.is_control
    }


def _colours(count: int) -> Sequence[Any]:
    palette = mpl.color_sequences["tab10"]
    return [palette[place % len(palette)] for place in range(count)]


def _point(axes: Any, line: Line, column: Column, place: float, colour: Any, mark: str) -> None:
    one = line.by_column.get(column)
    if one is None or one.shown is None:
        return
    scale = 100 if column.percent else 1
    low, mean, high = (scale * x for x in (one.shown.low, one.shown.mean, one.shown.high))
    style = "-" if mark == "o" else "--"
    axes.plot(
        [low, high], [place, place], style, color=colour, linewidth=1.8 if mark == "o" else 1.2
    )
    beyond = low > 0 or high < 0
    fill = colour if beyond else "white"
    axes.plot(mean, place, mark, color=colour, markersize=5, markerfacecolor=fill)
