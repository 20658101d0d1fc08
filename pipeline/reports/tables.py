"""Tables of results: mean and standard deviation over seeds, from finished cells alone.

Every table names the convention behind each column, leaves missing cells visibly missing, and
starts with the best constant answer.
"""

import csv
import io
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.reports.columns import (
    AVERAGE,
    Column,
    Record,
    Stat,
    figure_at,
    mosei_columns,
    other_columns,
)
from pipeline.reports.published import COLUMNS, FIGURES, PAPER, ROWS
from pipeline.tasks.metrics import DEFINITIONS

CONSTANT = "best constant answer"
WHOLE_TRAIN, WHOLE_TEST = 12_000, 3_500
"""Clips that CMU-MOSEI's own split has at the least, in any of its known versions, once clips of
sentiment 0 are left out."""


@dataclass(frozen=True)
class Table:
    """A table with one row a checkpoint.

    Attributes:
        key: short name, for files.
        title: heading.
        columns: its columns.
        rows: label and the figure of each column; the first row is the best constant answer.
        notes: what the reader has to know.
        seeds: how many fine-tuning seeds it has in all.
        published: label → column → the paper's figure, where the row is one of the paper's.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Stat | None, ...]], ...]
    notes: tuple[str, ...]
    seeds: int
    published: dict[str, dict[str, str]]

    def grid(self) -> list[list[str]]:
        """The table as text: a head, then the rows; the paper's figures in their own columns."""
        paper = COLUMNS.get(self.key, ()) if self.published else ()
        theirs = [column.title in paper for column in self.columns]
        head = ["model"]
        for column, also in zip(self.columns, theirs, strict=True):
            head += [column.title, f"{column.title} (paper)"] if also else [column.title]
        lines = [head]
        for label, stats in self.rows:
            seeds = 0 if label == CONSTANT else self.seeds
            line = [label]
            for column, stat, also in zip(self.columns, stats, theirs, strict=True):
                line.append("" if label.startswith(PAPER) else column.show(stat, seeds))
                if also:
                    line.append(self.published.get(label, {}).get(column.title, ""))
            lines.append(line)
        return lines


def tables(records: Sequence[Record], *, published: bool = False) -> list[Table]:
    """The tables for which there is at least one cell.

    Args:
        records: finished cells, as `pipeline.reports.cells.read_results` gives them.
        published: put the paper's own figures beside ours, where the paper has the row.
    """
    made = []
    trained = {record["task"] for record in records}
    labels = list(dict.fromkeys(record["checkpoint"]["label"] for record in ordered(records)))
    for key, (title, columns) in {**mosei_columns(), **other_columns(records)}.items():
        if not trained & {column.task for column in columns}:
            continue
        rows = [(CONSTANT, tuple(_constant(records, columns, c) for c in columns))]
        rows += [
            (label, tuple(_stat(records, label, columns, c) for c in columns)) for label in labels
        ]
        shown = [row_name(records, label) for label, _ in rows]
        seeds = sorted({r["seed"] for r in records if r["task"] in {c.task for c in columns}})
        notes = [
            f"{', '.join(c.title for c in columns if c.definition == definition)}: {definition}."
            for definition in dict.fromkeys(column.definition for column in columns)
        ]
        notes.append(
            f"Mean ± σ over fine-tuning seeds {', '.join(map(str, seeds))}; σ is the "
            f"{DEFINITIONS['sigma']}."
            if len(seeds) > 1
            else f"One fine-tuning seed, {seeds[0]}: no σ."
        )
        notes.append("A dash is a cell that is missing or undefined.")
        theirs: dict[str, dict[str, str]] = {}
        if published and key in FIGURES and not _whole(records, columns):
            notes.append(
                f"What {PAPER} published is not put beside these figures: the data are not all "
                "of CMU-MOSEI in its own split."
            )
        elif published and key in FIGURES:
            theirs = {
                name: FIGURES[key][row]
                for name, (label, _) in zip(shown, rows, strict=True)
                if (row := paper_row(records, label))
            }
            ours = {paper_row(records, label) for label, _ in rows}
            missing = [row for row in ROWS if row not in ours]
            rows += [(f"{PAPER}: {ROWS[row]}", (None,) * len(columns)) for row in missing]
            shown += [f"{PAPER}: {ROWS[row]}" for row in missing]
            theirs |= {f"{PAPER}: {ROWS[row]}": FIGURES[key][row] for row in missing}
            notes.append(
                f"Columns marked (paper) hold what {PAPER} published for the row of that kind, "
                "from other data, other sizes of model and a split that it does not state."
            )
        if origin := split_origin(records[0]):
            notes.append(f"The split is {origin}.")
        made.append(
            Table(
                key,
                title,
                columns,
                tuple((name, stats) for name, (_, stats) in zip(shown, rows, strict=True)),
                tuple(notes),
                len(seeds),
                theirs,
            )
        )
    return made


def split_origin(record: Record) -> str:
    """How the split came about, in words, where it is not the data's own; else empty."""
    split = record.get("data", {}).get("split", {})
    if split.get("origin") != "made":
        return ""
    return (
        f"made here, by group (for CMU-MOSEI the video), seed {split['seed']}; not a published one"
    )


def _whole(records: Sequence[Record], columns: Sequence[Column]) -> bool:
    """Whether a table's cells were trained on a split of CMU-MOSEI's own size."""
    tasks = {column.task for column in columns}
    sizes = [r["splits"] for r in records if r["task"] in tasks]
    whole = all(s["train"] >= WHOLE_TRAIN and s["test"] >= WHOLE_TEST for s in sizes)
    return whole and not split_origin(records[0])


