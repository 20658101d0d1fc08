"""What a report says of a hearing: what was found, the picture, the table, and how it was asked."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.reports import figures as pictures
from pipeline.reports.formats import listed
from pipeline.reports.hearing.bootstrap import Figures
from pipeline.reports.hearing.comparisons import Compared, Line, compare, lines_of
from pipeline.reports.hearing.measures import DEFINITIONS, Measure, measures_of
from pipeline.reports.hearing.picture import chosen, draw
from pipeline.reports.hearing.tables import differences, table
from pipeline.reports.page import Section
from pipeline.tasks.hearing.names import WORDS
from pipeline.tasks.hearing.prosody import DEFINITIONS as TARGETS
from pipeline.tasks.hearing.results import Hearing, read_hearing

CHAPTER = "Hearing: unheard speech, told from its text"
FEW_RECORDINGS = 20
INTRODUCTION = (
    "Each encoder reads texts of speech that no student was trained on. A ridge regression on its "
    "states is fitted on one half and judged on the other: does it find the teacher's own vector "
    "among others, how much of the teacher's vectors does it explain, and does it tell how "
    "something was said? Intervals are of 95 %, over recordings. A difference counts where the "
    "interval of the paired difference leaves out zero; of so many, a few do so by chance."
)
DIRECTION = "A positive difference is better, whatever the figure; a lower median rank is better."


class HearingReport:
    """The figures of a results folder of `speechkd probe hearing`, and what is said of them.

    Args:
        folder: the folder.

    Raises:
        SpeechkdError: it is none, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hearing: Hearing = read_hearing(folder)
        self.measures: list[Measure] = measures_of(self.hearing)
        self.lines: list[Line] = lines_of(self.hearing)
        self.figures = Figures(self.hearing)
        self.compared = compare(self.hearing, self.figures, self.measures, self.lines)

    def table(self, between: str = " ") -> list[list[str]]:
        """A row per figure, a column per group of encoders."""
        return table(self.figures, self.measures, self.lines, between)

    def every_figure(self) -> list[list[object]]:
        """Every figure in full, as lines of `pipeline.reports.tables.every_figure`."""
        lines: list[list[object]] = []
        for line in self.lines:
            for measure in self.measures:
                one = self.figures.of(measure, line.group)
                mean, runs = (one.mean, one.runs[0]) if one else ("", 0)
                name = line.group.title
                lines.append([str(self.folder), "hearing", name, measure.title, mean, "", runs, ""])
        return lines

    def picture(self) -> bytes:
        """A point per student, with its interval and chance."""
        encoders = {one.encoder.label: one.encoder for one in self.hearing.judged}
        looks = pictures.looks(encoders)
        return draw(self.figures, chosen(self.measures), self.lines, looks)

    def findings(self) -> list[str]:
        """What the comparisons show, in sentences.

        Where an encoder is worse than the word counts, that is said before all else.
        """
        several: dict[tuple[str, str], list[Compared]] = {}
        for one in self.compared:
            several.setdefault((one.group.title, one.what), []).append(one)
        worse = [
            f"{title} is WORSE than the {WORDS} in {len(names)} of {len(some)} figures: "
            f"{listed(names)}."
            for (title, what), some in several.items()
            if what == WORDS and (names := _names(some, "worse"))
        ]
        return [*worse, *(_summary(some) for some in several.values())]

    def remarks(self) -> list[str]:
        """What a reader must know of how this was asked."""
        hearing = self.hearing
        remarks = [*hearing.notes]
        for level in hearing.levels:
            remarks += hearing.missing.get(level, [])
            recordings, _ = self.figures.units(level)
            if recordings < FEW_RECORDINGS:
                remarks.append(
                    f"WARNING: the {level}s are of {recordings} recordings; intervals from so few "
                    "are too narrow"
                )
            count, what = self.figures.units(level, "within speaker")
            remarks.append(
                f"{level}s: for intervals {recordings:,} recordings are drawn, and for "
                f"figures within speaker {count:,} {what}"
            )
        kinds = dict.fromkeys(measure.kind for measure in self.measures)
        remarks += [f"{kind}: {DEFINITIONS[kind]}" for kind in kinds]
        named = dict.fromkeys(m.of.partition(":")[0] for m in self.measures if m.kind == "r")
        remarks += [f"{name}: {TARGETS[name]}" for name in named if name in TARGETS]
        if not any(line.group.first.objective == "none" for line in self.lines):
            remarks.append("no checkpoint was trained with --kd none, so none is compared with one")
        if not any(line.group.first.is_control for line in self.lines):
            remarks.append(
                "no checkpoint is a control: a gain that shuffled vectors also give would not show"
            )
        return remarks


def _names(compared: Sequence[Compared], verdict: str) -> list[str]:
    return [one.measure.name for one in compared if one.verdict == verdict]


def _summary(compared: Sequence[Compared]) -> str:
    """How one encoder compares with one other, in a sentence."""
    first = compared[0]
    against = first.what if first.what == first.other.name else f"{first.other.name} ({first.what})"
    parts = [
        f"{verdict} in {len(names)}"
        + ("" if (verdict, first.what) == ("worse", WORDS) else f" ({listed(names)})")
        for verdict in ("better", "worse")
        if (names := _names(compared, verdict))
    ]
    noise = sum(one.verdict == "noise" for one in compared)
    parts += [f"no different in {noise}"] if noise else []
    return f"{first.group.title} against {against}: {'; '.join(parts)}."


def hearing_sections(reports: Sequence[HearingReport]) -> list[Section]:
    """What a page says of hearings, in the order of their folders."""
    page: list[Section] = []
    for number, report in enumerate(reports, start=1):
        name = f"hearing-{number}" if len(reports) > 1 else "hearing"
        page += [
            Section(
                f"What {report.folder} tells of {report.hearing.asked.get('cache', 'a cache')}",
                (INTRODUCTION, *report.findings()),
                picture=(name, report.picture()),
                chapter=CHAPTER if number == 1 else "",
            ),
            Section(
                f"{report.folder}: all figures",
                grid=tuple(map(tuple, report.table())),
                notes=tuple(report.remarks()),
            ),
            Section(
                f"{report.folder}: all differences",
                (DIRECTION,),
                grid=tuple(map(tuple, differences(report.compared))),
                folded=True,
            ),
        ]
    return page
