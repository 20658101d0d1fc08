"""Tables of results: mean and standard deviation over seeds, from finished cells alone.

Every table names the convention behind each column, leaves missing cells visibly missing, and
starts with the best constant answer.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.finetuning.cells import Cell, Pretrained
from pipeline.reports import published_ctal as ctal
from pipeline.reports.columns import (
    AVERAGE,
    Column,
    Stat,
    is_mosei,
    mosei_columns,
    other_columns,
)
from pipeline.reports.formats import to_terminal
from pipeline.reports.partners import titled
from pipeline.reports.published import FIGURES, PAPER, ROWS
from pipeline.tasks.metrics import DEFINITIONS

CONSTANT = "best constant answer"
WORD_ALONE = "the word alone"
"""The row of what each word tells without its text: how often it is a yes in training."""
WHOLE_PASSAGE = "the whole passage"
"""The row of what answering every question with all of its passage gives."""
WHOLE_TRAIN, WHOLE_TEST = 12_000, 3_500
"""The fewest clips in CMU-MOSEI's own split, in any of its known versions, once clips of sentiment
0 are left out."""

SELECTED_ON_TEST = (
    "epochs are selected on the test itself (--selection best-test), as the released code of CTAL "
    "does: its figures are too good, by about a point"
)

FigureRow = tuple[str, tuple[Stat | None, ...]]
"""A name, and the figure of each column."""


@dataclass(frozen=True)
class Table:
    """A table with one row per encoder.

    Attributes:
        key: short name, for files.
        title: heading.
        columns: its columns.
        rows: the first is the best constant answer, of tasks of words the second the word alone,
            of spans the whole passage; the last are the paper's, if they are shown.
        notes: what the reader has to know.
        seeds: how many fine-tuning seeds it has in all.
        published: row → column → the paper's figure, for the rows that have one.
        selection: by what the epoch of a cell was chosen; empty where cells do not say.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[FigureRow, ...]
    notes: tuple[str, ...]
    seeds: int
    published: Mapping[str, Mapping[str, str]]
    selection: str = ""

    def grid(self) -> list[list[str]]:
        """The table as text: a head, then the rows; the paper's figures in their own columns."""
        in_paper = {column for row in self.published.values() for column in row}
        head = ["model"]
        for column in self.columns:
            head.append(column.title)
            if column.title in in_paper:
                head.append(f"{column.title} (paper)")
        lines = [head]
        for label, stats in self.rows:
            seeds = 0 if label in (CONSTANT, WORD_ALONE, WHOLE_PASSAGE) else self.seeds
            line = [label]
            for column, stat in zip(self.columns, stats, strict=True):
                papers = label.startswith((PAPER, ctal.PAPER))
                line.append("" if papers else column.show(stat, seeds))
                if column.title in in_paper:
                    line.append(self.published.get(label, {}).get(column.title, ""))
            lines.append(line)
        return lines


def tables(cells: Sequence[Cell], *, published: bool = False) -> list[Table]:
    """The tables for which there is at least one cell.

    Args:
        cells: finished cells of one data set, split and recipe.
        published: whether to put the paper's own figures beside ours, in the rows of its kind.
    """
    encoders = encoders_of(cells)
    mosei = [cell for cell in cells if is_mosei(cell)]
    others = [cell for cell in cells if not is_mosei(cell)]
    result: list[Table] = []
    for some, headings in ((mosei, mosei_columns()), (others, other_columns(others))):
        for key, (title, columns) in headings.items():
            tasks = {column.task for column in columns}
            mine = [cell for cell in some if cell.task in tasks]
            if mine:
                result.append(_table(key, title, columns, mine, encoders, published))
    return result


