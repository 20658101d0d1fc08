"""Tables of results: mean and standard deviation over seeds, from finished cells alone.

Every table names the convention behind each column, leaves missing cells visibly missing, and
starts with the best constant answer.
"""

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.metrics import DEFINITIONS
from pipeline.mosei.table import EMOTIONS
from pipeline.mosei.tasks import SENTIMENT_CLASSES

Record = dict[str, Any]
CONSTANT = "best constant answer"


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
        return _at(record["metrics"], self.path)

    def show(self, stat: Stat | None) -> str:
        """`47.80 ± 0.29`, `47.80 (1 seed)`, or a dash where there is nothing."""
        if stat is None:
            return "–"
        scale, digits = (100, 2) if self.percent else (1, 4)
        mean = f"{stat.mean * scale:.{digits}f}"
        if stat.sigma is None:
            return mean
        return f"{mean} ± {stat.sigma * scale:.{digits}f}"


@dataclass(frozen=True)
class Table:
    """A table with one row a checkpoint.

    Attributes:
        key: short name, for files.
        title: heading.
        columns: its columns.
        rows: label and the figure of each column; the first row is the best constant answer.
        notes: what the reader has to know.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Stat | None, ...]], ...]
    notes: tuple[str, ...]


def _at(metrics: Any, path: Sequence[str]) -> float | None:
    for key in path:
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return None if metrics is None else float(metrics)


def _accuracy(title: str, task: str, definition: str, under: tuple[str, ...] = ()) -> Column:
    return Column(title, task, (*under, "accuracy"), definition, constant=(*under, "majority_rate"))


def _columns() -> dict[str, tuple[str, tuple[Column, ...]]]:
    """The tables that can be made: key → title and columns."""
    paper = tuple(_accuracy(name, name, DEFINITIONS[f"paper/{name}"]) for name in SENTIMENT_CLASSES)
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
    emotions = tuple(_accuracy(name, name, DEFINITIONS["emotion"]) for name in EMOTIONS)
    flags = tuple(
        _accuracy(name, "emotions", DEFINITIONS["emotion"], ("flags", name)) for name in EMOTIONS
    )
    return {
        "table1": ("Sentiment, accuracy in % (scheme paper: a classifier a column)", paper),
        "table1-mult": ("Sentiment, accuracy in % (scheme mult: one regression, rounded)", mult),
        "table2": ("Sentiment score (regression); r in %", value),
        "table3": ("Emotions, accuracy in % (a classifier each)", emotions),
        "table3-shared": ("Emotions, accuracy in % (one head of six sigmoids)", flags),
    }


def tables(records: Sequence[Record]) -> list[Table]:
    """The tables for which there is at least one cell.

    Args:
        records: finished cells, as `pipeline.results.read_results` gives them.
    """
    made = []
    trained = {record["task"] for record in records}
    labels = list(dict.fromkeys(record["checkpoint"]["label"] for record in ordered(records)))
    for key, (title, columns) in _columns().items():
        if not trained & {column.task for column in columns}:
            continue
        rows = [(CONSTANT, tuple(_constant(records, column) for column in columns))]
        rows += [(label, tuple(_stat(records, label, c) for c in columns)) for label in labels]
        seeds = sorted({r["seed"] for r in records if r["task"] in {c.task for c in columns}})
        notes = (
            *(f"{column.title}: {column.definition}." for column in columns),
            f"Mean ± σ over fine-tuning seeds {', '.join(map(str, seeds))}; σ is the "
            f"{DEFINITIONS['sigma']}. A dash is a cell that is missing or undefined.",
        )
        made.append(Table(key, title, columns, tuple(rows), notes))
    return made


def ordered(records: Sequence[Record]) -> list[Record]:
    """Records with text-only students first, then distilled ones, then other encoders."""

    def place(record: Record) -> tuple[int, str]:
        objective = record["checkpoint"]["objective"]
        return (2 if objective is None else int(objective != "none"), record["checkpoint"]["label"])

    return sorted(records, key=place)


def _stat(records: Sequence[Record], label: str, column: Column) -> Stat | None:
    cells = [r for r in records if r["checkpoint"]["label"] == label and r["task"] == column.task]
    return Stat.of([column.of(record) for record in cells])


def _constant(records: Sequence[Record], column: Column) -> Stat | None:
    if not column.constant:
        return None
    values = [_at(r["metrics"], column.constant) for r in records if r["task"] == column.task]
    return Stat(values[0], None, 1) if values and values[0] is not None else None


def to_markdown(table: Table) -> str:
    """The table as Markdown, with its notes."""
    head = ["model", *(column.title for column in table.columns)]
    lines = [head, ["---", *("---:" for _ in table.columns)]]
    lines += [[label, *_shown(table, stats)] for label, stats in table.rows]
    body = "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"## {table.title}\n\n{body}\n\n{notes}\n"


def to_csv(made: Sequence[Table]) -> str:
    """Every figure of every table, one a line: table, model, column, mean, sigma, seeds."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "model", "column", "mean", "sigma", "seeds"])
    for table in made:
        for label, stats in table.rows:
            for column, stat in zip(table.columns, stats, strict=True):
                figures = ["", "", 0] if stat is None else [stat.mean, stat.sigma, stat.count]
                writer.writerow([table.key, label, column.title, *figures])
    return text.getvalue()


def _shown(table: Table, stats: Sequence[Stat | None]) -> list[str]:
    return [column.show(stat) for column, stat in zip(table.columns, stats, strict=True)]


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def print_summary(records: Sequence[Record]) -> None:
    """Print the tables of some results to standard output."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    for table in tables(records):
        shown = RichTable(title=table.title, title_justify="left")
        shown.add_column("model", overflow="fold")
        for column in table.columns:
            shown.add_column(column.title, justify="right")
        for label, stats in table.rows:
            shown.add_row(Text(label), *_shown(table, stats))
        console.print(shown)
