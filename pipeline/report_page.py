"""The report as a whole: sections of text, tables and pictures, as Markdown and as one page.

Everything comes from the finished cells and their predictions. Whatever is shown was written by
others (labels, paths, classes), so every piece of text is escaped.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline import figures, projections
from pipeline.columns import Record
from pipeline.comparison import Difference, Predictions, difference, read_predictions, told
from pipeline.metrics import DEFINITIONS
from pipeline.report import ordered, row_name, split_origin, tables, to_markdown
from pipeline.results import Folder

MEASURES = {"classes": ("accuracy",), "flags": ("accuracy",), "value": ("mae", "pearson")}
UNITS = {
    "accuracy": ("points of accuracy", 100),
    "mae": ("of MAE", 1),
    "pearson": ("points of r", 100),
}


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        title: its heading.
        text: paragraphs.
        grid: a table of text, with a head.
        notes: small print under it.
        picture: name and content of a PNG.
    """

    title: str
    text: tuple[str, ...] = ()
    grid: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    picture: tuple[str, bytes] | None = field(default=None, repr=False)


def sections(folder: Folder) -> list[Section]:
    """Everything that is to be said of one set of results."""
    records = folder.records
    made = [_setting(folder)]
    made += [
        Section(table.title, grid=tuple(map(tuple, table.grid())), notes=table.notes)
        for table in tables(records, published=True)
    ]
    made += _conventions(records)
    made += _differences(folder)
    made += [_beside(records)] if any(r["kind"] != "value" for r in records) else []
    made += _confusions(records)
    names = {label: row_name(records, label) for label in folder.projections}
    shown = projections.picture({names[k]: path for k, path in folder.projections.items()})
    if shown:
        made.append(
            Section(
                "Where the encoders put the test texts, before fine-tuning",
                (
                    "Mean vectors of the texts on their first two principal components, coloured "
                    "by label. What is not seen on two components may still be there.",
                ),
                picture=("vectors", shown),
            )
        )
    curves = [record for record in ordered(records) if record["curve"]]
    if curves:
        made.append(Section("Training losses", picture=("losses", figures.losses(curves))))
    return [_named(section, folder.key) for section in made]


def _named(section: Section, key: str) -> Section:
    if not (key and section.picture):
        return section
    return replace(section, picture=(f"{key}-{section.picture[0]}", section.picture[1]))


def _setting(folder: Folder) -> Section:
    first = folder.records[0]
    rows = [["", "value"]]
    rows += [[f"recipe: {key}", str(value)] for key, value in first["recipe"].items()]
    rows.append(["split", split_origin(first) or "the data's own, or that of --folds"])
    for task in dict.fromkeys(record["task"] for record in folder.records):
        record = next(r for r in folder.records if r["task"] == task)
        sizes = ", ".join(f"{split} {n:,}" for split, n in record["splits"].items())
        rows.append([f"{task}: clips", sizes])
        rows.append([f"{task}: convention", record["definition"]])
    for record in ordered(folder.records):
        checkpoint = record["checkpoint"]
        row = [
            f"encoder {checkpoint['label']}",
            f"{checkpoint['parameters']:,} parameters, weights sha256 "
            f"{checkpoint['weights_sha256'][:12]}",
        ]
        if row not in rows:
            rows.append(row)
    return Section(f"What was run: {folder.name}", grid=tuple(map(tuple, rows)))


def _beside(records: Sequence[Record]) -> Section:
    """What must stand beside an accuracy to read it: majority rate, balanced accuracy, F1."""
    rows = [["model", "task", "accuracy", "majority", "balanced", "weighted F1", "recall a class"]]
    for label in dict.fromkeys(r["checkpoint"]["label"] for r in ordered(records)):
        for task in dict.fromkeys(r["task"] for r in records if r["kind"] != "value"):
            cells = [r for r in records if r["checkpoint"]["label"] == label and r["task"] == task]
            name = row_name(records, label)
            if not cells:
                rows.append([name, task, *["–"] * 5])
            elif cells[0]["kind"] == "classes":
                outputs = cells[0]["outputs"]
                rows.append([name, task, *_beside_one([c["metrics"] for c in cells], outputs)])
            else:
                for flag in cells[0]["outputs"]:
                    metrics = [cell["metrics"]["flags"][flag] for cell in cells]
                    told_ = _beside_one(metrics, ("absent", "present"))
                    rows.append([name, f"{task}: {flag}", *told_])
    return Section(
        "Beside each accuracy",
        (
            "Means over seeds, in %. An accuracy near the majority rate with a balanced accuracy "
            "near 1 / classes means that a constant answer does as well.",
        ),
        tuple(map(tuple, rows)),
    )


