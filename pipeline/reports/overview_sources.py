"""The comparisons of each kind of results as an overview shows them side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from pipeline.reports.cells import ResultSet
from pipeline.reports.columns import is_mosei
from pipeline.reports.comparison import DRAWS, RANKED_DRAWS
from pipeline.reports.gains import MEASURES, ON_DEMAND, TITLES, Gains
from pipeline.reports.hearing.bootstrap import Interval
from pipeline.reports.hearing.measures import Measure
from pipeline.reports.hearing.sections import CHAPTER as HEARING
from pipeline.reports.hearing.sections import HearingReport
from pipeline.reports.minimal_pairs import CHAPTER as PAIRS
from pipeline.reports.minimal_pairs import PairReport
from pipeline.reports.overview import Column, Comparison, Shown
from pipeline.reports.tables import selected_on_test

FIRST: Mapping[str, str] = MappingProxyType(
    {
        "classes": "accuracy",
        "flags": "accuracy",
        "spans": "aos",
        "value": "pearson",
        "words": "average_precision",
    }
)
"""The measure that stands in an overview for each kind of task. Speakers have none: the rate at
which pairs are told apart is no mean over clips, so no paired interval is stated of it."""
HEARD = ("R@10", "explained variance (raw)")
"""The measure that stands for a hearing: the first of these that was compared, else the first that
was. Without retrieval there is no R@10."""


def chapter_of(results: ResultSet) -> str:
    """The family of tasks that a set of results is of."""
    cell = results.cells[0]
    if is_mosei(cell):
        return "CMU-MOSEI, told from texts"
    if cell.kind == "spans":
        return "Answers in spoken passages"
    if "cache_sha256" in cell.data:
        with_text = " with its text" if "streams" in cell.recipe else ""
        return f"Classes, values and speakers, told from speech{with_text}"
    of_texts = {"words": "Words of texts", "value": "Values, told from texts"}
    return of_texts.get(cell.kind, "Classes, told from texts")


def on_demand(names: Iterable[str], number: str = "") -> set[tuple[str, str]]:
    """Tasks and measures among `TASK:MEASURE` that are compared where they are asked for alone.

    Args:
        names: as the user wrote them; a task may have colons and blanks, and the number of its set
            before it, as in headings.
        number: of the set whose tasks these are; empty if there is one set.
    """
    measures = {measure for several in ON_DEMAND.values() for measure in several}
    keys = {name: name for name in measures} | {TITLES[name]: name for name in measures}
    pairs = (name.rpartition(":") for name in names)
    return {
        (own, keys[measure])
        for task, _, measure in pairs
        if measure in keys
        for own in (task, *([task.removeprefix(f"{number}: ")] if number else []))
    }


def of_results(results: ResultSet, gains: Gains) -> list[Comparison]:
    """Those of fine-tuned encoders, each over its equal without a teacher and over its controls.

    What `pretrain` made has what it began with, and its equal with fresh weights, instead of one
    without a teacher.
    """
    kinds = {cell.task: cell.kind for cell in results.cells}
    mark = selected_on_test(results.cells)
    number = f"{results.key}: " if results.key else ""
    comparisons = []
    for gain in (
        *gains.over_baseline,
        *gains.over_start,
        *gains.over_fresh,
        *gains.over_control,
    ):
        kind = kinds[gain.task]
        title = TITLES.get(gain.key, gain.key)
        column = Column(
            task=f"{number}{gain.task}",
            name=gain.task,
            key=gain.key,
            title=title,
            first=gain.key == FIRST[kind],
            percent=gain.percent,
            chapter=chapter_of(results),
            mark=mark,
        )
        one = gain.difference
        shown = None
        if one is not None and one.p is not None:
            draws = RANKED_DRAWS if gain.key == "average_precision" else DRAWS
            figures = one.mean, one.low, one.high, one.p
            shown = Shown(*figures, one.seeds, one.runs, 2 / (draws + 1), one.groups)
        groups = gains.groups[gain.label], gains.groups[gain.against]
        comparisons.append(Comparison(column, *groups, shown))
    return comparisons


def of_hearing(report: HearingReport, number: str) -> list[Comparison]:
    """Those of a hearing, over the student without a teacher and over controls.

    Args:
        report: of its folder.
        number: what stands before its tasks if there are several hearings.
    """
    comparisons = []
    first = {level: _first(report, level) for level in report.hearing.levels}
    for one in report.compared:
        against = one.other.first
        if against.objective != "none" and not against.is_control:
            continue
        level = f"hearing {one.measure.level}s"
        title = _title(one.measure)
        column = Column(
            task=f"{number}{level}",
            name=level,
            key=title,
            title=title,
            first=title == first[one.measure.level],
            percent=one.measure.in_percent,
            chapter=HEARING,
        )
        units, _ = report.figures.units(one.measure.level, one.measure.view)
        shown = replace(_shown(one.difference), units=units)
        comparisons.append(Comparison(column, one.group, one.other, shown))
    return comparisons


def _first(report: HearingReport, level: str) -> str:
    """The measure that stands for a level of a hearing."""
    titles = [_title(one.measure) for one in report.compared if one.measure.level == level]
    return next((title for title in (*HEARD, *titles) if title in titles), "")


def _title(measure: Measure) -> str:
    return measure.name.partition(": ")[2]


def of_pairs(report: PairReport, number: str) -> list[Comparison]:
    """Those of minimal pairs, set by set.

    Args:
        report: of its file.
        number: what stands before its tasks if there are several files.
    """
    return [
        Comparison(
            Column(f"{number}{one.pairs}", one.pairs, "accuracy", "accuracy", True, True, PAIRS),
            one.student,
            one.other,
            _shown(one.difference),
        )
        for one in report.compared
    ]


def _shown(one: Interval) -> Shown:
    return Shown(one.mean, one.low, one.high, one.p, 0, one.runs, 2 / (DRAWS + 1))


def comparisons(
    sets: Sequence[tuple[ResultSet, Gains]],
    hearings: Sequence[HearingReport],
    pairs: Sequence[PairReport],
) -> list[Comparison]:
    """All comparisons of a page."""
    some = [one for results, gains in sets for one in of_results(results, gains)]
    for place, hearing in enumerate(hearings, start=1):
        some += of_hearing(hearing, f"{place}: " if len(hearings) > 1 else "")
    for place, report in enumerate(pairs, start=1):
        some += of_pairs(report, f"{place}: " if len(pairs) > 1 else "")
    return some


def has_no_interval(results: ResultSet) -> list[str]:
    """Tasks of a set of results whose gains have no interval."""
    return list(dict.fromkeys(c.task for c in results.cells if not MEASURES[c.kind]))


def uncompared(
    sets: Sequence[tuple[ResultSet, Gains]],
    hearings: Sequence[HearingReport],
    pairs: Sequence[PairReport],
) -> list[str]:
    """Names of what a page shows and of which no comparison stands in its table."""
    named = [
        *((results.short, of_results(results, gains)) for results, gains in sets),
        *((str(hearing.folder), of_hearing(hearing, "")) for hearing in hearings),
        *((", ".join(map(str, report.files)), of_pairs(report, "")) for report in pairs),
    ]
    return [name for name, some in named if not some]
