"""The table of a hearing, and the list of all its differences, as text."""

from collections.abc import Sequence

from pipeline.reports.formats import NOTHING
from pipeline.reports.hearing.bootstrap import Figures, Interval
from pipeline.reports.hearing.comparisons import Compared, Line
from pipeline.reports.hearing.measures import Measure


def with_interval(measure: Measure, one: Interval | None, between: str = " ") -> str:
    """A figure and its interval; a dash where it is undefined."""
    if one is None:
        return NOTHING
    low, high = (measure.shown(end) for end in (one.low, one.high))
    return f"{measure.shown(one.mean)}{between}({low} to {high})"


def table(
    figures: Figures, measures: Sequence[Measure], lines: Sequence[Line], between: str = " "
) -> list[list[str]]:
    """A row per figure, a column per group of encoders, chance first.

    Args:
        figures: of the folder.
        measures: its figures.
        lines: its groups.
        between: what stands between a figure and its interval: a blank, or a line break.
    """
    head = ["", "chance", *(line.group.title for line in lines)]
    rows = [
        [
            measure.title,
            measure.shown(measure.chance),
            *(with_interval(measure, figures.of(measure, line.group), between) for line in lines),
        ]
        for measure in measures
    ]
    return [head, *rows]


def differences(compared: Sequence[Compared]) -> list[list[str]]:
    """Every difference with its interval, p value and verdict."""
    head = ["encoder", "compared with", "figure", "better by", "95 % interval", "p", "verdict"]
    rows = []
    for one in compared:
        measure, gap = one.measure, one.difference
        rows.append(
            [
                one.group.title,
                one.what if one.what == one.other.name else f"{one.what}: {one.other.name}",
                measure.title,
                f"{measure.shown(gap.mean)}",
                f"{measure.shown(gap.low)} to {measure.shown(gap.high)}",
                f"{gap.p:.4f}",
                one.verdict,
            ]
        )
    return [head, *rows]