def _beside_one(metrics: Sequence[Mapping[str, Any]], outputs: Sequence[str]) -> list[str]:
    keys = ("accuracy", "majority_rate", "balanced_accuracy", "weighted_f1")
    shown = [f"{100 * np.mean([m[key] for m in metrics]):.2f}" for key in keys]
    recalls = [
        f"{name} {100 * np.mean(values):.0f}"
        for name, *values in zip(outputs, *(m["recall"] for m in metrics), strict=True)
        if None not in values
    ]
    return [*shown, ", ".join(recalls)]


def _conventions(records: Sequence[Record]) -> list[Section]:
    """One and the same regression under every class scheme: how far conventions alone go."""
    cells = [r for r in ordered(records) if r["metrics"].get("derived")]
    if not cells:
        return []
    labels = list(dict.fromkeys(r["checkpoint"]["label"] for r in cells))
    names = list(dict.fromkeys(name for r in cells for name in r["metrics"]["derived"]))
    rows = [["scheme/task", "convention", "constant", *(row_name(records, x) for x in labels)]]
    for name in names:
        derived = {
            label: [
                r["metrics"]["derived"][name] for r in cells if r["checkpoint"]["label"] == label
            ]
            for label in labels
        }
        constant = next(iter(derived.values()))[0]["majority_rate"]
        means = [np.mean([d["accuracy"] for d in values]) for values in derived.values()]
        shown = [f"{100 * value:.2f}" for value in (constant, *means)]
        rows.append([name, DEFINITIONS[name], *shown])
    text = (
        "Accuracies in %, means over seeds, all from the same predictions of the same regression: "
        "what differs between rows of one task is the convention alone."
    )
    return [Section("One regression under every convention", (text,), tuple(map(tuple, rows)))]


def _confusions(records: Sequence[Record]) -> list[Section]:
    made = []
    for task in dict.fromkeys(r["task"] for r in records if r["kind"] == "classes"):
        matrices: dict[str, Any] = {}
        for record in ordered(records):
            if record["task"] == task:
                name = row_name(records, record["checkpoint"]["label"])
                counts = np.asarray(record["metrics"]["confusion"])
                matrices[name] = matrices.get(name, 0) + counts
        outputs = next(r["outputs"] for r in records if r["task"] == task)
        picture = (f"confusion-{task}", figures.confusions(matrices, outputs))
        made.append(Section(f"Confusion matrices: {task}", picture=picture))
    return made


