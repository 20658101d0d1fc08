"""Pictures of results, as PNG: gains with their intervals, losses, confusion matrices, planes."""

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.finetuning.cells import Cell, Pretrained
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import Damaged
from pipeline.reports.comparison import Difference

DOTS_PER_INCH = 150
LETTER_INCHES = 0.07
"""Width of a letter of the names of classes beside a confusion matrix."""
LONGEST_NAME, LONGEST_LINE = 20, 36
"""Letters of the name of a class, and of a line above a panel."""


@dataclass(frozen=True)
class Look:
    """How an encoder is drawn in every picture."""

    colour: Any
    control: bool

    @property
    def line(self) -> Literal["-", "--"]:
        """Line style."""
        return "--" if self.control else "-"


Interval: TypeAlias = tuple[str, Difference, Look]
"""An encoder's name, its gain, and how it is drawn."""


def looks(encoders: Mapping[str, Pretrained]) -> dict[str, Look]:
    """A look for each encoder, by label: one colour per objective, which its controls share."""
    kinds = {label: encoder.objective or label for label, encoder in encoders.items()}
    order = list(dict.fromkeys(kinds.values()))
    palette = mpl.color_sequences["tab10"]
    return {
        label: Look(palette[order.index(kinds[label]) % len(palette)], encoder.is_control)
        for label, encoder in encoders.items()
    }


def gains(intervals: Mapping[str, Sequence[Interval]], baseline: str) -> bytes:
    """A forest plot: each encoder's gain over the baseline with its interval, a band per measure.

    Args:
        intervals: measure → encoders.
        baseline: name of the encoder that they are compared with.
    """
    rows = sum(map(len, intervals.values()))
    figure = Figure(figsize=(7, 1.2 + 0.2 * rows + 0.2 * len(intervals)), layout="constrained")
    axes = figure.add_subplot()
    height, ticks = 0.0, []
    legend: dict[str, Look] = {}
    for number, of_measure in enumerate(intervals.values()):
        top = height
        for name, one, look in of_measure:
            legend[name] = look
            scaled = [100 * x for x in (one.low, one.mean, one.high)]
            axes.plot(scaled[::2], [-height, -height], look.line, color=look.colour, linewidth=1.8)
            axes.plot(
                scaled[1],
                -height,
                "s" if look.control else "o",
                color=look.colour,
                markersize=5,
                markerfacecolor=look.colour if one.beyond_noise else "white",
            )
            height += 1
        ticks.append(-(top + height - 1) / 2)
        if number % 2 == 0:
            axes.axhspan(-top + 0.9, -height + 0.1, color="0.94", zorder=0, linewidth=0)
        height += 0.8
    axes.axvline(0, color="0.3", linewidth=1)
    axes.set_yticks(ticks, map(_plain, intervals))
    axes.set_ylim(-height + 0.8, 1)
    axes.set_xlabel(
        f"gain over {_plain(baseline)} in points, with its 95 % interval\n"
        "hollow: within the noise; square, broken line: control"
    )
    _legend(figure, legend)
    return _png(figure)


def losses(cells: Sequence[Cell], looks: Mapping[str, Look]) -> bytes:
    """Training losses by step, a panel per task; a thin line per seed, a thick one their mean."""
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    labels = list(dict.fromkeys(cell.label for cell in cells))
    figure, panels = _panels(len(tasks), 3.2, 2.4)
    for axes, task in zip(panels, tasks, strict=True):
        for label in labels:
            curves = [
                [(point["step"], point["loss"]) for point in cell.curve]
                for cell in cells
                if (cell.task, cell.label) == (task, label)
            ]
            look = looks[label]
            for curve in curves:
                axes.plot(*zip(*curve, strict=True), color=look.colour, linewidth=0.5, alpha=0.3)
            if curves and len({len(curve) for curve in curves}) == 1:
                mean = np.mean(curves, 0).T
                axes.plot(*mean, look.line, color=look.colour, linewidth=1.3)
        axes.set_title(_plain(task), fontsize=9)
        axes.tick_params(labelsize=7)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("training loss", fontsize=9)
    _legend(figure, {label: looks[label] for label in labels})
    return _png(figure)


def confusions(matrices: Mapping[str, Any], outputs: Sequence[str]) -> bytes:
    """Confusion matrices side by side, each row scaled to 100 %.

    Args:
        matrices: encoder → counts `[C, C]`, rows true classes, summed over seeds.
        outputs: names of the classes.
    """
    side = max(1.9, 0.42 * len(outputs))
    names = [_short(output) for output in outputs]
    slant = _slant(names, side)
    margin = max(map(len, names)) * LETTER_INCHES if slant else 0
    figure, panels = _panels(
        len(matrices), side + 0.4 + margin, side + 0.5 + margin, most=4 if side < 2 else 3
    )
    for axes, (name, counts) in zip(panels, matrices.items(), strict=True):
        counts_CC = np.asarray(counts, np.float64)
        share_CC = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1)
        axes.imshow(share_CC, vmin=0, vmax=1, cmap="Blues")
        for i, row in enumerate(share_CC):
            for j, share in enumerate(row):
                colour = "white" if share > 0.5 else "black"
                axes.text(
                    j, i, f"{100 * share:.0f}", ha="center", va="center", color=colour, size=7
                )
        axes.set_xticks(range(len(outputs)), names, fontsize=7, **slant)
        axes.set_yticks(range(len(outputs)), names, fontsize=7)
        axes.set_title(_broken(name), fontsize=8)
    figure.supxlabel("predicted", fontsize=9)
    figure.supylabel("true; each row adds up to 100 %", fontsize=9)
    return _png(figure)


