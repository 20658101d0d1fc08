"""The columns of result tables: which figure of which cell, under which convention."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.reports.published import COLUMNS
from pipeline.tasks.metrics import DEFINITIONS
from pipeline.tasks.mosei.names import SENTIMENT_CLASSES
from pipeline.tasks.mosei.questions import TASKS

Record = dict[str, Any]
AVERAGE = "average"
PAPER_EMOTIONS = COLUMNS["table3"][:-1]


@dataclass(frozen=True)
class Stat:
    """A figure over seeds.

    Attributes:
        mean: mean over seeds.
        sigma: standard deviation with n - 1; None for a single seed.
        count: number of seeds.
    """

    mean: float
    sigma: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Stat | None":
        """The figure of some values; None where there are none or one is undefined."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        sigma = statistics.stdev(known) if len(known) > 1 else None
        return cls(statistics.fmean(known), sigma, len(known))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: heading.
        task: the trained task it is read from.
        path: where in a cell's metrics the figure stands, by dots.
        definition: its convention, in words.
        percent: shown times 100, two decimals; else as it is, four decimals.
        lower_is_better: for figures that count errors.
        constant: where in the metrics the best constant answer stands; empty: undefined.
    """

    title: str
    task: str
    path: tuple[str, ...]
    definition: str
    percent: bool = True
    lower_is_better: bool = False
    constant: tuple[str, ...] = ()

    def of(self, record: Record) -> float | None:
        """The column's figure in a cell."""
        return figure_at(record["metrics"], self.path)

    def show(self, stat: Stat | None, seeds: int = 0) -> str:
        """`47.80 ± 0.29`, or a dash where there is nothing.

        Args:
            stat: the figure.
            seeds: how many seeds the table has; a figure of fewer says so, as `(2 of 5)`.
        """
        if stat is None:
            return "–"
        scale, digits = (100, 2) if self.percent else (1, 4)
        shown = f"{stat.mean * scale:.{digits}f}"
        if stat.sigma is not None:
            shown += f" ± {stat.sigma * scale:.{digits}f}"
        return f"{shown} ({stat.count} of {seeds})" if stat.count < seeds else shown


def figure_at(metrics: Any, path: Sequence[str]) -> float | None:
    """The figure at a path of keys in a cell's metrics; None where there is none."""
    for key in path:
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return None if metrics is None else float(metrics)


def _accuracy(title: str, task: str, definition: str, under: tuple[str, ...] = ()) -> Column:
    return Column(title, task, (*under, "accuracy"), definition, constant=(*under, "majority_rate"))


def mosei_columns() -> dict[str, tuple[str, tuple[Column, ...]]]:
    """The tables that can be made: key → title and columns."""
    paper = tuple(_accuracy(name, name, DEFINITIONS[f"paper/{name}"]) for name in SENTIMENT_CLASSES)
    average = Column(AVERAGE, "", (), "unweighted mean of the columns before it")
    mult = tuple(
        _accuracy(name, "sentiment", DEFINITIONS[f"mult/{name}"], ("derived", f"mult/{name}"))
        for name in (*SENTIMENT_CLASSES, "sentiment2-nonnegative")
    )
    value = (
        Column(
            "MAE",
            "sentiment",
            ("mae",),
            DEFINITIONS["mae"],
            percent=False,
            lower_is_better=True,
            constant=("constant_mae",),
        ),
        Column("Pearson r", "sentiment", ("pearson",), DEFINITIONS["pearson"]),
    )
    emotions = tuple(_accuracy(name, name, DEFINITIONS["emotion"]) for name in PAPER_EMOTIONS)
    flags = tuple(
        _accuracy(name, "emotions", DEFINITIONS["emotion"], ("flags", name))
        for name in PAPER_EMOTIONS
    )
    return {
        "table1": (
            "Table 1: sentiment, accuracy in % (scheme paper: a classifier a column)",
            (*paper, average),
        ),
        "table1-mult": (
            "Table 1 by the other scheme: accuracy in % (mult: one regression, rounded)",
            mult,
        ),
        "table2": ("Table 2: sentiment score (regression; a low MAE is good, r in %)", value),
        "table3": ("Table 3: emotions, accuracy in % (a classifier each)", (*emotions, average)),
        "table3-shared": (
            "Table 3 by one head of six sigmoids: emotions, accuracy in %",
            (*flags, average),
        ),
    }


def other_columns(records: Sequence[Record]) -> dict[str, tuple[str, tuple[Column, ...]]]:
    """Tables of tasks that are not CMU-MOSEI's, one a task."""
    made: dict[str, tuple[str, tuple[Column, ...]]] = {}
    for record in records:
        task = record["task"]
        if task in TASKS or f"task-{task}" in made:
            continue
        if record["kind"] == "value":
            columns: tuple[Column, ...] = tuple(
                Column(
                    title,
                    task,
                    (path,),
                    DEFINITIONS[path],
                    percent=path == "pearson",
                    lower_is_better=path == "mae",
                    constant=("constant_mae",) if path == "mae" else (),
                )
                for title, path in (("MAE", "mae"), ("Pearson r", "pearson"))
            )
        else:
            columns = tuple(
                Column(
                    title,
                    task,
                    (path,),
                    DEFINITIONS[path],
                    constant=("majority_rate",) if path == "accuracy" else (),
                )
                for title, path in (
                    ("accuracy", "accuracy"),
                    ("balanced accuracy", "balanced_accuracy"),
                    ("weighted F1", "weighted_f1"),
                )
            )
        made[f"task-{task}"] = (record["definition"], columns)
    return made
