"""The finished cells of results folders, as a report reads them, whoever wrote the folders."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.finetuning.cells import Cell
from pipeline.finetuning.results import (
    RESULTS,
    TEACHER,
    cell_files,
    projection_name,
    read_asked,
    read_json,
    settled,
)
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.reports.folds import Scored, pool
from pipeline.reports.predictions import Predictions, scored
from pipeline.tasks.mosei.questions import TASKS

Key = tuple[str, str, int]
"""Label, task and seed of a cell."""


def read_results(folder: Path) -> list[Cell]:
    """Read the finished cells of a results folder.

    They are the lines of its `results.jsonl`. Where `cells/` is beside it, as `finetune` leaves it,
    a line whose file there was removed does not count, and a file without a line does, because the
    files are what proves that cells are done.

    Raises:
        SpeechkdError: there is no such file, no cell is finished, or a line is not a cell's record.
    """
    return read_listed(folder)[0]


def read_listed(folder: Path) -> tuple[list[Cell], list[str]]:
    """The cells of `read_results`, and the names of those that were removed."""
    listed = _read_lines(folder)
    files = {path.stem: path for path in cell_files(folder)}
    if not (folder / "cells").is_dir():
        cells, removed = listed, []
    else:
        cells = [cell for cell in listed if cell.name in files]
        removed = [cell.name for cell in listed if cell.name not in files]
        for name in sorted(files.keys() - {cell.name for cell in listed}):
            remedy = "remove that file and run the same finetune again"
            cells.append(Cell.from_record(read_json(files[name]), str(files[name]), remedy))
    if not cells:
        raise NotThere(f"{folder / 'results.jsonl'} is empty: no cell has finished yet.")
    return cells, removed


def _read_lines(folder: Path) -> list[Cell]:
    path = folder / "results.jsonl"
    try:
        lines = read_text_file(path).splitlines()
    except UnicodeDecodeError as error:
        raise Damaged(f"{path} is not UTF-8 text ({error}).") from None
    except FileNotFoundError:
        raise NotThere(
            f"{folder} holds no results: there is neither results.jsonl, which `speechkd finetune` "
            "writes, nor hearing.json, which `speechkd probe hearing` writes. Name their --out."
        ) from None
    cells = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            record = parse_json(line)
        except ValueError as error:
            raise Damaged(f"{where}: not JSON ({error}).") from None
        remedy = "the same finetune again writes that file anew from cells/"
        cells.append(Cell.from_record(record, where, remedy))
    return cells


MANY_FOLDERS = 3
"""Folders of one parent that are named one by one; of more their number is said."""


@dataclass(frozen=True)
class ResultSet:
    """Finished cells of one recipe on one data set and split, from one or more folders.

    Attributes:
        key: a number for file names if there are several sets; else empty.
        name: what to call the set: the folders as given, or where they lie if they are many.
        short: the same wherever the folders lie: the folders' own names, after the key.
        cells: the finished cells, by task, then label, then seed, with the figures that their
            predictions give. Folds are put together: a cell is a whole test.
        predictions: what each of these cells predicted, by the cell's key.
        folds: the cells of single folds, where there are folds.
        projections: for each label that has one, the file of where its vectors lie on a plane.
        teacher: the same file for the teacher, if some command was given its cache.
        missing: the keys of cells that were asked for and are not finished.
        removed: names of cells that results.jsonl lists and whose files were removed.
        incomplete: cells of folds that no figure shows, because other folds are missing.
        folders: the folders as given.
    """

    key: str
    name: str
    short: str
    cells: tuple[Cell, ...]
    predictions: Mapping[Key, Predictions]
    folds: tuple[Cell, ...]
    projections: Mapping[str, Path]
    teacher: Path | None
    missing: tuple[Key, ...]
    removed: tuple[str, ...]
    incomplete: tuple[Cell, ...]
    folders: tuple[str, ...]


def whole_tests(folder: Path) -> list[Cell]:
    """The finished cells of a results folder, its folds put together; none before a whole test.

    Raises:
        SpeechkdError: the folder is no results folder, or a figure is not what predictions give.
    """
    scored_cells = _scored((cell, folder) for cell in read_results(folder))
    pooled = pool(scored_cells, [title for _, title, _ in read_asked(folder)])
    return [cell for cell, _ in pooled.cells]


def read_sets(folders: Sequence[Path]) -> list[ResultSet]:
    """Read results folders, and put together those that may stand in one table.

    Raises:
        SpeechkdError: a folder is no results folder, one label stands for different weights, or a
            figure is not what the cell's predictions give.
    """
    groups: dict[str, dict[Path, list[Cell]]] = {}
    removed: dict[Path, list[str]] = {}
    for folder in folders:
        cells, removed[folder] = read_listed(folder)
        settings = settled(read_json(folder / RESULTS))
        fixed = {k: v for k, v in settings.items() if k not in ("format", "created_by")}
        groups.setdefault(json.dumps(fixed, sort_keys=True), {})[folder] = cells
    return [
        _result_set(str(number) if len(groups) > 1 else "", group, removed)
        for number, group in enumerate(groups.values(), start=1)
    ]


def _result_set(
    key: str, group: Mapping[Path, Sequence[Cell]], removed: Mapping[Path, Sequence[str]]
) -> ResultSet:
    _check_weights(group)
    homes: dict[Key, tuple[Cell, Path]] = {}
    for folder, several in group.items():
        for cell in several:
            homes.setdefault(cell.key, (cell, folder))
    homes = {cell.key: (cell, folder) for cell, folder in sorted(homes.values(), key=_place)}
    own_names = _called([folder.resolve() for folder in group], [f.resolve().name for f in group])
    asked = {cell for folder in group for cell in read_asked(folder)}
    pooled = pool(_scored(homes.values()), [title for _, title, _ in asked])
    if not pooled.cells:
        raise NotThere(
            f"{', '.join(map(str, group))}: no encoder and seed has all folds yet, so there is no "
            f"whole test ({counted(len(pooled.incomplete), 'cell')} of single folds are finished)."
        )
    teachers = (folder / "projections" / f"{TEACHER}.csv" for folder in group)
    return ResultSet(
        key=key,
        name=_called([*group], [*map(str, group)], whole=True),
        short=f"{key}: {own_names}" if key else own_names,
        cells=tuple(cell for cell, _ in pooled.cells),
        predictions={cell.key: predictions for cell, predictions in pooled.cells},
        folds=pooled.folds,
        projections=_projections(homes.values()),
        teacher=next((path for path in teachers if path.is_file()), None),
        missing=tuple(sorted(asked - set(homes))),
        removed=tuple(name for folder in group for name in removed[folder]),
        incomplete=pooled.incomplete,
        folders=tuple(map(str, group)),
    )


def _called(folders: Sequence[Path], names: Sequence[str], *, whole: bool = False) -> str:
    """Names of folders in one line; of many their number, and what they have in common."""
    parents = {folder.parent for folder in folders}
    if len(folders) <= MANY_FOLDERS or len(parents) > 1:
        return ", ".join(names)
    (parent,) = parents
    return f"{parent if whole else parent.name} ({len(folders)} folders)"


def _scored(homes: Iterable[tuple[Cell, Path]]) -> list[Scored]:
    """Cells with their predictions; equal lists of clips are in memory once."""
    several: list[Scored] = []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for cell, folder in homes:
        checked, predictions = scored(cell, folder / cell.predictions)
        ids = known.setdefault(predictions.ids, predictions.ids)
        groups = known.setdefault(predictions.groups, predictions.groups)
        several.append((checked, replace(predictions, ids=ids, groups=groups)))
    return several


def _check_weights(group: Mapping[Path, Sequence[Cell]]) -> None:
    weights: dict[str, str] = {}
    for several in group.values():
        for cell in several:
            digest = cell.checkpoint.weights_sha256
            if weights.setdefault(cell.label, digest) != digest:
                raise SpeechkdError(
                    f"{cell.label} stands for weights of sha256 {weights[cell.label][:12]} and of "
                    f"{digest[:12]} in {', '.join(map(str, group))}; report them apart."
                )


def _place(home: tuple[Cell, Path]) -> tuple[int, str, str, int]:
    cell, _ = home
    names = list(TASKS)
    return (names.index(cell.task) if cell.task in names else len(names), *cell.key)


def _projections(homes: Iterable[tuple[Cell, Path]]) -> dict[str, Path]:
    """The projection of each label: finetune makes one, under the name of its first task."""
    files: dict[str, Path] = {}
    for cell, folder in homes:
        name = projection_name(cell.label, cell.checkpoint.weights_sha256, cell.task)
        file = folder / "projections" / f"{name}.csv"
        if cell.label not in files and file.is_file():
            files[cell.label] = file
    return files
