"""What a page that shows several families of tasks begins with, and its chapters."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.reports.formats import listed
from pipeline.reports.lettering import key
from pipeline.reports.overview import Overview
from pipeline.reports.overview_picture import MOST_STUDENTS, controls_of_students, draw
from pipeline.reports.overview_sentences import sentences
from pipeline.reports.page import Section


def overview_sections(
    overview: Overview,
    without_interval: Sequence[str],
    sets: Sequence[str] = (),
    alone: Sequence[str] = (),
) -> list[Section]:
    """Sentences, the table of student × task, the picture, and all of the family's comparisons.

    Args:
        overview: of the page.
        without_interval: tasks that are shown below and of whose gains no interval is stated.
        sets: names of the sets of results, each after its number.
        alone: names of what is shown below and has no comparison.
    """
    notes = [
        "A line is a student and what it is compared with: its equal without a teacher (of what "
        "`pretrain` made, what it began with, and the same with fresh weights), or its own "
        "control, whose vectors, texts or audio were other clips'. A gain that the control also "
        "has over the first is not from the teacher.",
        "Gains are in points, with 95 % intervals; of MAE in its own unit, its sign turned so that "
        "more is better. * marks Holm's p of 0.05 or less.",
        "Each figure is of one data set, split and recipe, and of encoders of one setup; columns "
        "are never compared with each other. A dash: not run, or no interval can be stated.",
    ]
    told = sentences(overview)
    if alone:
        told.append(
            f"Shown below and not here, because no student there stands beside its equal or its "
            f"own control: {listed(alone)}."
        )
    short = Section("What is shown", tuple(told), chapter="All tasks on one page")
    if without_interval:
        tasks = listed(list(dict.fromkeys(without_interval)))
        notes.append(f"Shown below and not here, because no interval is stated of them: {tasks}.")
    if any(column.task != column.name for column in overview.columns):
        notes.append(f"The number before a task is that of its results: {'; '.join(sets)}.")
    page = [short]
    if overview.lines:
        grid = tuple(map(tuple, overview.grid()))
        page.append(Section("Gain of each student on each task", grid=grid, notes=tuple(notes)))
    picture = draw(overview)
    if picture:
        numbered = [
            *key([column.heading for column in overview.columns], "task"),
            *key(list(dict.fromkeys(line.student for line in overview.lines)), "student"),
        ]
        students = len(controls_of_students(overview))
        if students > MOST_STUDENTS:
            numbered.insert(0, f"The first {MOST_STUDENTS} of {students} students are drawn.")
        title = "Gain per task, beside that of the control"
        page.append(Section(title, tuple(numbered), picture=("overview", picture)))
    if overview.size:
        text = (
            "p is two-sided and of the draws that also give the interval; Holm's p is the least "
            "level at which a comparison would count, with all of these asked at once.",
        )
        grid = tuple(map(tuple, overview.details()))
        page.append(Section("The family of Holm's correction", text, grid, folded=True))
    return page


def chapters(named: Sequence[tuple[str, Sequence[Section]]]) -> list[Section]:
    """The sections of several sets, those of one family of tasks under one heading.

    Args:
        named: of each set the family, and its sections, whose first has a chapter of its own that
            becomes the heading of its part.
    """
    page: list[Section] = []
    for family in dict.fromkeys(family for family, _ in named):
        heading = family
        for other, parts in named:
            if other == family:
                first = replace(parts[0], chapter=heading, part=parts[0].chapter)
                page += [first, *parts[1:]]
                heading = ""
    return page