def _differences(folder: Folder) -> list[Section]:
    """Each encoder against masked-LM training alone, and against the control of its objective."""
    checkpoints = {r["checkpoint"]["label"]: r["checkpoint"] for r in ordered(folder.records)}
    baseline = next((k for k, c in checkpoints.items() if c["objective"] == "none"), None)
    title = "Differences between encoders"
    if baseline is None:
        reason = "There is no encoder trained with --kd none here, so no gain can be stated."
        return [Section(title, (reason,))]
    found: dict[str, dict[str, tuple[Difference, float]]] = {}
    sentences: list[str] = []
    for task in dict.fromkeys(r["task"] for r in folder.records):
        kind = next(r["kind"] for r in folder.records if r["task"] == task)
        cells = {label: _predictions(folder, label, task) for label in checkpoints}
        for measure in MEASURES[kind]:
            unit, scale = UNITS[measure]
            name = task if measure == "accuracy" else f"{task} ({'r' if scale > 1 else 'MAE'})"
            for label in checkpoints:
                if label == baseline:
                    continue
                gain = difference(cells[label], cells[baseline], measure)
                if gain is None:
                    sentences.append(f"{name}: {label} against {baseline}, no common figures.")
                    continue
                shown = f"{task} (MAE × 100)" if measure == "mae" else name
                found.setdefault(shown, {})[row_name(folder.records, label)] = (gain, 100)
                sentences.append(told(label, baseline, name, unit, gain, scale))
                for control in _controls(checkpoints, label):
                    over = difference(cells[label], cells[control], measure)
                    if over is None:
                        continue
                    said = told(label, control, name, unit, over, scale)
                    if gain.low > 0 >= over.low:
                        said += f" So its gain over {baseline} is not shown to be the teacher's."
                    sentences.append(f"Control: {said}")
    caution = (
        f"{sum(map(len, found.values()))} comparisons with 95 % intervals: about one in twenty "
        "leaves out zero by chance alone. Intervals are from a paired bootstrap over the test "
        "clips' videos and over fine-tuning seeds; each encoder was pre-trained once, so how much "
        "another pre-training seed would change is not in them; with fewer than five seeds they "
        "are too narrow. A gain that a control with "
        "shuffled or random teacher vectors also gives is not distillation."
    )
    controls = [label for label in checkpoints if _is_control(checkpoints[label])]
    if not controls:
        caution += " There is no such control among these encoders."
    picture = ("gains", figures.gains(found, baseline)) if found else None
    return [Section(title, (caution,), notes=tuple(sentences), picture=picture)]


def _is_control(checkpoint: Mapping[str, Any]) -> bool:
    return checkpoint.get("control") not in (None, "real")


def _controls(checkpoints: Mapping[str, Mapping[str, Any]], label: str) -> list[str]:
    mine = checkpoints[label]
    if mine["objective"] is None or _is_control(mine):
        return []
    return [
        other
        for other, c in checkpoints.items()
        if _is_control(c) and c["objective"] == mine["objective"]
    ]


def _predictions(folder: Folder, label: str, task: str) -> dict[int, Predictions]:
    return {
        record["seed"]: read_predictions(path, record["kind"], record["outputs"])
        for record, path in zip(folder.records, folder.paths, strict=True)
        if record["checkpoint"]["label"] == label and record["task"] == task
    }


def as_markdown(made: Sequence[Section]) -> str:
    """The report as Markdown; pictures by name, in `figures/`."""
    parts = ["# Results"]
    for section in made:
        parts.append(f"## {_one_line(section.title)}")
        parts += [_one_line(text) for text in section.text]
        if section.grid:
            parts.append(to_markdown(section.grid))
        if section.picture:
            parts.append(f"![{_one_line(section.title)}](figures/{section.picture[0]}.png)")
        if section.notes:
            parts.append("\n".join(f"- {_one_line(note)}" for note in section.notes))
    return "\n\n".join(parts) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;")


STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #8886; text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: Canvas; }
td:last-child { white-space: normal; }
img { max-width: 100%; height: auto; background: white; }
ul { padding-left: 1.2rem; } li { font-size: .9rem; }
"""


def as_html(made: Sequence[Section]) -> str:
    """The report as one HTML file that needs nothing else: no script, no network."""
    body = ["<h1>Results</h1>"]
    for section in made:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        body += [f"<p>{html.escape(text)}</p>" for text in section.text]
        if section.grid:
            head, *rows = section.grid
            cells = "".join(f"<th>{html.escape(text)}</th>" for text in head)
            lines = "".join(
                f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>\n"
                for row in rows
            )
            body.append(
                f'<div class="wide"><table><thead><tr>{cells}</tr></thead>\n'
                f"<tbody>{lines}</tbody></table></div>"
            )
        if section.picture:
            data = base64.b64encode(section.picture[1]).decode()
            alt = html.escape(section.title)
            body.append(f'<p><img alt="{alt}" src="data:image/png;base64,{data}"></p>')
        if section.notes:
            items = "".join(f"<li>{html.escape(note)}</li>\n" for note in section.notes)
            body.append(f"<ul>{items}</ul>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>Results</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )
