"""What a report says of a set of results, and in which order: findings, tables, details.

Everything comes from the finished cells and their predictions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.foundation.progress import duration
from pipeline.foundation.untrusted import file_part
from pipeline.reports import figures, projections
from pipeline.reports.cells import Folder
from pipeline.reports.columns import Column, Record, Stat, figure_at
from pipeline.reports.gains import Gains, gains_of
from pipeline.reports.page import Section
from pipeline.reports.tables import CONSTANT, ordered, row_name, split_origin, tables
from pipeline.tasks.metrics import DEFINITIONS
from pipeline.tasks.mosei.names import SENTIMENT_CLASSES

NEARLY_ALL = 0.995
MISSING_TOLD = 5
NO_BASELINE = "There is no encoder trained with --kd none here, so no gain can be stated."


def sections(folder: Folder) -> list[Section]:
    """Everything that is to be said of one set of results.

    Raises:
        SpeechkdError: predictions or projections are missing or damaged.
    """
    records = ordered(folder.records)
    gains = gains_of(folder)
    looks = figures.looks(
        {
            label: (c["objective"], c.get("control") not in (None, "real"))
            for label, c in _checkpoints(records).items()
        }
    )
    names = {label: row_name(records, label) for label in looks}
    made = [_findings(folder, records, gains)]
    made += [
        Section(table.title, grid=tuple(map(tuple, table.grid())), notes=table.notes)
        for table in tables(records, published=True)
    ]
    made += _differences(gains, looks)
    made += _conventions(records)
    made += _details(records)
    made += _planes(folder, names)
    curves = [record for record in records if record["curve"]]
    if curves:
        text = "A thin line a seed, a thick one their mean; broken lines are controls."
        made.append(
            Section("Training losses", (text,), picture=("losses", figures.losses(curves, looks)))
        )
    made.append(_setting(folder))
    return [_named(section, folder.key) for section in made]


def _named(section: Section, key: str) -> Section:
    if not (key and section.picture):
        return section
    return replace(section, picture=(f"{key}-{section.picture[0]}", section.picture[1]))


def _checkpoints(records: Sequence[Record]) -> dict[str, Mapping[str, Any]]:
    return {record["checkpoint"]["label"]: record["checkpoint"] for record in records}


def _findings(folder: Folder, records: Sequence[Record], gains: Gains | None) -> Section:
    """What was compared, how much of it is there, and what it shows, before any table."""
    encoders = len(_checkpoints(records))
    tasks, seeds = (len({record[key] for record in records}) for key in ("task", "seed"))
    missing = folder.missing
    whole = encoders * tasks * seeds if missing is None else len(records) + len(missing)
    text = [
        f"Encoders: {encoders}; tasks: {tasks}; fine-tuning seeds: {seeds}; {len(records)} of "
        f"{whole} cells are finished."
        + (
            " In the tables a dash is a missing figure, and a mean of fewer seeds says so."
            if len(records) < whole
            else ""
        )
    ]
    if missing:
        named = [f"{label} {task} seed {seed}" for label, task, seed in missing[:MISSING_TOLD]]
        more = len(missing) - len(named)
        text.append(f"Missing: {', '.join(named)}{f' and {more} more' if more else ''}.")
    if origin := split_origin(records[0]):
        text.append(f"The split is {origin}.")
    told = (*_constant(records), *(gains.told() if gains else ()))
    told = (*told, gains.caution() if gains else NO_BASELINE)
    chapter = f"Results: {folder.name}" if folder.key else "Results"
    return Section("In short", tuple(text), notes=tuple(told), chapter=chapter)


def _constant(records: Sequence[Record]) -> list[str]:
    """Which encoders answer which tasks as if they had not read the texts."""
    tasks: dict[str, list[str]] = {}
    for task, flag, cells in _judged(records):
        found = [
            label
            for label in _checkpoints(cells)
            if all(
                _largest_share(_metrics(r, flag)["confusion"]) > NEARLY_ALL
                for r in cells
                if r["checkpoint"]["label"] == label
            )
        ]
        if found:
            name = f"{task}/{flag}" if flag else task
            tasks.setdefault(", ".join(found), []).append(name)
    return [
        f"{labels} answer as a constant would in {', '.join(asked)} (with every seed, over "
        f"{100 * NEARLY_ALL:g} % of the test clips get one and the same class)."
        for labels, asked in tasks.items()
    ]


def _judged(records: Sequence[Record]) -> Iterator[tuple[str, str, list[Record]]]:
    """Every question with an accuracy: its task, its flag where that has several, its cells."""
    for task in dict.fromkeys(r["task"] for r in records if r["kind"] != "value"):
        cells = [r for r in records if r["task"] == task]
        if cells[0]["kind"] == "classes":
            yield task, "", cells
        else:
            for flag in cells[0]["outputs"]:
                yield task, flag, cells


def _metrics(record: Record, flag: str) -> Mapping[str, Any]:
    metrics: Mapping[str, Any] = record["metrics"]
    return metrics["flags"][flag] if flag else metrics


def _largest_share(confusion: Sequence[Sequence[int]]) -> float:
    """Share of the clips that got the class which most of them got."""
    given_C = np.sum(confusion, 0)
    return float(given_C.max() / given_C.sum())


def _differences(gains: Gains | None, looks: Mapping[str, figures.Look]) -> list[Section]:
    if gains is None:
        return []
    students = gains.students()
    drawn: dict[str, list[figures.Interval]] = {}
    for gain in gains.over_baseline:
        if gain.found and gain.label in students:
            measure = f"{gain.measure} × 100" if not gain.percent else gain.measure
            name = gains.names[gain.label]
            drawn.setdefault(measure, []).append((name, gain.found, looks[gain.label]))
    made = []
    if drawn:
        picture = ("gains", figures.gains(drawn, gains.baseline))
        made.append(Section("Gains of the students", picture=picture))
    text = (
        "Positive is better, whatever the measure; accuracy and r in points. noise: the interval "
        "holds zero, so no difference is shown.",
    )
    grid = tuple(map(tuple, gains.grid()))
    return [*made, Section("All differences between encoders", text, grid, folded=True)]


def _conventions(records: Sequence[Record]) -> list[Section]:
    """The same test labels under every class scheme, by a classifier and by one regression."""
    regressions = [r for r in records if r["metrics"].get("derived")]
    if not regressions:
        return []
    labels = list(_checkpoints(records))
    seeds = len({r["seed"] for r in records})
    rows = [["task", "answered by", "best constant", *(row_name(records, x) for x in labels)]]
    used: dict[str, None] = {}

    def add(
        task: str, way: str, scheme: str, cells: Sequence[Record], path: tuple[str, ...]
    ) -> None:
        column = Column(task, task, (*path, "accuracy"), "")
        stats = [
            Stat.of([column.of(r) for r in cells if r["checkpoint"]["label"] == label])
            for label in labels
        ]
        if not cells:
            return
        used[f"{scheme}/{task}"] = None
        constant = figure_at(cells[0]["metrics"], (*path, "majority_rate"))
        shown = (column.show(stat, seeds) for stat in stats)
        rows.append([task, way, column.show(Stat.of([constant])), *shown])

    for task in (*SENTIMENT_CLASSES, "sentiment2-nonnegative"):
        own = [r for r in records if r["task"] == task]
        add(task, "a classifier, scheme paper", "paper", own, ())
        for scheme in ("paper", "mult"):
            if scheme == "paper" and task.startswith("sentiment2"):
                continue  # of a regression the two schemes then ask the same
            path = ("derived", f"{scheme}/{task}")
            add(task, f"the regression, scheme {scheme}", scheme, regressions, path)
    text = (
        "Accuracies in %, means over seeds, on the same test clips. All rows that say regression "
        "are one and the same set of predictions: between those of one task the convention alone "
        "differs."
    )
    notes = tuple(f"{name}: {DEFINITIONS[name]}." for name in used)
    return [Section("How far the conventions alone go", (text,), tuple(map(tuple, rows)), notes)]


def _planes(folder: Folder, names: Mapping[str, str]) -> list[Section]:
    """The teacher's and the encoders' vectors of the test clips."""
    teacher = {"teacher, on audio": folder.teacher} if folder.teacher else {}
    places = {
        name: folder.projections[label]
        for label, name in names.items()
        if label in folder.projections
    }
    shown = projections.picture({**teacher, **places})
    if shown is None:
        return []
    text = (
        "Mean vectors of the texts on their first two principal components, coloured by label. "
        "What is not seen on two components may still be there. "
    )
    text += (
        "The teacher's are of the clips' recordings."
        if teacher
        else "The teacher's are not here: finetune --teacher-cache takes them from a cache of "
        "these clips' recordings."
    )
    title = "Where the encoders put the test texts, before fine-tuning"
    return [Section(title, (text,), picture=("vectors", shown))]


def _details(records: Sequence[Record]) -> list[Section]:
    """What must stand beside an accuracy to read it, and the confusion matrices."""
    return [
        _detail(f"{task}: {flag}", cells, flag, ("absent", "present"))
        if flag
        else _detail(task, cells, "", cells[0]["outputs"])
        for task, flag, cells in _judged(records)
    ]


def _detail(
    title: str,
    cells: Sequence[Record],
    flag: str,
    outputs: Sequence[str],
) -> Section:
    keys = ("accuracy", "balanced_accuracy", "weighted_f1")
    recalls = (f"recall {output}" for output in outputs)
    rows = [["model", "accuracy", "balanced accuracy", "weighted F1", *recalls]]
    first = _metrics(cells[0], flag)
    majority = first["majority_rate"]
    occurring = int(np.count_nonzero(np.sum(first["confusion"], 1)))
    rows.append([CONSTANT, f"{100 * majority:.2f}", *["–"] * (2 + len(outputs))])
    matrices = {}
    for label in _checkpoints(cells):
        mine = [_metrics(r, flag) for r in cells if r["checkpoint"]["label"] == label]
        means = [float(np.mean([m[key] for m in mine])) for key in keys]
        by_class = [
            "–" if None in values else f"{100 * np.mean(values):.1f}"
            for values in zip(*(m["recall"] for m in mine), strict=True)
        ]
        name = row_name(cells, label)
        rows.append([name, *(f"{100 * mean:.2f}" for mean in means), *by_class])
        matrices[name] = np.sum([m["confusion"] for m in mine], 0)
    return Section(
        f"{title}: beside the accuracy",
        (
            "Means over seeds, in %. An accuracy near that of the best constant answer with a "
            f"balanced accuracy near {100 / occurring:.1f} means that a constant answer does "
            "as well.",
        ),
        tuple(map(tuple, rows)),
        picture=(f"confusion-{file_part(title)}", figures.confusions(matrices, outputs)),
        folded=True,
    )


def _provenance(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Commits, libraries and machines that the cells were run with."""
    told = {
        "commit": [one["git_commit"] for one in found],
        "libraries": [
            ", ".join(f"{name} {one['versions'][name]}" for name in ("torch", "transformers"))
            for one in found
        ],
        "machine": [
            ", ".join(one["hardware"]["accelerators"]) or _cpu(one["hardware"]) for one in found
        ],
    }
    return [[name, "; ".join(dict.fromkeys(map(str, values)))] for name, values in told.items()]


