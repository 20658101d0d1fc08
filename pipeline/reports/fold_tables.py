"""The figures of each fold, beside those of all folds together."""

from collections.abc import Sequence

from pipeline.finetuning.cells import Cell
from pipeline.reports.columns import Column, Stat, other_columns
from pipeline.reports.folds import mean_over_folds
from pipeline.reports.page import Section
from pipeline.reports.published_ctal import on_emotion
from pipeline.reports.tables import SELECTED_ON_TEST, encoders_of, row_name, selected_on_test

MOST_ACROSS = 12
"""Folds that stand side by side; of more of them the best and the worst are shown."""


def by_fold(cells: Sequence[Cell]) -> list[Section]:
    """A section per task that was asked in folds.

    Args:
        cells: the cells of single folds.
    """
    sections = []
    for task in dict.fromkeys(cell.task for cell in cells):
        mine = [cell for cell in cells if cell.task == task]
        ((_, columns),) = other_columns(mine[:1]).values()
        folds = list(dict.fromkeys(cell.fold for cell in mine))
        across = len(folds) <= MOST_ACROSS
        head = ["model", "figure", "mean over folds", *(folds if across else ("least", "most"))]
        rows = [head]
        for label, encoder in encoders_of(mine).items():
            own = [cell for cell in mine if cell.label == label]
            rows += [[row_name(encoder), *_row(column, own, folds, across)] for column in columns]
        sizes = [_tests(mine, fold) for fold in folds]
        counts = " to ".join(dict.fromkeys(f"{n:,}" for n in (min(sizes), max(sizes))))
        text = (
            f"Means over seeds. The test of a fold has {counts} clips. The mean over folds gives "
            "each fold the same weight, however many clips it has; its σ is over seeds. Published "
            "figures are often such means, and so are average precision and r of the whole test.",
        )
        grid = tuple(map(tuple, rows))
        mark = selected_on_test(mine)
        title = f"{task}: fold by fold{mark}"
        warning = (f"WARNING: {SELECTED_ON_TEST}.",) if mark else ()
        notes = (*warning, *on_emotion(mine))
        sections.append(Section(title, text, grid, notes, folded=len(rows) > 7))
    return sections


def _row(column: Column, cells: Sequence[Cell], folds: Sequence[str], across: bool) -> list[str]:
    by_seed: dict[int, list[float | None]] = {}
    for cell in cells:
        by_seed.setdefault(cell.seed, []).append(column.of(cell))
    of_seeds = [
        mean_over_folds(column.path[-1], values)
        for values in by_seed.values()
        if len(values) == len(folds)
    ]
    means = [mean for mean in of_seeds if mean is not None]
    stats = [Stat.of([column.of(cell) for cell in cells if cell.fold == fold]) for fold in folds]
    if not across:
        ends = sorted((stat for stat in stats if stat), key=lambda stat: stat.mean)
        stats = [ends[0], ends[-1]] if ends else [None, None]
    single = [None if stat is None else Stat(stat.mean, None, stat.count) for stat in stats]
    return [column.title, column.show(Stat.of(means)), *(column.show(stat) for stat in single)]


def _tests(cells: Sequence[Cell], fold: str) -> int:
    return next(cell.splits["test"] for cell in cells if cell.fold == fold)
