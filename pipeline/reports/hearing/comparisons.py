"""Who is compared with whom in a hearing, and what comes of it.

Every encoder is compared with the word counts. A student is also compared with the same student
untrained, with its equal without a teacher, and with its controls, which `partners` tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.reports.hearing.bootstrap import Figures, Interval
from pipeline.reports.hearing.measures import Measure
from pipeline.reports.partners import Group, groups_of, partners_of
from pipeline.tasks.hearing.results import Hearing, Role


@dataclass(frozen=True)
class Compared:
    """A difference between two groups in one figure; positive where the first is better."""

    group: Group
    other: Group
    what: str
    measure: Measure
    difference: Interval

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `noise` where the interval holds zero."""
        if not self.difference.beyond_noise:
            return "noise"
        return "better" if self.difference.mean > 0 else "worse"


@dataclass(frozen=True)
class Line:
    """A group of encoders in the table: one row of points.

    Attributes:
        group: the encoders, which differ in their pre-training seed alone.
        role: what they are.
    """

    group: Group
    role: Role


def lines_of(hearing: Hearing) -> list[Line]:
    """Groups in order: word counts, untrained, without a teacher, taught, controls, others."""
    by_label = {one.encoder.label: one for one in hearing.judged}
    groups = groups_of({label: one.encoder for label, one in by_label.items()})
    lines = [Line(group, by_label[next(iter(group.members))].role) for group in groups]
    return sorted(lines, key=lambda line: (_place(line), line.group.name))


def _place(line: Line) -> int:
    first = line.group.first
    if line.role != "encoder":
        return 0 if line.role == "words" else 1
    if first.objective is None:
        return 5
    if first.is_control:
        return 4
    return 2 if first.objective == "none" else 3


def compare(
    hearing: Hearing, figures: Figures, measures: Sequence[Measure], lines: Sequence[Line]
) -> list[Compared]:
    """All comparisons, group by group."""
    fresh = {one.start: one.encoder.label for one in hearing.judged if one.role == "untrained"}
    untrained_of = {
        one.encoder.label: fresh[one.start]
        for one in hearing.judged
        if one.role == "encoder" and one.start in fresh
    }
    by_label = {label: line.group for line in lines for label in line.group.members}
    groups = [line.group for line in lines if line.role == "encoder"]
    compared: list[Compared] = []
    for line in lines:
        if line.role != "encoder":
            continue
        for what, other in _others(line.group, lines, groups, untrained_of, by_label).items():
            for measure in measures:
                difference = figures.difference(measure, line.group, other)
                if difference:
                    compared.append(Compared(line.group, other, what, measure, difference))
    return compared


def _others(
    group: Group,
    lines: Sequence[Line],
    groups: Sequence[Group],
    untrained_of: Mapping[str, str],
    by_label: Mapping[str, Group],
) -> dict[str, Group]:
    others = {line.group.name: line.group for line in lines if line.role == "words"}
    fresh = next((untrained_of[label] for label in group.members if label in untrained_of), "")
    if fresh:
        others["untrained"] = by_label[fresh]
    partners = partners_of(group, groups)
    if partners.baseline:
        others["without a teacher"] = partners.baseline
    for control in partners.controls:
        others[f"{control.first.control} teacher"] = control
    return others
