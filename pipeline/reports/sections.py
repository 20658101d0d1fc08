"""What a report says of a set of results, and in which order: findings, tables, details.

Everything comes from the finished cells and their predictions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.finetuning.cells import Cell
from pipeline.foundation.progress import duration
from pipeline.foundation.untrusted import file_part
from pipeline.reports import figures
from pipeline.reports.cells import ResultSet
from pipeline.reports.columns import Column, Stat
from pipeline.reports.formats import NOTHING, listed
from pipeline.reports.gains import Gains, gains_of
from pipeline.reports.page import Section
from pipeline.reports.tables import CONSTANT, encoders_of, ordered, row_name, split_origin, tables
from pipeline.tasks.mosei.names import SENTIMENT_CLASSES
from pipeline.tasks.mosei.schemes import DEFINITIONS as CONVENTIONS

NEARLY_ALL = 0.995
"""Share of the test clips beyond which an encoder that gives them one class is called constant."""
LISTED = 5
"""How many of the missing cells are named."""
NO_BASELINE = "No encoder here was trained with --kd none, so no gain can be stated."


def sections(results: ResultSet) -> list[Section]:
    """Everything that is to be said of one set of results.

    Raises:
        SpeechkdError: predictions or projections are missing or damaged.
    """
    cells = ordered(results.cells)
    gains = gains_of(results)
    looks = figures.looks(encoders_of(cells))
    parts = [
        _findings(results, cells, gains),
        *_tables(cells),
        *_differences(gains, looks),
        *_conventions(cells),
        *_details(cells),
        *_planes(results),
        *_losses(cells, looks),
        _setting(results),
    ]
    return [_named(section, results.key) for section in parts]


def _named(section: Section, key: str) -> Section:
    if not (key and section.picture):
        return section
    return replace(section, picture=(f"{key}-{section.picture[0]}", section.picture[1]))


def _findings(results: ResultSet, cells: Sequence[Cell], gains: Gains | None) -> Section:
    """What was compared, how much of it is there, and what it shows, before any table."""
    encoders, tasks, seeds = map(set, zip(*(cell.key for cell in cells), strict=True))
    missing = results.missing
    text = [
        f"Encoders: {len(encoders)}; tasks: {len(tasks)}; fine-tuning seeds: {len(seeds)}; "
        f"{len(cells)} of {len(cells) + len(missing)} cells are finished."
    ]
    if missing:
        text[0] += (
            " In the tables a dash stands for a missing figure, and a mean over fewer seeds says "
            "so."
        )
        names = [f"{label} {task} seed {seed}" for label, task, seed in missing[:LISTED]]
        more = len(missing) - len(names)
        text.append(f"Missing: {', '.join(names)}{f' and {more} more' if more else ''}.")
    if origin := split_origin(cells[0]):
        text.append(f"The split was {origin}.")
    notes = _constant(cells)
    notes += [*gains.sentences(), gains.caution()] if gains else [NO_BASELINE]
    chapter = f"Results: {results.name}" if results.key else "Results"
    return Section("In short", tuple(text), notes=tuple(notes), chapter=chapter)


def _constant(cells: Sequence[Cell]) -> list[str]:
    """Which encoders answer which tasks as if they had not read the texts."""
    tasks: dict[tuple[str, ...], list[str]] = {}
    for task, flag, mine in _classifications(cells):
        largest: dict[str, list[float]] = {}
        for cell in mine:
            share = _largest_share(_metrics(cell, flag)["confusion"])
            largest.setdefault(cell.label, []).append(share)
        labels = tuple(label for label, shares in largest.items() if min(shares) > NEARLY_ALL)
        if labels:
            tasks.setdefault(labels, []).append(f"{task}/{flag}" if flag else task)
    return [
        f"In {listed(several)}, the answers of {listed(labels)} are all but constant: with every "
        f"seed, more than {100 * NEARLY_ALL:g} % of the test clips get one and the same class."
        for labels, several in tasks.items()
    ]


def _classifications(cells: Sequence[Cell]) -> Iterator[tuple[str, str, list[Cell]]]:
    """Everything with an accuracy: its task, its flag if that has several, its cells."""
    for task in dict.fromkeys(cell.task for cell in cells if cell.kind != "value"):
        mine = [cell for cell in cells if cell.task == task]
        for flag in mine[0].outputs if mine[0].kind == "flags" else ("",):
            yield task, flag, mine


def _metrics(cell: Cell, flag: str) -> Mapping[str, Any]:
    metrics: Mapping[str, Any] = cell.metrics
    return metrics["flags"][flag] if flag else metrics


def _largest_share(confusion: Sequence[Sequence[int]]) -> float:
    """Share of the clips in the class that was predicted most often."""
    predicted_C = np.sum(confusion, 0)
    return float(predicted_C.max() / predicted_C.sum())


def _tables(cells: Sequence[Cell]) -> list[Section]:
    return [
        Section(table.title, grid=tuple(map(tuple, table.grid())), notes=table.notes)
        for table in tables(cells, published=True)
    ]


def _differences(gains: Gains | None, looks: Mapping[str, figures.Look]) -> list[Section]:
    if gains is None:
        return []
    students = gains.students()
    intervals: dict[str, list[figures.Interval]] = {}
    for gain in gains.over_baseline:
        if gain.difference and gain.label in students:
            measure = gain.measure if gain.percent else f"{gain.measure} × 100"
            name = row_name(gains.encoders[gain.label])
            intervals.setdefault(measure, []).append((name, gain.difference, looks[gain.label]))
    pictures = []
    if intervals:
        picture = ("gains", figures.gains(intervals, gains.baseline))
        pictures.append(Section("Gains of the students", picture=picture))
    text = (
        "A positive gain is better, whatever the measure; accuracy and r are in points. The "
        "verdict is noise if the interval contains zero: no difference is shown.",
    )
    grid = tuple(map(tuple, gains.grid()))
    return [*pictures, Section("All differences between encoders", text, grid, folded=True)]


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
    paths = {
        row_name(encoder): results.projections[label]
        for label, encoder in encoders_of(results.cells).items()
        if label in results.projections
    }
    picture = figures.projections({**teacher, **paths})
    if picture is None:
        return []
    text = (
        "Mean vectors of the texts on their first two principal components, coloured by label. "
        "What two components do not show may still be there. "
    )
    text += (
        "The teacher's vectors are of the clips' recordings."
        if teacher
        else "The teacher's vectors are not here: finetune --teacher-cache takes them from a cache "
        "of these clips' recordings."
    )
    title = "Where the encoders put the test texts, before fine-tuning"
    return [Section(title, (text,), picture=("vectors", picture))]


def _losses(cells: Sequence[Cell], looks: Mapping[str, figures.Look]) -> list[Section]:
    curves = [cell for cell in cells if cell.curve]
    if not curves:
        return []
    text = "A thin line is one seed, a thick one the mean over seeds; broken lines are controls."
    picture = ("losses", figures.losses(curves, looks))
    return [Section("Training losses", (text,), picture=picture)]


def _details(cells: Sequence[Cell]) -> list[Section]:
    """What must stand beside an accuracy to read it, and the confusion matrices."""
    return [
        _detail(f"{task}: {flag}", mine, flag, ("absent", "present"))
        if flag
        else _detail(task, mine, "", mine[0].outputs)
        for task, flag, mine in _classifications(cells)
    ]


def _detail(title: str, cells: Sequence[Cell], flag: str, outputs: Sequence[str]) -> Section:
    keys = ("accuracy", "balanced_accuracy", "weighted_f1")
    recalls = (f"recall {output}" for output in outputs)
    rows = [["model", "accuracy", "balanced accuracy", "weighted F1", *recalls]]
    first = _metrics(cells[0], flag)
    majority = first["majority_rate"]
    occurring = int(np.count_nonzero(np.sum(first["confusion"], 1)))
    rows.append([CONSTANT, f"{100 * majority:.2f}", *[NOTHING] * (2 + len(outputs))])
    matrices = {}
    for label, encoder in encoders_of(cells).items():
        mine = [_metrics(cell, flag) for cell in cells if cell.label == label]
        means = [float(np.mean([m[key] for m in mine])) for key in keys]
        by_class = [
            NOTHING if None in values else f"{100 * np.mean(values):.1f}"
            for values in zip(*(m["recall"] for m in mine), strict=True)
        ]
        name = row_name(encoder)
        rows.append([name, *(f"{100 * mean:.2f}" for mean in means), *by_class])
        matrices[name] = np.sum([m["confusion"] for m in mine], 0)
    text = (
        "Means over seeds, in %. If the accuracy is near that of the best constant answer and the "
        f"balanced accuracy near {100 / occurring:.1f}, a constant answer does as well."
    )
    return Section(
        f"{title}: beside the accuracy",
        (text,),
        tuple(map(tuple, rows)),
        picture=(f"confusion-{file_part(title)}", figures.confusions(matrices, outputs)),
        folded=True,
    )


def _setting(results: ResultSet) -> Section:
    """With what, on what and how the cells were run."""
    cells = results.cells
    rows = [["what", "value"]]
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
