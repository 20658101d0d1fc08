"""The picture of a hearing: a point per student with its interval, and where chance is."""

from collections.abc import Mapping, Sequence

from pipeline.reports.figures import Look, name_rows, panels_of, png
from pipeline.reports.hearing.bootstrap import Figures
from pipeline.reports.hearing.comparisons import Line
from pipeline.reports.hearing.measures import Measure
from pipeline.reports.lettering import short, shown

LONGEST_NAME = 34


def chosen(measures: Sequence[Measure]) -> list[Measure]:
    """The figures that are drawn: R@10, explained variance, and named targets within speaker.

    Where a target has no figure within speaker, its raw one is drawn.
    """
    of = {(measure.level, measure.of) for measure in measures if measure.kind == "r"}

    def drawn(measure: Measure) -> bool:
        if measure.kind == "r":
            target, _, view = measure.of.partition(":")
            inner = (measure.level, f"{target}:within speaker") in of
            return view == "within speaker" or not inner
        return measure.kind == "explained" or (measure.kind, measure.of) == ("recall", "10")

    return [measure for measure in measures if drawn(measure)]


def bare(titles: Sequence[str]) -> Sequence[str]:
    """Titles without what stands behind them in brackets, if they differ without it, too.

    Of seeds the picture has dots, and a control has a shape of its own.
    """
    names = [title.partition(" (")[0] for title in titles]
    return names if len({*names}) == len(titles) else titles


def draw(
    figures: Figures,
    measures: Sequence[Measure],
    lines: Sequence[Line],
    looks: Mapping[str, Look],
) -> bytes:
    """A panel per figure, a row per group of encoders; smaller dots are single runs.

    Args:
        figures: of the folder.
        measures: those to draw.
        lines: groups, from top to bottom.
        looks: how encoders are drawn, by label.
    """
    measures = [m for m in measures if any(figures.of(m, line.group) for line in lines)]
    figure, panels = panels_of(
        len(measures), 3.0, 0.7 + 0.21 * len(lines), margins=(1.6, 0.5), rows=True
    )
    titles = [line.group.title for line in lines]
    names = [short(name, LONGEST_NAME) for name in shown(bare(titles), "encoder")]
    for axes, measure in zip(panels, measures, strict=True):
        scale = 100 if measure.in_percent else 1
        axes.axvline(scale * measure.chance, color="0.35", linewidth=1, linestyle=":")
        for place, line in enumerate(lines):
            look = looks[next(iter(line.group.members))]
            one = figures.of(measure, line.group)
            if one is None:
                continue
            axes.plot(
                [scale * one.low, scale * one.high],
                [place, place],
                look.line,
                color=look.colour,
                linewidth=1.8,
            )
            if len(line.group.members) > 1:
                for label in line.group.members:
                    value = figures.sample(measure, label).value
                    axes.plot(scale * value, place, ".", color=look.colour, markersize=3, alpha=0.7)
            beyond = measure.chance < one.low or measure.chance > one.high
            axes.plot(
                scale * one.mean,
                place,
                "s" if look.control else "o",
                color=look.colour,
                markersize=5,
                markerfacecolor=look.colour if beyond else "white",
            )
        name_rows(axes, measure.title, names)
    figure.supxlabel(
        "with 95 % intervals; dotted: chance; hollow: no different from it; square, broken line: "
        "control",
        fontsize=8,
    )
    return png(figure, titles)
