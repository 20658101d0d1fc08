"""The figures of minimal pairs as lines of a table, beside what a paper printed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from pipeline.tasks.blimp import COLUMNS, FIELDS, PUBLISHED, SUPPLEMENT
from pipeline.tasks.pair_scores import Contrast, Scores

By = Literal["field", "term", "paradigm"]
SHORTER = "shorter sentence"


@dataclass(frozen=True)
class Column:
    """One encoder in a table.

    Attributes:
        label: its name.
        scores: on BLiMP.
        supplement: on BabyLM's supplement; None if that was not read.
    """

    label: str
    scores: Scores
    supplement: Scores | None = None


def header(columns: Sequence[Column], *, twice: bool, paper: bool) -> list[str]:
    """Names of the columns behind the first; arguments as of `lines`."""
    ours = [
        name
        for column in columns
        for name in ([column.label, f"{column.label}, paradigms"] if twice else [column.label])
    ]
    return [*ours, *(COLUMNS if paper else ())]


def differ(columns: Sequence[Column]) -> bool:
    """Whether a mean over the pairs of a field differs from that over its paradigms anywhere.

    In BLiMP as a whole every paradigm has 1,000 pairs, and they are the same.
    """
    return any(
        f"{100 * one:.1f}" != f"{100 * column.scores.field_paradigms[field]:.1f}"
        for column in columns
        for field, one in column.scores.fields.items()
    )


def lines(
    columns: Sequence[Column], by: By, *, twice: bool = False, paper: bool = False
) -> list[list[str]]:
    """Lines of a table in %: BLiMP, its means, then the supplement and its own.

    Args:
        columns: one per encoder.
        by: what a line of BLiMP is: a field of papers (over pairs), a `linguistics_term` (over
            paradigms), or a paradigm.
        twice: show each field over pairs and over paradigms.
        paper: put the published figures behind.
    """
    first = columns[0].scores
    rows: list[list[str]] = []
    for name in {"field": first.fields, "term": first.categories, "paradigm": first.paradigms}[by]:
        cells = [cell for one in columns for cell in _cells(one.scores, name, by, twice)]
        rows.append([name, *cells, *(_published(name) if paper else [])])
    means: dict[str, Callable[[Scores], float]] = {
        "mean over fields": lambda s: fmean(s.fields.values()),
        "mean over pairs": lambda s: s.over_pairs,
        "mean over paradigms": lambda s: s.mean,
    }
    for name, mean in means.items():
        published = _mean(tuple(FIELDS)) if paper and name == "mean over fields" else None
        rows.append(_line(name, [mean(one.scores) for one in columns], twice, paper, published))
    if all(one.supplement for one in columns):
        rows += _supplement(columns, twice, paper)
    return rows


def _supplement(columns: Sequence[Column], twice: bool, paper: bool) -> list[list[str]]:
    extras = [one.supplement for one in columns if one.supplement]
    rows = []
    for name in extras[0].fields:
        published = _published(name) if paper else None
        rows.append(_line(name, [one.fields[name] for one in extras], twice, paper, published))
    means = [fmean(one.fields.values()) for one in extras]
    published = _mean(SUPPLEMENT) if paper else None
    rows.append(_line("mean over the supplement", means, twice, paper, published))
    whole = [{**c.scores.fields, **e.fields} for c, e in zip(columns, extras, strict=True)]
    if paper and set(whole[0]) == set(PUBLISHED):
        values = [fmean(one.values()) for one in whole]
        rows.append(_line("mean of 17, as the paper's", values, twice, paper, _mean(PUBLISHED)))
    return rows


def _cells(scores: Scores, name: str, by: By, twice: bool) -> list[str]:
    if by == "field":
        pair = [scores.fields[name], scores.field_paradigms[name]]
        return [f"{100 * value:.1f}" for value in (pair if twice else pair[:1])]
    value = (scores.categories if by == "term" else scores.paradigms)[name]
    return [f"{100 * value:.1f}"]


def _line(
    name: str, values: Sequence[float], twice: bool, paper: bool, published: list[str] | None
) -> list[str]:
    ours = padded([f"{100 * value:.1f}" for value in values], twice=twice)
    return [name, *ours, *((published or [""] * len(COLUMNS)) if paper else [])]


def _published(name: str) -> list[str]:
    figures = PUBLISHED.get(name, {})
    return [figures.get(column, "") for column in COLUMNS]


def _mean(names: Sequence[str] | Mapping[str, object]) -> list[str]:
    """Means of the published columns, with as many decimals as their figures."""
    means = []
    for column in COLUMNS:
        figures = [PUBLISHED[name][column] for name in names]
        decimals = len(figures[0].partition(".")[2])
        means.append(f"{fmean(map(float, figures)):.{decimals}f}")
    return means


def padded(cells: Sequence[str], *, twice: bool) -> list[str]:
    """One cell per encoder, with room for its second column if it has two."""
    return [part for c in cells for part in ([c, ""] if twice else [c])]


def contrast_lines(contrasts: Mapping[str, Contrast]) -> list[list[str]]:
    """Lines of a table of differences in points: difference, interval, better, worse, p."""
    return [
        [
            name,
            f"{100 * one.difference:+.1f}",
            f"{100 * one.low:+.1f} … {100 * one.high:+.1f}",
            f"{one.better:,}",
            f"{one.worse:,}",
            f"{one.p:.3f}" if one.p >= 0.001 else f"{one.p:.0e}",
        ]
        for name, one in contrasts.items()
    ]


CONTRAST_HEADER = ["", "difference", "95 % interval", "pairs better", "pairs worse", "McNemar's p"]
