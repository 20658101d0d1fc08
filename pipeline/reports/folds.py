"""Folds put together: each clip was tested once, so that all folds are one test.

What ranks answers, or takes them by their scale, is a mean over folds, because each fold has a
classifier of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from pipeline.finetuning.cells import Cell
from pipeline.reports.predictions import Predictions, figures_of

Scored: TypeAlias = tuple[Cell, Predictions]
"""A finished cell with the figures that its predictions give, and these."""

BY_FOLD = {"average_precision": None, "pearson": 0.0}
"""Measures that rank answers or scale them, so that each fold's classifier is asked by itself; with
what a fold counts where they are undefined: r of equal answers 0, a fold without a yes nothing."""
OTHER_FOLDS = " and other folds"
"""What the name of a whole test ends with, after the name of its first fold's cell."""


@dataclass(frozen=True)
class Pooled:
    """Cells of which each is a whole test.

    Attributes:
        cells: cells without folds as they are; of the others one per encoder, task and seed, with
            the figures of all its folds' predictions together, or means over them.
        folds: the cells of single folds that are in these.
        incomplete: cells of folds whose other folds are not finished; no figure shows them.
    """

    cells: tuple[Scored, ...]
    folds: tuple[Cell, ...]
    incomplete: tuple[Cell, ...]


def pool(scored: Sequence[Scored], asked_titles: Iterable[str]) -> Pooled:
    """Put the folds of each encoder, task and seed together.

    Args:
        scored: finished cells with their predictions.
        asked_titles: the title of every cell that was to be run, which names its fold.
    """
    folds_of = _folds_by_task(scored, asked_titles)
    whole: list[Scored] = []
    parts: dict[tuple[str, str, int], list[Scored]] = {}
    for cell, predictions in scored:
        if cell.fold:
            parts.setdefault((cell.label, cell.task, cell.seed), []).append((cell, predictions))
        else:
            whole.append((cell, predictions))
    folds: list[Cell] = []
    incomplete: list[Cell] = []
    for (_, task, _), several in parts.items():
        cells = [cell for cell, _ in several]
        if {cell.fold for cell in cells} == folds_of[task]:
            whole.append(_joined(several))
            folds += cells
        else:
            incomplete += cells
    return Pooled(tuple(whole), tuple(folds), tuple(incomplete))


def _folds_by_task(scored: Sequence[Scored], asked_titles: Iterable[str]) -> Mapping[str, set[str]]:
    tasks = {cell.task for cell, _ in scored if cell.fold}
    folds_of = {task: {cell.fold for cell, _ in scored if cell.task == task} for task in tasks}
    for title in asked_titles:
        for task in tasks:
            name = title.removeprefix(f"{task}, fold ")
            if name != title:
                folds_of[task].add(name)
    return folds_of


def _joined(parts: Sequence[Scored]) -> Scored:
    parts = sorted(parts, key=lambda part: part[0].fold)  # the same order for every encoder
    cells = [cell for cell, _ in parts]
    predictions = Predictions.joined([part for _, part in parts])
    first = cells[0]
    least = {s: min(cell.splits[s] for cell in cells) for s in first.splits}
    repeated = [cell.repeated_texts for cell in cells]
    joined = replace(
        first,
        name=first.name + OTHER_FOLDS,
        fold="",
        splits={**least, "test": predictions.texts},
        metrics=_over_folds(figures_of(first, predictions), [cell.metrics for cell in cells]),
        valid_metrics=None,
        curve=[],
        epochs=[],
        seconds=sum(cell.seconds for cell in cells),
        trained_tokens=sum(cell.trained_tokens for cell in cells),
        repeated_texts=None if None in repeated else sum(n for n in repeated if n is not None),
    )
    return joined, predictions


def _over_folds(whole: Mapping[str, Any], folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of all predictions together, but means over folds of the measures of `BY_FOLD`."""
    figures = dict(whole)
    for name in whole:
        if name in ("chance", "prior"):
            figures[name] = _over_folds(whole[name], [fold[name] for fold in folds])
        elif name in BY_FOLD:
            figures[name] = mean_over_folds(name, [fold[name] for fold in folds])
    return figures


def mean_over_folds(measure: str, figures: Sequence[float | None]) -> float | None:
    """A measure's mean over folds.

    Where it is undefined, a fold counts what `BY_FOLD` says; of other measures there is no mean
    then.
    """
    counted = [BY_FOLD.get(measure) if x is None else x for x in figures]
    known = [x for x in counted if x is not None]
    if not known or (len(known) < len(figures) and measure not in BY_FOLD):
        return None
    return float(np.mean(known))
