"""The columns of result tables: which figure of which cell, under which convention."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.finetuning.cells import Cell
from pipeline.reports.formats import NOTHING
from pipeline.reports.published import COLUMNS
from pipeline.tasks.metrics import DEFINITIONS
from pipeline.tasks.mosei.names import SENTIMENT_CLASSES
from pipeline.tasks.mosei.questions import TASKS
from pipeline.tasks.mosei.schemes import DEFINITIONS as CONVENTIONS
from pipeline.tasks.spans.overlap import SCORES
from pipeline.tasks.words import RANKED

MOSEI = "mosei"
"""What `finetune mosei` calls its data in a cell's record."""
AVERAGE = "average"
PAPER_EMOTIONS = COLUMNS["table3"][:-1]


@dataclass(frozen=True)
class Stat:
    """The mean of a figure over seeds.

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
        """The mean of some values; None if there are none or one is undefined."""
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
        task: the trained task that the figure is of.
        path: the keys that lead to the figure in a cell's metrics.
        definition: its convention, in words.
        percent: whether it is shown times 100 with two decimals, or as it is with four.
        constant: the keys that lead to the figure of the best constant answer; empty if that is
            undefined.
        prior: the keys that lead to the figure of the words alone; empty but for tasks of words.
        whole: the keys that lead to the figure of whole passages as answers; empty but for spans.
    """

    title: str
    task: str
    path: tuple[str, ...]
    definition: str
    percent: bool = True
    constant: tuple[str, ...] = ()
    prior: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()

    def of(self, cell: Cell) -> float | None:
        """The column's figure in a cell."""
        return cell.figure(self.path)

    def show(self, stat: Stat | None, seeds: int = 0) -> str:
        """`47.80 ± 0.29`, or a dash where there is nothing.

        Args:
            stat: the figure over seeds.
            seeds: how many seeds the table has; a mean of fewer says so, as `(2 of 5)`.
        """
        if stat is None:
            return NOTHING
        scale, digits = (100, 2) if self.percent else (1, 4)
        text = f"{stat.mean * scale:.{digits}f}"
        if stat.sigma is not None:
            text += f" ± {stat.sigma * scale:.{digits}f}"
        return f"{text} ({stat.count} of {seeds})" if stat.count < seeds else text


def _accuracy(title: str, task: str, definition: str, under: tuple[str, ...] = ()) -> Column:
    return Column(title, task, (*under, "accuracy"), definition, constant=(*under, "majority_rate"))


def mosei_columns() -> dict[str, tuple[str, tuple[Column, ...]]]:
    """The tables of CMU-MOSEI: key → title and columns."""
    paper = tuple(_accuracy(name, name, CONVENTIONS[f"paper/{name}"]) for name in SENTIMENT_CLASSES)
    average = Column(AVERAGE, "", (), "unweighted mean of the columns before it")
    mult = tuple(
        _accuracy(name, "sentiment", CONVENTIONS[f"mult/{name}"], ("derived", f"mult/{name}"))
        for name in (*SENTIMENT_CLASSES, "sentiment2-nonnegative")
    )
    f1 = tuple(  # beside each accuracy of two classes, as MulT and MMSA have it
        Column(f"F1 {c.title}", c.task, (*c.path[:-1], "weighted_f1"), DEFINITIONS["weighted_f1"])
        for c in mult
        if c.title.startswith("sentiment2")
    )
    value = (
        Column(
            "MAE",
            "sentiment",
            ("mae",),
            DEFINITIONS["mae"],
            percent=False,
            constant=("constant_mae",),
        ),
        Column("Pearson r", "sentiment", ("pearson",), DEFINITIONS["pearson"]),
    )
    emotions = tuple(_accuracy(name, name, CONVENTIONS["emotion"]) for name in PAPER_EMOTIONS)
    flags = tuple(
        _accuracy(name, "emotions", CONVENTIONS["emotion"], ("flags", name))
        for name in PAPER_EMOTIONS
    )
    return {
        "table1": (
            "Table 1: sentiment, accuracy in % (scheme paper: one classifier per column)",
            (*paper, average),
        ),
        "table1-mult": (
            "Table 1 under the other scheme: accuracy in % (mult: one regression, rounded)",
            (*mult, *f1),
        ),
        "table2": ("Table 2: sentiment score (regression; a lower MAE is better, r in %)", value),
        "table3": (
            "Table 3: emotions, accuracy in % (one classifier per emotion)",
            (*emotions, average),
        ),
        "table3-shared": (
            "Table 3 from one head of six sigmoids: emotions, accuracy in %",
            (*flags, average),
        ),
    }


def _as_mult(task: str) -> tuple[Column, ...]:
    """What papers since MulT give of CMU-MOSEI's sentiment beside MAE and r."""
    acc2 = ("derived", "mult/sentiment2")
    return (
        _accuracy("Acc2", task, CONVENTIONS["mult/sentiment2"], acc2),
        Column("F1", task, (*acc2, "weighted_f1"), "of Acc2, " + DEFINITIONS["weighted_f1"]),
        Column("F1 as MulT", task, (*acc2, "weighted_f1_as_mult"), CONVENTIONS["mult/f1"]),
        *(
            _accuracy(
                f"Acc{n}",
                task,
                CONVENTIONS[f"mult/sentiment{n}"],
                ("derived", f"mult/sentiment{n}"),
            )
            for n in (5, 7)
        ),
    )


def other_columns(cells: Sequence[Cell]) -> dict[str, tuple[str, tuple[Column, ...]]]:
    """A table for each task that is not CMU-MOSEI's: key → title and columns."""
    return {
        f"task-{cell.task}": (cell.definition, _plain_columns(cell))
        for cell in cells
        if not is_mosei(cell)
    }


def is_mosei(cell: Cell) -> bool:
    """Whether a cell's task is one of CMU-MOSEI's, and not a table's of the same name."""
    return cell.data["name"] == MOSEI and cell.task in TASKS


def _plain_columns(cell: Cell) -> tuple[Column, ...]:
    """Title, metric and best constant answer of each column, by the kind of the task."""
    if cell.kind == "words":
        return tuple(
            Column(
                title,
                cell.task,
                (metric,),
                DEFINITIONS[metric],
                constant=("chance", metric),
                prior=("prior", metric),
            )
            for metric, title in RANKED.items()
        )
    if cell.kind == "spans":
        scores = tuple(
            Column(
                title,
                cell.task,
                (metric,),
                DEFINITIONS[metric],
                constant=("constant", metric),
                whole=("whole", metric),
            )
            for metric, title in SCORES.items()
        )
        ceiling = Column("AOS at most", cell.task, ("ceiling",), DEFINITIONS["ceiling"])
        return (*scores, ceiling)
    more: tuple[Column, ...] = ()
    if cell.kind == "speaker":
        rows = [("EER", "eer", ""), ("minDCF", "min_dcf", "")]
    elif cell.kind == "value":
        rows = [("MAE", "mae", "constant_mae"), ("Pearson r", "pearson", "")]
        more = _as_mult(cell.task) if "derived" in cell.metrics else ()
    else:
        rows = [
            ("accuracy", "accuracy", "majority_rate"),
            ("balanced accuracy", "balanced_accuracy", ""),
            ("weighted F1", "weighted_f1", ""),
            ("macro F1", "macro_f1", ""),
        ]
    return more + tuple(
        Column(
            title,
            cell.task,
            (metric,),
            DEFINITIONS[metric],
            percent=metric not in ("mae", "min_dcf"),
            constant=(constant,) if constant else (),
        )
        for title, metric, constant in rows
    )