def read_projection(path: Path) -> tuple[Array, list[str], float]:
    """Where an encoder's vectors of the test texts lie on a plane, from a results folder.

    Returns:
        The coordinates `[n, 2]`, the label of each text, and the share of the variance.

    Raises:
        SpeechkdError: the file is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        points_n2 = np.array([[float(row["x"]), float(row["y"])] for row in rows])
        return points_n2, [row["raw"] for row in rows], float(rows[0]["variance_share"])
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise Damaged(f"{path} is not a projection ({error!r}); remove it.") from None


def projections(paths: Mapping[str, Path]) -> bytes | None:
    """The planes of several encoders side by side, coloured by label; None without labels.

    Args:
        paths: encoder → its projection.

    Raises:
        SpeechkdError: a file is damaged.
    """
    planes_by_name = {name: read_projection(path) for name, path in paths.items()}
    labelled = {name: plane for name, plane in planes_by_name.items() if any(plane[1])}
    if not labelled:
        return None
    labels = [label for _, raw, _ in labelled.values() for label in raw]
    try:
        kinds: list[str] = []
        number = {label: float(label) for label in labels}
    except ValueError:
        kinds = sorted(set(labels))
        number = {kind: float(place) for place, kind in enumerate(kinds)}
    points = {
        name: (points_n2, [number[label] for label in raw], share)
        for name, (points_n2, raw, share) in labelled.items()
    }
    return planes(points, kinds)


def planes(
    points: Mapping[str, tuple[Any, Sequence[float], float]], kinds: Sequence[str] = ()
) -> bytes:
    """Texts on the plane in which an encoder's vectors differ most, coloured by their label.

    Args:
        points: encoder → coordinates `[n, 2]`, a number per text, share of the variance.
        kinds: what the numbers 0, 1, … stand for; empty if they are a quantity.
    """
    figure, panels = _panels(len(points), 3.0, 2.9)
    values = np.concatenate([np.asarray(one[1]) for one in points.values()])
    for axes, (name, (points_n2, numbers, share)) in zip(panels, points.items(), strict=True):
        dots = axes.scatter(
            *np.asarray(points_n2).T,
            c=numbers,
            s=3,
            cmap="coolwarm",
            alpha=0.7,
            linewidths=0,
            vmin=values.min(),
            vmax=values.max(),
        )
        axes.set_title(f"{_broken(name)}\n{100 * share:.0f} % of the variance", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
    bar = figure.colorbar(dots, ax=panels, location="bottom", shrink=0.5, aspect=40)
    bar.set_label("label", fontsize=8)
    if kinds:
        names = [_short(kind) for kind in kinds]
        width = figure.get_figwidth() / 2
        bar.set_ticks(range(len(kinds)), labels=names, fontsize=7, **_slant(names, width))
    return _png(figure)


def _panels(count: int, width: float, height: float, most: int = 3) -> tuple[Figure, list[Any]]:
    """A figure of `count` panels, at most `most` across, of a size in inches each."""
    across = min(most, count)
    down = -(-count // across)
    figure = Figure(figsize=(width * across, height * down + 0.5), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten().tolist()
    for spare in panels[count:]:
        spare.remove()
    return figure, panels[:count]


def _legend(figure: Figure, looks: Mapping[str, Look]) -> None:
    lines = [
        Line2D([], [], color=look.colour, linestyle=look.line, label=_plain(name))
        for name, look in looks.items()
    ]
    figure.legend(handles=lines, loc="outside upper center", ncols=min(3, len(lines)), fontsize=8)


def _broken(name: str) -> str:
    """A name whose remark in brackets has a line of its own; longer lines are broken, too."""
    lines = _plain(name).replace(" (", "\n(").split("\n")
    return "\n".join(textwrap.fill(line, LONGEST_LINE) for line in lines)


def _slant(names: Sequence[str], inches: float) -> dict[str, Any]:
    """How to write names under an axis of this width: aslant if they would overlap."""
    overlap = max(map(len, names)) * LETTER_INCHES > inches / len(names)
    return {"rotation": 45, "ha": "right"} if overlap else {}


def _short(name: str) -> str:
    """The name of a class without its middle, if it is too long to stand beside a matrix."""
    half = LONGEST_NAME // 2
    return _plain(name if len(name) <= LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}")


def _plain(text: str) -> str:
    """A label in which `$` does not start a formula."""
    return text.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    return content.getvalue()
