"""What must stand beside an accuracy: its classes one by one, and what is taken for what.

Shapes: C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.finetuning.cells import Cell
from pipeline.foundation.arrays import Array
from pipeline.foundation.untrusted import file_part
from pipeline.reports import figures
from pipeline.reports.formats import NOTHING
from pipeline.reports.lettering import key
from pipeline.reports.page import Section
from pipeline.reports.tables import CONSTANT, encoders_of, row_name, selected_on_test

MOST_ACROSS = 20
"""Classes that may stand side by side, as columns of a table and with figures in a matrix; more of
them stand one below the other."""
MOST_CONFUSED = 10
"""Confusions of an encoder that are named, where there are many classes."""
WITHOUT_ACCURACY = ("value", "speaker", "spans")
KEYS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
}


def classifications(cells: Sequence[Cell]) -> Iterator[tuple[str, str, list[Cell]]]:
    """Everything with an accuracy: its task, its flag if that has several, its cells."""
    for task in dict.fromkeys(cell.task for cell in cells if cell.kind not in WITHOUT_ACCURACY):
        mine = [cell for cell in cells if cell.task == task]
        for flag in mine[0].outputs if mine[0].kind == "flags" else ("",):
            yield task, flag, mine


def metrics_of(cell: Cell, flag: str) -> Mapping[str, Any]:
    """The figures of a cell, or of one of its flags."""
    metrics: Mapping[str, Any] = cell.metrics
    return metrics["flags"][flag] if flag else metrics


def details(cells: Sequence[Cell]) -> list[Section]:
    """Sections on every task, and every flag of a task, that has an accuracy."""
    sections: list[Section] = []
    for task, flag, mine in classifications(cells):
        title = f"{task}: {flag}" if flag else task
        outputs = ("absent", "present") if flag else mine[0].outputs
        sections += _detail(title, mine, flag, outputs)
    return sections


def _detail(title: str, cells: Sequence[Cell], flag: str, outputs: Sequence[str]) -> list[Section]:
    first = metrics_of(cells[0], flag)
    support_C = np.sum(first["confusion"], 1)
    occurring = int(np.count_nonzero(support_C))
    across = len(outputs) <= MOST_ACROSS
    head = ["model", *KEYS.values(), *(f"recall {output}" for output in outputs if across)]
    majority = f"{100 * first['majority_rate']:.2f}"
    rows = [head, [CONSTANT, majority, *[NOTHING] * (len(head) - 2)]]
    recalls: dict[str, list[str]] = {}
    matrices: dict[str, Array] = {}
    for label, encoder in encoders_of(cells).items():
        mine = [metrics_of(cell, flag) for cell in cells if cell.label == label]
        means = [f"{100 * float(np.mean([m[key] for m in mine])):.2f}" for key in KEYS]
        name = row_name(encoder)
        recalls[name] = [
            NOTHING if None in values else f"{100 * np.mean(values):.1f}"
            for values in zip(*(m["recall"] for m in mine), strict=True)
        ]
        rows.append([name, *means, *(recalls[name] if across else ())])
        matrices[name] = np.sum([m["confusion"] for m in mine], 0)
    text = [
        "Means over seeds, in %. If the accuracy is near that of the best constant answer and the "
        f"balanced accuracy near {100 / occurring:.1f}, a constant answer does as well."
    ]
    if not across:
        text.append(
            f"The {len(outputs)} classes are numbered in the picture as in the table of classes "
            "below it."
        )
    sections = [
        Section(
            f"{title}: beside the accuracy{selected_on_test(cells)}",
            (*text, *key(outputs, "class")),
            tuple(map(tuple, rows)),
            picture=(
                f"confusion-{file_part(title)}",
                figures.confusions(matrices, outputs, with_figures=across),
            ),
            folded=True,
        )
    ]
    if not across:
        sections.append(_classes(title, outputs, support_C, recalls))
        sections.append(_confused(title, outputs, matrices))
    return sections


def _classes(
    title: str, outputs: Sequence[str], support_C: Array, recalls: Mapping[str, Sequence[str]]
) -> Section:
    """A row per class."""
    rows = [["number", "class", "test clips", *(f"recall {name}" for name in recalls)]]
    for place, output in enumerate(outputs):
        mine = [values[place] for values in recalls.values()]
        rows.append([str(place + 1), output, f"{support_C[place]:,}", *mine])
    text = "Recall in %, mean over seeds."
    return Section(f"{title}: its classes", (text,), tuple(map(tuple, rows)), folded=True)


def _confused(title: str, outputs: Sequence[str], matrices: Mapping[str, Array]) -> Section:
    """The pairs of classes that are confused most often, by encoder."""
    rows = [["model", "true class", "is taken for", "in % of its clips", "clips, all seeds"]]
    for name, counts in matrices.items():
        wrong_CC = np.array(counts)
        support_C = wrong_CC.sum(1)
        np.fill_diagonal(wrong_CC, 0)
        order = np.argsort(-wrong_CC, axis=None, kind="stable")[:MOST_CONFUSED]
        for true, taken in zip(*np.unravel_index(order, wrong_CC.shape), strict=True):
            if count := int(wrong_CC[true, taken]):
                share = f"{100 * count / support_C[true]:.1f}"
                rows.append([name, outputs[true], outputs[taken], share, f"{count:,}"])
    text = f"The {MOST_CONFUSED} most frequent confusions of each encoder."
    return Section(f"{title}: what is confused", (text,), tuple(map(tuple, rows)), folded=True)
