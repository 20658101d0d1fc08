"""The results folder: one file per finished cell, its predictions, and `results.jsonl` of all.

A cell's own file is written last and whole, and proves that the cell is done. After each cell
`results.jsonl` is written again from those files, under a lock. So any number of processes may
write at once, and a kill leaves no torn file.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.finetuning.cells import FORMAT, Cell
from pipeline.finetuning.text_form import AS_IS
from pipeline.foundation.arrays import Array
from pipeline.foundation.atomic import locked, remove_leftovers, write_json, write_text
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.foundation.untrusted import file_part, parse_json, read_text_file
from pipeline.tasks.task import Task

RESULTS = "results.json"
ASKED = "asked.json"
TEACHER = "teacher"
"""Name of the teacher's projection; an encoder's is label, digest, task."""


class Results:
    """A results folder, bound to one data set, one split and one recipe.

    Args:
        folder: where it is or shall be.
        fixed: what must be the same for every cell in it, as plain JSON values by name.
        provenance: that of the command that creates the folder; stored beside `fixed`.

    Raises:
        SpeechkdError: the folder was made with another data set or recipe; both are shown.
    """

    def __init__(
        self, folder: Path, fixed: Mapping[str, Any], provenance: Mapping[str, Any]
    ) -> None:
        self.folder, self._fixed = folder, fixed
        self._path = path = folder / RESULTS
        _check_kind(folder)  # before a lock is made in it
        with _locked(folder):
            _check_kind(folder)
            if not path.exists() or (not cell_files(self.folder) and _differing(path, fixed)):
                for stale in (folder / ASKED, *(folder / "projections").glob("*.csv")):
                    stale.unlink(missing_ok=True)
                write_json(path, {"format": FORMAT, **fixed, "created_by": provenance})
        _check_same(path, fixed)
        for part in (folder, *(folder / name for name in ("cells", "predictions", "projections"))):
            remove_leftovers(part)

    def finished(self, cell: str) -> bool:
        """Whether the cell's record and its predictions are there."""
        return self._cell(cell).is_file() and self._predictions(cell).is_file()

    def ask(self, cells: Iterable[tuple[str, str, int]]) -> None:
        """Note label, task and seed of cells to be run, so that a report can list missing ones."""
        with _locked(self.folder):
            asked = sorted({*read_asked(self.folder), *cells})
            write_json(self.folder / ASKED, asked, indent=None)

    def check_weights(self, label: str, weights_sha256: str) -> None:
        """Refuse a checkpoint whose label stands here for other weights.

        Raises:
            SpeechkdError: it does; both digests are shown.
        """
        for cell in self.cells():
            there = cell.checkpoint
            if there.label == label and there.weights_sha256 != weights_sha256:
                raise SpeechkdError(
                    f"{self.folder} has cells of checkpoint {label} with other weights (sha256 "
                    f"{there.weights_sha256[:12]} there, {weights_sha256[:12]} now). Their mean "
                    "would mix two encoders: use another --out, or write one as NAME=PATH."
                )

    def add(self, cell: Cell, predictions: str) -> None:
        """Write a finished cell: its predictions, then its record, then `results.jsonl`.

        Raises:
            SpeechkdError: another command has meanwhile begun other results here.
        """
        _check_same(self._path, self._fixed)
        write_text(self._predictions(cell.name), predictions)
        write_json(self._cell(cell.name), cell.record())
        self.collect()

    def has_projection(self, name: str) -> bool:
        """Whether the projection of that name is there already."""
        return (self.folder / "projections" / f"{name}.csv").is_file()

    def add_projection(
        self, name: str, ids: Sequence[str], raw: Sequence[str], points_n2: Array, share: float
    ) -> None:
        """Write where each test example lies on the plane, with its label as text.

        Args:
            name: of the projection.
            ids: of the examples.
            raw: their labels, as text.
            points_n2: where they lie.
            share: the plane's share of the variance.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "raw", "x", "y", "variance_share"])
        for row in zip(ids, raw, points_n2.tolist(), strict=True):
            writer.writerow([row[0], row[1], *(f"{v:.6g}" for v in row[2]), f"{share:.4f}"])
        write_text(self.folder / "projections" / f"{name}.csv", text.getvalue())

    def collect(self) -> None:
        """Write `results.jsonl` again from the finished cells."""
        with _locked(self.folder):
            lines = [json.dumps(cell.record(), allow_nan=False) + "\n" for cell in self.cells()]
            write_text(self.folder / "results.jsonl", "".join(lines))

    def cells(self) -> list[Cell]:
        """Every finished cell, in the order of their names.

        Raises:
            SpeechkdError: a cell's file is damaged.
        """
        remedy = "remove that file and run again"
        paths = cell_files(self.folder)
        return [Cell.from_record(read_json(path), str(path), remedy) for path in paths]

    def _cell(self, cell: str) -> Path:
        return self.folder / "cells" / f"{cell}.json"

    def _predictions(self, cell: str) -> Path:
        return self.folder / "predictions" / f"{cell}.csv"


def cell_name(label: str, weights_sha256: str, task: str, seed: int, fold: str = "") -> str:
    """Name of a cell, safe as a file name whatever checkpoint, task and fold are called."""
    part = f"-fold-{file_part(fold)}" if fold else ""
    return f"{projection_name(label, weights_sha256, task)}{part}-seed{seed}"


def projection_name(label: str, weights_sha256: str, task: str) -> str:
    """Name of an encoder's projection for a task, safe as a file name."""
    return f"{file_part(label)}-{weights_sha256[:8]}-{file_part(task)}"


def prediction_table(
    task: Task,
    ids: Sequence[str],
    groups: Sequence[str],
    raw: Sequence[str],
    labels: Array,
    scores_nO: Array,
    others: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Predictions of a cell as CSV text, from which every metric can be recomputed.

    Columns: `id`, `group` (the video), `raw` (the label before it became a class), `label`,
    `prediction`, and `score:<output>` per output of the head. With several flags there are
    `label:…` and `prediction:…` per flag. Numbers have enough digits to restore float32 exactly.
    `others` are further columns, which stand last; of words these are `text` (the text's id),
    `word`, and `prior` (what the word alone tells, as log-odds over its threshold). Of spans there
    are `raw` (the true answers, `start end` in seconds, with `;` between them), the outputs of
    `pipeline.tasks.spans.overlap`, `passage`, and `seconds` (its length), and no `label`.
    """
    if task.kind == "speaker":
        return _vector_table(ids, groups, raw, labels, scores_nO)
    if task.kind == "spans":
        return _span_table(task, ids, groups, raw, scores_nO, others or {})
    others = others or {}
    predictions = task.decide(scores_nO)
    many = task.kind == "flags"
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = [f":{name}" for name in task.outputs] if many else [""]
    writer.writerow(
        ["id", "group", "raw"]
        + [f"{column}{name}" for column in ("label", "prediction") for name in names]
        + [f"score:{name}" for name in task.outputs]
        + list(others)
    )
    for i in range(len(ids)):
        label, prediction = labels[i], predictions[i]
        values = [*label, *prediction] if many else [label, prediction]
        writer.writerow(
            [ids[i], groups[i], raw[i]]
            + [_exact(value) for value in values]
            + [_exact(value) for value in scores_nO[i]]
            + [column[i] for column in others.values()]
        )
    return text.getvalue()


def _vector_table(
    ids: Sequence[str],
    groups: Sequence[str],
    raw: Sequence[str],
    labels_n2: Array,
    vectors_nD: Array,
) -> str:
    """Vectors of a cell of speakers as CSV text.

    Columns: `id`, `group` (the recording), `raw` (the speaker), `label` (its number), `recording`
    (its number), and `vector:…` per dimension.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    vectors = [f"vector:{place}" for place in range(vectors_nD.shape[1])]
    writer.writerow(["id", "group", "raw", "label", "recording", *vectors])
    for i, vector_D in enumerate(vectors_nD.tolist()):
        own = [ids[i], groups[i], raw[i], *labels_n2[i].tolist()]
        writer.writerow([*own, *(f"{value:.9g}" for value in vector_D)])
    return text.getvalue()


def _span_table(
    task: Task,
    ids: Sequence[str],
    groups: Sequence[str],
    raw: Sequence[str],
    outputs_nO: Array,
    others: Mapping[str, Sequence[str]],
) -> str:
    """Answers to questions about passages as CSV text: a row per question."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "group", "raw", *task.outputs, *others])
    for i, outputs_O in enumerate(outputs_nO):
        own = [ids[i], groups[i], raw[i], *map(_exact, outputs_O)]
        writer.writerow([*own, *(column[i] for column in others.values())])
    return text.getvalue()


def _exact(value: Any) -> str:
    return str(value.item()) if value.dtype.kind in "iub" else f"{float(value):.9g}"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that this project wrote.

    Raises:
        SpeechkdError: it is damaged.
    """
    try:
        content = parse_json(read_text_file(path))
    except ValueError as error:
        raise Damaged(f"{path} is damaged ({error}); remove it and run again.") from None
    if not isinstance(content, dict):
        raise Damaged(f"{path} is damaged (no JSON object); remove it and run again.")
    return content


def cell_files(folder: Path) -> list[Path]:
    """Files of the finished cells of a results folder, without hidden ones that others leave."""
    return sorted(p for p in (folder / "cells").glob("*.json") if not p.name.startswith("."))


def check_results(folder: Path, fixed: Mapping[str, Any]) -> None:
    """Refuse a folder to which results of these settings cannot be added; it may be absent.

    Raises:
        SpeechkdError: it holds something else, or finished cells of other settings.
    """
    _check_kind(folder)
    if cell_files(folder):
        _check_same(folder / RESULTS, fixed)


def read_asked(folder: Path) -> list[tuple[str, str, int]]:
    """Label, task and seed of every cell that some command was to run; none without the file.

    Raises:
        SpeechkdError: the file is damaged.
    """
    path = folder / ASKED
    try:
        cells = parse_json(read_text_file(path))
        if not all([type(part) for part in cell] == [str, str, int] for cell in cells):
            raise ValueError("not a list of label, task and seed")
        return [tuple(cell) for cell in cells]
    except FileNotFoundError:
        return []
    except (TypeError, ValueError) as error:
        raise Damaged(f"{path} is damaged ({error}); remove it: finetune writes it anew.") from None


def _check_kind(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise SpeechkdError(f"--out {folder} is a file; name a folder.")
    if folder.exists() and not (folder / RESULTS).exists():
        others = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
        if others:
            raise SpeechkdError(
                f"{folder} is not empty and not a results folder (it holds "
                f"{', '.join(sorted(others)[:3])}); name a new folder with --out."
            )


def _check_same(path: Path, fixed: Mapping[str, Any]) -> None:
    if differing := _differing(path, fixed):
        raise SpeechkdError(
            f"{path.parent} holds results of another recipe or data set, and one table must not "
            f"mix them ({'; '.join(differing)}). Use another --out, or the same settings."
        )


def settled(fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What a results folder is bound to, with what folders of earlier versions do not say."""
    recipe = fixed.get("recipe")
    if not isinstance(recipe, dict):
        return dict(fixed)
    return {
        **fixed,
        "recipe": {
            "text_form": AS_IS,
            "class_weights": "none",
            "schedule": "linear",
            "value_scale": "raw",
            **recipe,
        },
    }


def _differing(path: Path, fixed: Mapping[str, Any]) -> list[str]:
    there = settled(read_json(path))
    now = settled(json.loads(json.dumps(fixed)))
    return [
        f"{name}: {_short(old)} there, {_short(new)} now"
        for name, old, new in _differences({k: there.get(k) for k in now}, now)
    ]


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "…"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        yield
