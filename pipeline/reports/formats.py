"""A grid of text as Markdown, LaTeX, CSV or a table on the terminal.

A grid is a list of lines of equal length, the first of which is the head.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

NOTHING = "–"
"""What stands in a cell whose figure is missing or undefined."""


def listed(names: Sequence[str]) -> str:
    """Names as they stand in a sentence: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def is_figures(cells: Iterable[str]) -> bool:
    """Whether the cells of a column are all figures (or dashes), which are set to the right."""
    return all(re.fullmatch(r"(?:[\d\s.,±+–()%*-]|of|to)*", cell) for cell in cells)


def to_markdown(grid: Sequence[Sequence[str]]) -> str:
    """A grid as a Markdown table."""
    figures = [is_figures(line[i] for line in grid[1:]) for i in range(len(grid[0]))]
    lines = [grid[0], ["---:" if right else "---" for right in figures], *grid[1:]]
    return "\n".join("| " + " | ".join(map(_markdown_cell, line)) + " |" for line in lines)


def _markdown_cell(text: str) -> str:
    return escaped(text).replace("|", "\\|").replace("\n", " ")


def escaped(text: str) -> str:
    """Text that makes no link, picture, code or tag of itself in Markdown."""
    return re.sub(r"([\\`\[\]])", r"\\\1", text).replace("<", "&lt;")


def to_latex(grid: Sequence[Sequence[str]], title: str) -> str:
    """A grid as a LaTeX tabular (booktabs), its title in a comment above."""
    lines = [" & ".join(map(_latex, line)) + r" \\" for line in grid]
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    columns = "l" + "r" * (len(grid[0]) - 1)
    comment = " ".join(title.split())
    begin, end = f"\\begin{{tabular}}{{{columns}}}\n\\toprule", "\\bottomrule\n\\end{tabular}"
    return f"% {comment}\n{begin}\n{body}\n{end}\n"


def _latex(text: str) -> str:
    special = {c: f"\\{c}" for c in "&%$#_{}"} | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
        "≤": r"$\le$",
        "≥": r"$\ge$",
    }
    return "".join(special.get(c, c) for c in text)


def to_csv(grid: Sequence[Sequence[object]]) -> str:
    """A grid as CSV; None is an empty field."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(grid)
    return text.getvalue()


def to_terminal(grid: Sequence[Sequence[str]], title: str) -> str:
    """A grid as a table for the terminal, without the columns that hold nothing.

    It is as wide as the terminal, or 200 characters where standard output is none.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head, *lines = grid
    filled = [0, *(i for i in range(1, len(head)) if any(line[i] != NOTHING for line in lines))]
    table = Table(title=Text(title), title_justify="left")
    for i in filled:
        table.add_column(Text(head[i]), justify="right" if i else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(line[i]) for i in filled))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