def paper_row(records: Sequence[Record], label: str) -> str:
    """The paper's row that a checkpoint is of the kind of; empty where there is none."""
    for record in records:
        checkpoint = record["checkpoint"]
        if checkpoint["label"] == label:
            real = checkpoint.get("control") in (None, "real")
            return checkpoint["objective"] if real and checkpoint["objective"] in ROWS else ""
    return ""


def row_name(records: Sequence[Record], label: str) -> str:
    """A checkpoint's name in tables: its label, and what it is if that is not in the label."""
    for record in records:
        checkpoint = record["checkpoint"]
        if checkpoint["label"] == label:
            control, objective = checkpoint.get("control"), checkpoint["objective"]
            told = [f"kd {objective}"] if objective and objective not in label else []
            told += [f"CONTROL: {control} teacher"] if control not in (None, "real") else []
            return f"{label} ({', '.join(told)})" if told else label
    return label


def ordered(records: Sequence[Record]) -> list[Record]:
    """Records with text-only students first, then distilled ones, then other encoders."""

    def place(record: Record) -> tuple[int, str]:
        objective = record["checkpoint"]["objective"]
        return (2 if objective is None else int(objective != "none"), record["checkpoint"]["label"])

    return sorted(records, key=place)


def _stat(
    records: Sequence[Record], label: str, columns: Sequence[Column], column: Column
) -> Stat | None:
    cells = [r for r in records if r["checkpoint"]["label"] == label]
    if column.title != AVERAGE:
        return Stat.of([column.of(r) for r in cells if r["task"] == column.task])
    by_seed: dict[int, list[float | None]] = {}
    for part in columns:
        if part.title != AVERAGE:
            for record in cells:
                if record["task"] == part.task:
                    by_seed.setdefault(record["seed"], []).append(part.of(record))
    whole = [
        statistics.fmean(known)
        for values in by_seed.values()
        if len(known := [v for v in values if v is not None]) == len(columns) - 1
    ]
    return Stat.of(whole)


def _constant(records: Sequence[Record], columns: Sequence[Column], column: Column) -> Stat | None:
    if column.title == AVERAGE:
        parts = [_constant(records, columns, c) for c in columns if c.title != AVERAGE]
        known = [part.mean for part in parts if part is not None]
        return Stat(statistics.fmean(known), None, 1) if len(known) == len(parts) else None
    if not column.constant:
        return None
    values = [figure_at(r["metrics"], column.constant) for r in records if r["task"] == column.task]
    return Stat(values[0], None, 1) if values and values[0] is not None else None


def is_figures(cells: Iterable[str]) -> bool:
    """Whether the cells of a column are all figures (or dashes), which are set to the right."""
    return all(re.fullmatch(r"(?:[\d\s.,±+–()%-]|of|to)*", cell) for cell in cells)


def to_markdown(grid: Sequence[Sequence[str]]) -> str:
    """A table of text as Markdown."""
    figures = [is_figures(line[i] for line in grid[1:]) for i in range(len(grid[0]))]
    lines = [grid[0], ["---:" if right else "---" for right in figures], *grid[1:]]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def to_latex(grid: Sequence[Sequence[str]], title: str) -> str:
    """A table of text as a LaTeX tabular (booktabs), its title in a comment above."""
    lines = [" & ".join(map(_latex, line)) + r" \\" for line in grid]
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    columns = "l" + "r" * (len(grid[0]) - 1)
    said = " ".join(title.split())
    begin, end = f"\\begin{{tabular}}{{{columns}}}\n\\toprule", "\\bottomrule\n\\end{tabular}"
    return f"% {said}\n{begin}\n{body}\n{end}\n"


def _latex(text: str) -> str:
    special = {c: f"\\{c}" for c in "&%$#_{}"} | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
    }
    return "".join(special.get(c, c) for c in text)


def to_csv(made: Mapping[str, Sequence[Table]]) -> str:
    """Every figure of every table, one a line; the first column tells whose results it is.

    Args:
        made: name of a set of results → its tables.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["results", "table", "model", "column", "mean", "sigma", "seeds"])
    for name, table in ((name, table) for name, several in made.items() for table in several):
        for label, stats in table.rows:
            for column, stat in zip(table.columns, stats, strict=True):
                figures = ["", "", 0] if stat is None else [stat.mean, stat.sigma, stat.count]
                writer.writerow([name, table.key, label, column.title, *figures])
    return text.getvalue()


def _cell(text: str) -> str:
    return escaped(text).replace("|", "\\|").replace("\n", " ")


def escaped(text: str) -> str:
    """Text that makes no link, picture, code or tag of itself in Markdown."""
    return re.sub(r"([\\`\[\]])", r"\\\1", text).replace("<", "&lt;")


def print_summary(records: Sequence[Record]) -> None:
    """Print the tables of some results to standard output."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    for table in tables(records):
        head, *lines = table.grid()
        held = [0] + [i for i in range(1, len(head)) if any(line[i] != "–" for line in lines)]
        shown = RichTable(title=Text(table.title), title_justify="left")
        for i in held:
            shown.add_column(Text(head[i]), justify="right" if i else "left", overflow="fold")
        for line in lines:
            shown.add_row(*(Text(line[i]) for i in held))
        console.print(shown)
