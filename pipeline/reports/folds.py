"""Folds put together: each clip was tested once, so that all folds are one test."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from pipeline.finetuning.cells import Cell
from pipeline.reports.predictions import Predictions, figures_of

Scored: TypeAlias = tuple[Cell, Predictions]
"""A finished cell with the figures that its predictions give, and these."""

OTHER_FOLDS = " and other folds"
"""What the name of a whole test ends with, after the name of its first fold's cell."""


@dataclass(frozen=True)
class Pooled:
    """Cells of which each is a whole test.

    Attributes:
        cells: cells without folds as they are; of the others one per encoder, task and seed, with
            the figures of all its folds' predictions together.
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
        metrics=figures_of(first, predictions),
        valid_metrics=None,
        curve=[],
        epochs=[],
        seconds=sum(cell.seconds for cell in cells),
        trained_tokens=sum(cell.trained_tokens for cell in cells),
        repeated_texts=None if None in repeated else sum(n for n in repeated if n is not None),
    )
    return joined, predictions
