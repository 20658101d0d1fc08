"""Pictures of results, as PNG: gains with their intervals, losses, confusion matrices, planes."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from pipeline.finetuning.cells import Cell, Pretrained
from pipeline.foundation.arrays import Array
from pipeline.reports.comparison import Difference
from pipeline.reports.lettering import broken, families, is_drawable, short, shown

DOTS_PER_INCH = 150
LETTER_INCHES = 0.07
"""Width of a letter of the names of classes beside a confusion matrix."""
MOST_TICKS = 25
"""Numbers of classes beside a matrix of many."""
LINE_INCHES = 0.18
"""Height of a line of a legend."""
LONGEST_MEASURE, LONGEST_ENTRY = 40, 60
"""Letters of a measure's name beside the gains, and of an entry of a legend."""


@dataclass(frozen=True)
class Look:
    """How an encoder is drawn in every picture; its number stands for a name without letters."""

    colour: Any
    control: bool
    number: int = 0

    @property
    def line(self) -> Literal["-", "--"]:
        """Line style."""
        return "--" if self.control else "-"


Interval: TypeAlias = tuple[str, Difference, Look]
"""An encoder's name, its gain, and how it is drawn."""


def looks(encoders: Mapping[str, Pretrained]) -> dict[str, Look]:
    """A look for each encoder, by label: one colour per way of teaching, which its controls share.

    Students of other weights or sizes have colours of their own, as far as there are ten.
    """
    kinds = {
        label: (encoder.objective or label, str(encoder.teaching), encoder.parameters)
        for label, encoder in encoders.items()
    }
    order = list(dict.fromkeys(kinds.values()))
    palette = mpl.color_sequences["tab10"]
    return {
        label: Look(palette[order.index(kinds[label]) % len(palette)], encoder.is_control, number)
        for number, (label, encoder) in enumerate(encoders.items(), start=1)
    }


