"""Pictures of results, as PNG: gains with their intervals, losses, confusion matrices."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pipeline.columns import Record
from pipeline.comparison import Difference

DOTS_PER_INCH = 150


def gains(found: Mapping[str, Mapping[str, tuple[Difference, float]]], baseline: str) -> bytes:
    """A forest plot: each encoder's gain over the baseline with its interval.

    Args:
        found: task → encoder → difference and the factor by which it is shown.
        baseline: name of the encoder compared with.
    """
    names = list(dict.fromkeys(name for of_task in found.values() for name in of_task))
    colours = _colours(len(names))
    rows = sum(len(of_task) for of_task in found.values())
    figure = Figure(figsize=(7, 1.2 + 0.28 * rows + 0.25 * len(found)))
    axes = figure.add_subplot()
    height, ticks, labels = 0.0, [], []
    for task, of_task in found.items():
        ticks.append(-(height + (len(of_task) - 1) / 2))
        labels.append(_plain(task))
        for name, (one, scale) in of_task.items():
            colour = colours[names.index(name)]
            ends = [one.low * scale, one.high * scale]
            axes.plot(ends, [-height, -height], color=colour, linewidth=2)
            axes.plot(
                one.mean * scale,
                -height,
                "o",
                color=colour,
                markerfacecolor=colour if one.beyond_noise else "white",
            )
            height += 1
        height += 0.8
    for name, colour in zip(names, colours, strict=True):
        axes.plot([], [], "o-", color=colour, label=_plain(name))
    axes.axvline(0, color="0.4", linewidth=1)
    axes.set_yticks(ticks, labels)
    axes.set_xlabel(f"gain over {_plain(baseline)} in points, 95 % interval (hollow: noise)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
    return _png(figure)


def losses(records: Sequence[Record]) -> bytes:
    """Training losses by step, a panel a task; a thin line a seed."""
    tasks = list(dict.fromkeys(record["task"] for record in records))
    labels = list(dict.fromkeys(record["checkpoint"]["label"] for record in records))
    colours = _colours(len(labels))
    across = min(3, len(tasks))
    down = -(-len(tasks) // across)
    figure = Figure(figsize=(3.2 * across, 2.6 * down))
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, task in zip(panels, tasks, strict=False):
        for record in records:
            if record["task"] == task:
                label = record["checkpoint"]["label"]
                axes.plot(
                    [point["step"] for point in record["curve"]],
                    [point["loss"] for point in record["curve"]],
                    color=colours[labels.index(label)],
                    linewidth=0.8,
                )
        axes.set_title(_plain(task), fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    for label, colour in zip(labels, colours, strict=True):
        panels[0].plot([], [], color=colour, label=_plain(label))
    panels[0].legend(fontsize=7)
    panels[0].set_ylabel("training loss", fontsize=8)
    return _png(figure)


def confusions(matrices: Mapping[str, Any], outputs: Sequence[str]) -> bytes:
    """Confusion matrices side by side, each row scaled to 1.

    Args:
        matrices: encoder → counts `[C, C]`, rows true classes, summed over seeds.
        outputs: names of the classes.
    """
    across = min(3, len(matrices))
    down = -(-len(matrices) // across)
    figure = Figure(figsize=(3.1 * across, 3.2 * down))
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, (name, counts) in zip(panels, matrices.items(), strict=False):
        counts_CC = np.asarray(counts, np.float64)
        share_CC = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1)
        axes.imshow(share_CC, vmin=0, vmax=1, cmap="Blues")
        for i, row in enumerate(share_CC):
            for j, share in enumerate(row):
                colour = "white" if share > 0.5 else "black"
                axes.text(
                    j, i, f"{100 * share:.0f}", ha="center", va="center", color=colour, size=7
                )
        ticks = range(len(outputs))
        axes.set_xticks(ticks, map(_plain, outputs), fontsize=7, rotation=45, ha="right")
        axes.set_yticks(ticks, map(_plain, outputs), fontsize=7)
        axes.set_title(_plain(name), fontsize=9)
        axes.set_xlabel("predicted", fontsize=8)
    for axes in panels[len(matrices) :]:
        axes.set_axis_off()
    panels[0].set_ylabel("true (each row adds up to 100 %)", fontsize=8)
    return _png(figure)


def planes(points: Mapping[str, tuple[Any, Sequence[float], float]]) -> bytes:
    """Texts on the plane in which an encoder's vectors differ most, coloured by their label.

    Args:
        points: encoder → coordinates `[n, 2]`, a number for each text, share of the variance.
    """
    across = min(3, len(points))
    down = -(-len(points) // across)
    figure = Figure(figsize=(3.2 * across, 3.1 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, (name, (points_n2, values, share)) in zip(panels, points.items(), strict=False):
        drawn = axes.scatter(*np.asarray(points_n2).T, c=values, s=3, cmap="coolwarm", alpha=0.7)
        axes.set_title(f"{_plain(name)}\n{100 * share:.0f} % of the variance", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        figure.colorbar(drawn, ax=axes, shrink=0.7)
    for axes in panels[len(points) :]:
        axes.set_axis_off()
    return _png(figure)


def _colours(count: int) -> list[Any]:
    palette = mpl.color_sequences["tab10"]
    return [palette[i % len(palette)] for i in range(count)]


def _plain(text: str) -> str:
    """A label in which `$` does not start a formula."""
    return text.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    return content.getvalue()
