"""What a report says of a set of results, and in which order: findings, tables, details.

Everything comes from the finished cells and their predictions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.finetuning.cells import Cell
from pipeline.foundation.progress import duration
from pipeline.reports import figures, splat
from pipeline.reports.cells import ResultSet
from pipeline.reports.columns import Column, Stat
from pipeline.reports.details import details
from pipeline.reports.findings import findings
from pipeline.reports.fold_tables import by_fold
from pipeline.reports.gains import Gains
from pipeline.reports.lettering import key, shown
from pipeline.reports.page import Section
from pipeline.reports.projections import projections
from pipeline.reports.retrieval import retrieval
from pipeline.reports.tables import (
    encoders_of,
    ordered,
    row_name,
    selected_on_test,
    split_origin,
    tables,
)
from pipeline.tasks.mosei.names import SENTIMENT_CLASSES
from pipeline.tasks.mosei.schemes import DEFINITIONS as CONVENTIONS


def sections(results: ResultSet, gains: Gains) -> list[Section]:
    """Everything that is to be said of one set of results.

    Args:
        results: the set.
        gains: its comparisons.

    Raises:
        SpeechkdError: predictions or projections are missing or damaged.
    """
    cells = ordered(results.cells)
    looks = figures.looks(encoders_of(cells))
    parts = [
        findings(results, cells, gains),
        *_tables(cells),
        *_differences(gains, looks, selected_on_test(cells)),
        *_conventions(cells),
        *details(cells),
        *by_fold(results.folds),
        *retrieval(encoders_of(cells).values()),
        *splat.published(cells),
        *splat.geometry(encoders_of(cells).values()),
        *_planes(results),
        *_losses([*cells, *results.folds], looks),
        _setting(results),
    ]
    return [_named(section, results.key) for section in parts]


def _named(section: Section, key: str) -> Section:
    if not (key and section.picture):
        return section
    return replace(section, picture=(f"{key}-{section.picture[0]}", section.picture[1]))


def _tables(cells: Sequence[Cell]) -> list[Section]:
    return [
        Section(table.title, grid=tuple(map(tuple, table.grid())), notes=table.notes)
        for table in tables(cells, published=True)
    ]


def _differences(gains: Gains, looks: Mapping[str, figures.Look], mark: str) -> list[Section]:
    intervals: dict[str, list[figures.Interval]] = {}
    for gain in gains.over_baseline:
        if gain.difference:
            measure = gain.measure if gain.percent else f"{gain.measure} × 100"
            group = gains.groups[gain.label]
            look = looks[next(iter(group.members))]
            intervals.setdefault(measure, []).append((group.title, gain.difference, look))
    parts = []
    if intervals:
        picture = ("gains", figures.gains(intervals))
        numbered = tuple(key(list(intervals), "measure"))
        parts.append(Section(f"Gains of the students{mark}", numbered, picture=picture))
    pairs = gains.pairs()
    if len(pairs) > 1:
        text = (
            "A student is compared with the one without a teacher of the same size, corpus, "
            "tokenizer and recipe, and with the control of the same objective and weight; what "
            "pretrain made, with what it began with and the same with fresh weights. Encoders that "
            "differ in their pre-training seed alone are one group.",
        )
        parts.append(Section("Who is compared with whom", text, tuple(map(tuple, pairs))))
    if gains.all:
        text = (
            "A positive gain is better, whatever the measure; accuracy and r are in points. The "
            "verdict is noise if the interval contains zero: no difference is shown.",
        )
        grid = tuple(map(tuple, gains.grid()))
        title = f"All differences between encoders{mark}"
        parts.append(Section(title, text, grid, folded=True))
    return parts


def _conventions(cells: Sequence[Cell]) -> list[Section]:
    """The same test labels under every class scheme, by a classifier and by one regression."""
    regressions = [cell for cell in cells if cell.metrics.get("derived")]
    if not regressions:
        return []
    encoders = encoders_of(cells)
    seeds = len({cell.seed for cell in cells})
    rows = [["task", "answered by", "best constant", *map(row_name, encoders.values())]]
    used: list[str] = []

    def add(task: str, way: str, scheme: str, some: Sequence[Cell], path: tuple[str, ...]) -> None:
        if not some:
            return
        column = Column(task, task, (*path, "accuracy"), "")
        stats = [
            Stat.of([column.of(cell) for cell in some if cell.label == label]) for label in encoders
        ]
        constant = Stat.of([some[0].figure((*path, "majority_rate"))])
        rows.append([task, way, column.show(constant), *(column.show(s, seeds) for s in stats)])
        used.append(f"{scheme}/{task}")

    for task in (*SENTIMENT_CLASSES, "sentiment2-nonnegative"):
        own = [cell for cell in cells if cell.task == task]
        add(task, "classifier, scheme paper", "paper", own, ())
        for scheme in ("paper", "mult"):
            if scheme == "paper" and task.startswith("sentiment2"):
                continue  # both schemes then ask the regression the same
            path = ("derived", f"{scheme}/{task}")
            add(task, f"regression, scheme {scheme}", scheme, regressions, path)
    text = (
        "Accuracies in %, means over seeds, on the same test clips. All rows of the regression "
        "come from the same predictions, so within one task only the convention differs between "
        "them."
    )
    notes = tuple(f"{name}: {CONVENTIONS[name]}." for name in dict.fromkeys(used))
    grid = tuple(map(tuple, rows))
    return [Section("How much the convention alone changes", (text,), grid, notes)]


def _planes(results: ResultSet) -> list[Section]:
    """The teacher's and the encoders' vectors of the test clips."""
    teacher = {"teacher, on audio": results.teacher} if results.teacher else {}
    encoders = encoders_of(results.cells)
    names = shown([row_name(encoder) for encoder in encoders.values()], "encoder")
    paths = {
        name: results.projections[label]
        for label, name in zip(encoders, names, strict=True)
        if label in results.projections
    }
    first = results.cells[0]
    names_of = {"classes": first.outputs, "words": (), "speaker": ()}
    picture = projections({**teacher, **paths}, names_of.get(first.kind))
    if picture is None:
        return []
    what = "clips" if "cache_sha256" in first.data else "texts"
    text = (
        f"Mean vectors of the {what} on their first two principal components, coloured by label. "
        "What two components do not show may still be there. "
    )
    if teacher:
        text += "The teacher's vectors are of the clips' recordings."
    elif what == "texts":
        text += (
            "The teacher's vectors are not here: finetune --teacher-cache takes them from a cache "
            "of these clips' recordings."
        )
    title = f"Where the encoders put the test {what}, before fine-tuning"
    return [Section(title, (text,), picture=("vectors", picture))]


def _losses(cells: Sequence[Cell], looks: Mapping[str, figures.Look]) -> list[Section]:
    curves = [cell for cell in cells if cell.curve]
    if not curves:
        return []
    text = "A thin line is one seed, a thick one the mean over seeds; broken lines are controls."
    picture = ("losses", figures.losses(curves, looks))
    return [Section("Training losses", (text,), picture=picture)]


def _setting(results: ResultSet) -> Section:
    """With what, on what and how the cells were run."""
    cells = results.cells
    rows = [["what", "value"], ["folders", ", ".join(results.folders)]]
    rows += [[f"recipe: {key}", str(value)] for key, value in cells[0].recipe.items()]
    rows.append(["split", split_origin(cells[0]) or "the data's own, or that of --folds"])
    for task in dict.fromkeys(cell.task for cell in cells):
        cell = next(cell for cell in cells if cell.task == task)
        sizes = ", ".join(f"{split} {n:,}" for split, n in cell.splits.items())
        rows.append([f"{task}: clips", sizes])
        rows.append([f"{task}: convention", cell.definition])
    for label, encoder in encoders_of(cells).items():
        seconds = [cell.seconds for cell in cells if cell.label == label]
        rows.append(
            [
                f"encoder {label}",
                f"{encoder.parameters:,} parameters, weights sha256 "
                f"{encoder.weights_sha256[:12]}; cells: {len(seconds)}, "
                f"{duration(sum(seconds) / len(seconds))} each",
            ]
        )
    rows += _provenance([cell.provenance for cell in cells])
    title = f"What was run: {results.name}"
    return Section(title, grid=tuple(map(tuple, rows)), folded=True)


def _provenance(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Commits, libraries and machines that the cells were run with."""
    values = {
        "commit": [one["git_commit"] for one in records],
        "libraries": [
            ", ".join(f"{name} {one['versions'][name]}" for name in ("torch", "transformers"))
            for one in records
        ],
        "machine": [
            ", ".join(one["hardware"]["accelerators"]) or _cpu(one["hardware"]) for one in records
        ],
    }
    return [[name, "; ".join(dict.fromkeys(map(str, each)))] for name, each in values.items()]


def _cpu(hardware: Mapping[str, Any]) -> str:
    return f"{hardware['machine']}, {hardware['torch_threads']} of {hardware['cores']} cores"