def _table(
    key: str,
    title: str,
    columns: tuple[Column, ...],
    cells: Sequence[Cell],
    encoders: Mapping[str, Pretrained],
    published: bool,
) -> Table:
    seeds = sorted({cell.seed for cell in cells})
    rows, notes = _rows(cells, columns, encoders), _notes(columns, seeds)
    figures: Mapping[str, Mapping[str, str]] = {}
    of_ctal = published and ctal.is_sentiment(cells)
    if published and (key in FIGURES or of_ctal):
        if _is_whole(cells):
            figures = ctal.SENTIMENT if of_ctal else _published(key, encoders)
            names = [name for name, _ in rows]
            rows += [(name, (None,) * len(columns)) for name in figures if name not in names]
            notes.append(
                ctal.BESIDE
                if of_ctal
                else f"Columns marked (paper) hold the figures that {PAPER} published for a model "
                "of that kind. Its data and its model sizes are others, and it does not state its "
                "split."
            )
        else:
            notes.append(
                f"The figures of {ctal.PAPER if of_ctal else PAPER} are not put beside these, "
                "because the data are not the whole of CMU-MOSEI in its own split."
            )
    if published:
        notes += ctal.on_speakers(cells)
    if origin := split_origin(cells[0]):
        notes.append(f"The split was {origin}.")
    if mark := selected_on_test(cells):
        title += mark
        notes.insert(0, f"WARNING: {SELECTED_ON_TEST}.")
    selections = dict.fromkeys(str(cell.recipe.get("selection", "")) for cell in cells)
    table = Table(key, title, columns, tuple(rows), tuple(notes), len(seeds), figures)
    return replace(table, selection=" and ".join(filter(None, selections)))


def _rows(
    cells: Sequence[Cell], columns: Sequence[Column], encoders: Mapping[str, Pretrained]
) -> list[FigureRow]:
    constant: FigureRow = (CONSTANT, tuple(_constant(cells, columns, column) for column in columns))
    alone: list[FigureRow] = []
    if all(column.prior for column in columns):
        alone = [(WORD_ALONE, tuple(_fixed(cells, column, column.prior) for column in columns))]
    if any(column.whole for column in columns):
        whole = tuple(_fixed(cells, c, c.whole) if c.whole else None for c in columns)
        alone = [(WHOLE_PASSAGE, whole)]
    return [
        constant,
        *alone,
        *(
            (row_name(encoder), tuple(_stat(cells, label, columns, column) for column in columns))
            for label, encoder in encoders.items()
        ),
    ]


def _notes(columns: Sequence[Column], seeds: Sequence[int]) -> list[str]:
    notes = [
        f"{', '.join(c.title for c in columns if c.definition == definition)}: {definition}."
        for definition in dict.fromkeys(column.definition for column in columns)
    ]
    if all(column.prior for column in columns):
        notes.append(
            f"{WORD_ALONE}: how often the training words that are spelled alike are a yes, drawn "
            "towards the rate of all words as far as training itself asks for."
        )
    if len(seeds) > 1:
        notes.append(
            f"Mean ± σ over the fine-tuning seeds {', '.join(map(str, seeds))}; σ is the "
            f"{DEFINITIONS['sigma']}."
        )
    else:
        notes.append(f"There is one fine-tuning seed, {seeds[0]}, and so no σ.")
    notes.append("A dash stands for a figure that is missing or undefined.")
    return notes


def _published(key: str, encoders: Mapping[str, Pretrained]) -> dict[str, dict[str, str]]:
    """The paper's figures by row: beside ours of its kind, then in rows of their own."""
    figures = {
        row_name(encoder): FIGURES[key][row]
        for encoder in encoders.values()
        if (row := _paper_row(encoder))
    }
    ours = {_paper_row(encoder) for encoder in encoders.values()}
    rest = {f"{PAPER}: {name}": FIGURES[key][row] for row, name in ROWS.items() if row not in ours}
    return {**figures, **rest}


def _is_whole(cells: Sequence[Cell]) -> bool:
    """Whether a table's cells were trained on a split of CMU-MOSEI's own size."""
    return all(
        cell.splits["train"] >= WHOLE_TRAIN
        and cell.splits["test"] >= WHOLE_TEST
        and cell.data["split"]["origin"] not in ("made", "folds")
        for cell in cells
    )