def _cpu(hardware: Mapping[str, Any]) -> str:
    return f"{hardware['machine']}, {hardware['torch_threads']} of {hardware['cores']} cores"


def _setting(folder: Folder) -> Section:
    first = folder.records[0]
    rows = [["what", "value"]]
    rows += [[f"recipe: {key}", str(value)] for key, value in first["recipe"].items()]
    rows.append(["split", split_origin(first) or "the data's own, or that of --folds"])
    for task in dict.fromkeys(record["task"] for record in folder.records):
        record = next(r for r in folder.records if r["task"] == task)
        sizes = ", ".join(f"{split} {n:,}" for split, n in record["splits"].items())
        rows.append([f"{task}: clips", sizes])
        rows.append([f"{task}: convention", record["definition"]])
    for label, checkpoint in _checkpoints(ordered(folder.records)).items():
        cells = [r["seconds"] for r in folder.records if r["checkpoint"]["label"] == label]
        rows.append(
            [
                f"encoder {label}",
                f"{checkpoint['parameters']:,} parameters, weights sha256 "
                f"{checkpoint['weights_sha256'][:12]}; cells {len(cells)}, "
                f"{duration(sum(cells) / len(cells))} each",
            ]
        )
    rows += _provenance([record["provenance"] for record in folder.records])
    title = f"What was run: {folder.name}"
    return Section(title, grid=tuple(map(tuple, rows)), folded=True)
