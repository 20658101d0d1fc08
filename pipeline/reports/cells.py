"""The finished cells of results folders, as a report reads them: whoever wrote the folders."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.finetuning.results import (
    FORMAT,
    RESULTS,
    TEACHER,
    projection_name,
    read_asked,
    read_json,
)
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.tasks.mosei.questions import TASKS


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read the finished cells of a results folder from its `results.jsonl`.

    Raises:
        SpeechkdError: there is none, it is empty, or a line is not a cell's record.
    """
    path = folder / "results.jsonl"
    try:
        lines = read_text_file(path).splitlines()
    except UnicodeDecodeError as error:
        raise SpeechkdError(f"{path} is not UTF-8 text ({error}).") from None
    except FileNotFoundError:
        raise SpeechkdError(
            f"{path}: there is no such file; `speechkd finetune … --out {folder}` makes it."
        ) from None
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line)
        except ValueError as error:
            raise SpeechkdError(f"{path}, line {number}: not JSON ({error}).") from None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise SpeechkdError(
                f"{path}, line {number}: not a cell of format {FORMAT}; it was written by another "
                "version of speechkd."
            )
        records.append(record)
    if not records:
        raise SpeechkdError(f"{path} is empty: no cell has finished yet.")
    return records


_KINDS: dict[str, type] = {
    **dict.fromkeys(("task", "kind", "definition", "predictions"), str),
    **dict.fromkeys(("checkpoint", "metrics", "splits", "recipe"), dict),
    **dict.fromkeys(("outputs", "curve"), list),
    "seed": int,
}


def _fault(record: Mapping[str, Any]) -> str:
    """What keeps a record from being a cell's; the folder may be somebody else's."""
    for name, kind in _KINDS.items():
        if type(record.get(name)) is not kind:
            return f"{name} is no {kind.__name__}"
    for name in ("label", "weights_sha256"):
        if type(record["checkpoint"].get(name)) is not str:
            return f"checkpoint.{name} is no text"
    if Path(record["predictions"]).parts[:-1] != ("predictions",):
        return f"predictions are not in the folder of that name: {record['predictions']!r}"
    return ""


@dataclass(frozen=True)
class Folder:
    """Finished cells of one recipe on one data set and split, from one or more folders.

    Attributes:
        key: short name for files where there are several; else empty.
        name: what to call them: the folders as given.
        short: the same wherever the folders lie: their own names, numbered where there are several.
        records: the finished cells.
        paths: the predictions file of each cell, in the same order.
        projections: where each encoder's vectors lie on a plane, by label: the file.
        teacher: the same of the teacher, where some command was given its cache.
        missing: label, task and seed of cells that were asked for and are not finished; None in
            folders of older versions, which do not know.
    """

    key: str
    name: str
    short: str
    records: tuple[dict[str, Any], ...]
    paths: tuple[Path, ...]
    projections: dict[str, Path]
    teacher: Path | None
    missing: tuple[tuple[str, str, int], ...] | None


def read_folders(folders: Sequence[Path]) -> list[Folder]:
    """Read results folders and put those together that may stand in one table.

    Raises:
        SpeechkdError: a folder is no results folder, or one label stands for different weights.
    """
    together: dict[str, list[Path]] = {}
    results: dict[Path, list[dict[str, Any]]] = {}
    for folder in folders:
        results[folder] = read_results(folder)
        settings = read_json(folder / RESULTS)
        fixed = {k: v for k, v in settings.items() if k not in ("format", "created_by")}
        together.setdefault(json.dumps(fixed, sort_keys=True), []).append(folder)
    made = []
    for number, group in enumerate(together.values(), start=1):
        cells: dict[tuple[str, str, int], tuple[dict[str, Any], Path]] = {}
        weights: dict[str, str] = {}
        for folder in group:
            for record in results[folder]:
                if fault := _fault(record):
                    raise SpeechkdError(
                        f"{folder / 'results.jsonl'} holds what is no record of a cell ({fault})."
                    )
                label, digest = (record["checkpoint"][k] for k in ("label", "weights_sha256"))
                if weights.setdefault(label, digest) != digest:
                    raise SpeechkdError(
                        f"{label} stands for weights of sha256 {weights[label][:12]} and of "
                        f"{digest[:12]} in {', '.join(map(str, group))}; report them apart."
                    )
                cells.setdefault(
                    (label, record["task"], record["seed"]),
                    (record, folder / record["predictions"]),
                )
        places = {name: place for place, name in enumerate(TASKS)}
        order = sorted(cells, key=lambda cell: (places.get(cell[1], len(places)), *cell))
        records, paths = zip(*(cells[cell] for cell in order), strict=True)
        key = str(number) if len(together) > 1 else ""
        found: dict[str, Path] = {}
        for record, path in zip(records, paths, strict=True):
            checkpoint = record["checkpoint"]
            label = checkpoint["label"]
            name = projection_name(label, checkpoint["weights_sha256"], record["task"])
            file = path.parent.parent / "projections" / f"{name}.csv"
            if label not in found and file.is_file():
                found[label] = file
        teachers = (folder / "projections" / f"{TEACHER}.csv" for folder in group)
        teacher = next((path for path in teachers if path.is_file()), None)
        asked = {cell for folder in group for cell in read_asked(folder)}
        missing = tuple(sorted(asked - set(cells))) if asked else None
        name = ", ".join(map(str, group))
        short = (f"{key}: " if key else "") + ", ".join(folder.resolve().name for folder in group)
        made.append(Folder(key, name, short, records, paths, found, teacher, missing))
    return made