def selected_on_test(cells: Sequence[Cell]) -> str:
    """What the title of a table ends with if epochs were selected on the test; else empty."""
    on_test = any(cell.recipe.get("selection") == "best-test" for cell in cells)
    return " [SELECTED ON THE TEST]" if on_test else ""


def split_origin(cell: Cell) -> str:
    """How the split came about, in words, if it is not the data's own; else empty."""
    split = cell.data["split"]
    if split["origin"] == "folds":
        return (
            f"made of folds: one {split.get('of', 'part')} after another was left out as the test"
        )
    if cell.made_split_seed is None:
        return ""
    return (
        f"made here by group (for CMU-MOSEI, by video) with seed {cell.made_split_seed}; it is not "
        "a published one"
    )


def _paper_row(encoder: Pretrained) -> str:
    """The paper's row that an encoder is of the kind of; empty if there is none."""
    if encoder.is_control or encoder.objective not in ROWS:
        return ""
    return encoder.objective


def row_name(encoder: Pretrained) -> str:
    """An encoder's name in tables: its label, and what it is if that is not in the label."""
    return titled(encoder.label, encoder)


def encoders_of(cells: Sequence[Cell]) -> dict[str, Pretrained]:
    """The encoders of some cells by label, in the order of `ordered`."""
    return {cell.label: cell.checkpoint for cell in ordered(cells)}


def ordered(cells: Sequence[Cell]) -> list[Cell]:
    """Cells of text-only students first, then of distilled ones, then of other encoders."""

    def place(cell: Cell) -> tuple[int, str]:
        objective = cell.checkpoint.objective
        return (2 if objective is None else int(objective != "none"), cell.label)

    return sorted(cells, key=place)


def _stat(
    cells: Sequence[Cell], label: str, columns: Sequence[Column], column: Column
) -> Stat | None:
    mine = [cell for cell in cells if cell.label == label]
    if column.title != AVERAGE:
        return Stat.of([column.of(cell) for cell in mine if cell.task == column.task])
    by_seed: dict[int, list[float | None]] = {}
    for part in columns:
        if part.title != AVERAGE:
            for cell in mine:
                if cell.task == part.task:
                    by_seed.setdefault(cell.seed, []).append(part.of(cell))
    whole = [
        statistics.fmean(known)
        for values in by_seed.values()
        if len(known := [v for v in values if v is not None]) == len(columns) - 1
    ]
    return Stat.of(whole)


def _constant(cells: Sequence[Cell], columns: Sequence[Column], column: Column) -> Stat | None:
    if column.title == AVERAGE:
        parts = [_constant(cells, columns, c) for c in columns if c.title != AVERAGE]
        known = [part.mean for part in parts if part is not None]
        return Stat(statistics.fmean(known), None, 1) if len(known) == len(parts) else None
    return _fixed(cells, column, column.constant) if column.constant else None


def _fixed(cells: Sequence[Cell], column: Column, path: tuple[str, ...]) -> Stat | None:
    """A figure that is the same for every encoder and seed."""
    values = [cell.figure(path) for cell in cells if cell.task == column.task]
    return Stat(values[0], None, 1) if values and values[0] is not None else None


def every_figure(tables_by_set: Mapping[str, Sequence[Table]]) -> list[list[object]]:
    """Every figure of every table in full, one per line, after a head.

    Args:
        tables_by_set: name of a set of results → its tables.
    """
    lines: list[list[object]] = [
        ["results", "table", "model", "column", "mean", "sigma", "seeds", "selection"],
    ]
    for name, several in tables_by_set.items():
        for table in several:
            for label, stats in table.rows:
                for column, stat in zip(table.columns, stats, strict=True):
                    mean, sigma, seeds = (
                        (stat.mean, stat.sigma, stat.count) if stat else ("", "", 0)
                    )
                    figures = [mean, sigma, seeds, table.selection]
                    lines.append([name, table.key, label, column.title, *figures])
    return lines


def summary(cells: Sequence[Cell]) -> str:
    """The tables of some results for the terminal; empty without a cell."""
    return "".join(to_terminal(table.grid(), table.title) for table in tables(cells))