def gains(intervals: Mapping[str, Sequence[Interval]]) -> bytes:
    """A forest plot: the gain of each group of students over its equal without a teacher.

    Args:
        intervals: measure → groups, a band per measure.
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
    measures = shown(list(intervals), "measure")
    axes.set_yticks(ticks, [short(measure, LONGEST_MEASURE) for measure in measures])
    axes.set_ylim(-height + 0.8, 1)
    axes.set_xlabel(
        "gain over the same without a teacher in points, with its 95 % interval\n"
        "hollow: within the noise; square, broken line: control"
    )
    _legend(figure, legend)
    return png(figure, [*intervals, *legend])


def losses(cells: Sequence[Cell], looks: Mapping[str, Look]) -> bytes:
    """Training losses by step, a panel per task; a thin line per seed, a thick one their mean."""
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    labels = list(dict.fromkeys(cell.label for cell in cells))
    titles = dict(zip(tasks, shown(tasks, "task"), strict=True))
    figure, panels = panels_of(len(tasks), 3.2, 2.4)
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
        axes.set_title(broken(titles[task]), fontsize=9)
        axes.tick_params(labelsize=7)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("training loss", fontsize=9)
    _legend(figure, {label: looks[label] for label in labels})
    return png(figure, [*tasks, *labels])


def confusions(
    matrices: Mapping[str, Any], outputs: Sequence[str], *, with_figures: bool = True
) -> bytes:
    """Confusion matrices side by side, each row scaled to 100 %.

    Args:
        matrices: encoder → counts `[C, C]`, rows true classes, summed over seeds.
        outputs: names of the classes.
        with_figures: whether to write the shares and the names of the classes, for which there is
            room up to some twenty; without, the classes have numbers, from 1.
    """
    classes = len(outputs)
    side = max(1.9, 0.42 * classes) if with_figures else 4.0
    names = [short(name) for name in shown(outputs, "class")] if with_figures else []
    slant = _slant(names, side)
    margin = max(map(len, names)) * LETTER_INCHES if slant else 0
    figure, panels = panels_of(
        len(matrices), side + 0.4 + margin, side + 0.5 + margin, most=4 if side < 2 else 3
    )
    titles = shown(list(matrices), "encoder")
    for axes, title, counts in zip(panels, titles, matrices.values(), strict=True):
        counts_CC = np.asarray(counts, np.float64)
        share_CC = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1)
        axes.imshow(share_CC, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
        if with_figures:
            _write_shares(axes, share_CC)
            axes.set_xticks(range(classes), names, fontsize=7, **slant)
            axes.set_yticks(range(classes), names, fontsize=7)
        else:
            step = -(-classes // MOST_TICKS)
            ticks = range(0, classes, step)
            axes.set_xticks(ticks, [str(place + 1) for place in ticks], fontsize=6, rotation=90)
            axes.set_yticks(ticks, [str(place + 1) for place in ticks], fontsize=6)
        axes.set_title(broken(title), fontsize=8)
    number = "" if with_figures else ", number of the class"
    figure.supxlabel(f"predicted{number}", fontsize=9)
    figure.supylabel(f"true{number}; each row adds up to 100 %", fontsize=9)
    return png(figure, [*matrices, *(outputs if with_figures else ())])


def _write_shares(axes: Any, share_CC: Array) -> None:
    for (i, j), share in np.ndenumerate(share_CC):
        colour = "white" if share > 0.5 else "black"
        axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=colour, size=7)


def planes(
    points: Mapping[str, tuple[Any, Sequence[float], float]], kinds: Sequence[str] = ()
) -> bytes:
    """Texts on the plane in which an encoder's vectors differ most, coloured by their label.

    Args:
        points: encoder → coordinates `[n, 2]`, a number per text, share of the variance.
        kinds: what the numbers 0, 1, … stand for; empty if they are a quantity.
    """
    figure, panels = panels_of(len(points), 3.0, 2.9)
    values = np.concatenate([np.asarray(one[1]) for one in points.values()])
    titles = shown(list(points), "encoder")
    for axes, title, (points_n2, numbers, share) in zip(
        panels, titles, points.values(), strict=True
    ):
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
        axes.set_title(f"{broken(title)}\n{100 * share:.0f} % of the variance", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
    bar = figure.colorbar(dots, ax=panels, location="bottom", shrink=0.5, aspect=40)
    bar.set_label("label", fontsize=8)
    if kinds:
        names = [short(name) for name in shown(kinds, "class")]
        width = figure.get_figwidth() / 2
        step = -(-len(kinds) // MOST_TICKS)
        bar.set_ticks(
            range(0, len(kinds), step),
            labels=names[::step],
            fontsize=7,
            **_slant(names[::step], width),
        )
    return png(figure, [*points, *kinds])


def panels_of(
    count: int,
    width: float,
    height: float,
    most: int = 3,
    *,
    margins: tuple[float, float] = (0.0, 0.5),
    tallest: float = math.inf,
    rows: bool = False,
) -> tuple[Figure, list[Any]]:
    """A figure of `count` panels, at most `most` across, of a size in inches each.

    Args:
        count: of the panels.
        width: of one.
        height: of one.
        most: panels side by side.
        margins: what all of them have beside and below them.
        tallest: height that the figure does not exceed.
        rows: whether panels of a line share their rows.
    """
    across = min(most, count)
    down = -(-count // across)
    size = (width * across + margins[0], min(height * down + margins[1], tallest))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=rows).flatten().tolist()
    for spare in panels[count:]:
        spare.remove()
    return figure, panels[:count]


def name_rows(axes: Any, title: str, names: Sequence[str], beyond: float = 0.5) -> None:
    """Give a panel its title, and a name to each of its rows, which lie 1 apart from the top.

    Args:
        axes: of the panel.
        title: of the panel.
        names: of the rows.
        beyond: room above the first row and below the last.
    """
    axes.set_title(title, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 1 + beyond, -beyond)
    axes.grid(axis="y", color="0.93", linewidth=0.8)
    axes.set_axisbelow(True)


def _legend(figure: Figure, looks: Mapping[str, Look]) -> None:
    """Above the panels, which keep their height: the figure grows by all lines but the first."""
    names = [
        short(name, LONGEST_ENTRY) if is_drawable(name) else f"encoder {look.number}"
        for name, look in looks.items()
    ]
    lines = [
        Line2D([], [], color=look.colour, linestyle=look.line, label=name)
        for name, look in zip(names, looks.values(), strict=True)
    ]
    room = figure.get_figwidth() / (LETTER_INCHES * (max(map(len, names)) + 8))
    columns = max(1, min(3, len(lines), int(room)))
    figure.set_figheight(figure.get_figheight() + LINE_INCHES * ((len(lines) - 1) // columns))
    figure.legend(handles=lines, loc="outside upper center", ncols=columns, fontsize=8)


def _slant(names: Sequence[str], inches: float) -> dict[str, Any]:
    """How to write names under an axis of this width: aslant if they would overlap."""
    if not names:
        return {}
    overlap = max(map(len, names)) * LETTER_INCHES > inches / len(names)
    return {"rotation": 45, "ha": "right"} if overlap else {}


def png(figure: Figure, names: Iterable[str]) -> bytes:
    """The picture, in fonts that have the letters of these names."""
    content = io.BytesIO()
    with mpl.rc_context({"font.family": families(names)}):
        for text in figure.findobj(Text):
            text.set_fontfamily(mpl.rcParams["font.family"])
        figure.savefig(content, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    return content.getvalue()
