"""The beginning of a report: what was compared, how much of it is there, and what it shows."""

from collections.abc import Sequence

import numpy as np

from pipeline.finetuning.cells import Cell
from pipeline.foundation.progress import counted
from pipeline.reports.cells import ResultSet
from pipeline.reports.conclusions import caution, sentences
from pipeline.reports.details import classifications, metrics_of
from pipeline.reports.folds import OTHER_FOLDS
from pipeline.reports.formats import listed
from pipeline.reports.gains import Gains
from pipeline.reports.lettering import key
from pipeline.reports.page import Section
from pipeline.reports.tables import (
    SELECTED_ON_TEST,
    encoders_of,
    row_name,
    selected_on_test,
    split_origin,
)
from pipeline.reports.texts import on_texts
from pipeline.tasks.duplicates import WARNED_SHARE

NEARLY_ALL = 0.995
"""Share of the test clips beyond which an encoder that gives them one class is called constant."""
LISTED = 5
"""How many of the missing cells are named."""
NO_BASELINE = "No encoder here was trained with --kd none, so no gain can be stated."


def findings(results: ResultSet, cells: Sequence[Cell], gains: Gains) -> Section:
    """What was compared, how much of it is there, and what it shows, before any table."""
    encoders, _, seeds = map(set, zip(*(cell.key for cell in cells), strict=True))
    tasks = {cell.task for cell in cells}
    missing = results.missing
    folds = len({cell.fold for cell in results.folds})
    finished = sum(not cell.name.endswith(OTHER_FOLDS) for cell in cells)
    finished += len(results.folds) + len(results.incomplete)
    text = [
        f"Encoders: {len(encoders)}; tasks: {len(tasks)}; "
        + (f"folds: {folds}; " if folds else "")
        + f"fine-tuning seeds: {len(seeds)}; {finished} of "
        f"{counted(finished + len(missing), 'cell')} "
        f"{'is' if finished + len(missing) == 1 else 'are'} finished."
    ]
    if missing:
        text[0] += (
            " In the tables a dash stands for a missing figure, and a mean over fewer seeds says "
            "so."
        )
        text.append(f"Missing: {_some([f'{one} {task} seed {n}' for one, task, n in missing])}.")
    if results.removed:
        text.append(
            "Lines of results.jsonl whose cells were removed, and which do not count: "
            f"{_some(results.removed)}."
        )
    if results.incomplete:
        text.append(
            "Cells that no figure shows, because other folds of the same encoder and seed are not "
            f"finished: {_some([cell.name for cell in results.incomplete])}."
        )
    if folds:
        measures = {"words": "average precision is", "value": "r is"}
        by_fold = [measures[kind] for kind in sorted({cell.kind for cell in cells} & {*measures})]
        text.append(
            "Each clip was tested once, in its fold; the figures are of all folds' predictions "
            f"together{''.join(f', but {one} the mean over folds' for one in by_fold)}."
        )
    if origin := split_origin(cells[0]):
        text.append(f"The split was {origin}.")
    names = [row_name(encoder) for encoder in encoders_of(cells).values()]
    notes = [*key(names, "encoder"), *on_texts(cells), *_repeated(cells), *_constant(cells)]
    has_equals = gains.over_start or gains.over_fresh
    if not has_equals and all(one.objective != "none" for one in encoders_of(cells).values()):
        notes.append(NO_BASELINE)
    notes += [*filter(None, [*sentences(gains), caution(gains)])]
    if selected_on_test(cells):
        notes.insert(0, f"WARNING: {SELECTED_ON_TEST}.")
    chapter = f"Results: {results.name}" if results.key else "Results"
    return Section("In short", tuple(text), notes=tuple(notes), chapter=chapter)


def _some(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return f"{', '.join(names[:LISTED])}{f' and {more} more' if more > 0 else ''}"


def _repeated(cells: Sequence[Cell]) -> list[str]:
    """Tasks whose test texts stand in training, too."""
    lines = []
    for task in dict.fromkeys(cell.task for cell in cells):
        cell = next(cell for cell in cells if cell.task == task)
        tests = cell.splits["test"]
        if cell.repeated_texts and cell.repeated_texts > WARNED_SHARE * tests:
            lines.append(
                f"In {task}, {cell.repeated_texts:,} of {tests:,} test texts "
                f"({100 * cell.repeated_texts / tests:.1f} %) stand in training, too: the figures "
                "are too good for other texts. finetune --drop-duplicates leaves them out."
            )
    return lines


def _constant(cells: Sequence[Cell]) -> list[str]:
    """Which encoders answer which tasks as if they had not read the texts."""
    tasks: dict[tuple[str, ...], list[str]] = {}
    for task, flag, mine in classifications(cells):
        largest: dict[str, list[float]] = {}
        for cell in mine:
            share = _largest_share(metrics_of(cell, flag)["confusion"])
            largest.setdefault(cell.label, []).append(share)
        labels = tuple(label for label, shares in largest.items() if min(shares) > NEARLY_ALL)
        if labels:
            tasks.setdefault(labels, []).append(f"{task}/{flag}" if flag else task)
    return [
        f"In {listed(several)}, the answers of {listed(labels)} are all but constant: with every "
        f"seed, more than {100 * NEARLY_ALL:g} % of the test clips get one and the same class."
        for labels, several in tasks.items()
    ]


def _largest_share(confusion: Sequence[Sequence[int]]) -> float:
    """Share of the clips in the class that was predicted most often."""
    predicted_C = np.sum(confusion, 0)
    return float(predicted_C.max() / predicted_C.sum())
