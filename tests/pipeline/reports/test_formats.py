"""A grid of text in each format: nothing of it is lost, and nothing of it acts."""

import csv
import io

from pipeline.reports.formats import is_figures, listed, to_csv, to_latex, to_markdown, to_terminal

GRID = [["model", "a", "empty"], ["[b]x[/b]", "1.0 ± 0.1", "–"], ["y", "–", "–"]]


def test_figures_are_told_from_words():
    assert is_figures(["47.80 ± 0.29", "–", "", "+0.10 to +1.20", "71.6 (2 of 5)", "1,234"])
    assert not is_figures(["47.80", "y < 0"])


def test_names_in_a_sentence():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_markdown_sets_figures_to_the_right_and_escapes_the_rest():
    assert to_markdown([["a|b", "n"], ["x\ny", "1"]]).splitlines() == [
        "| a\\|b | n |",
        "| --- | ---: |",
        "| x y | 1 |",
    ]


def test_latex_escapes_what_it_must():
    text = to_latex([["model", "a_b"], ["50 % & more", "1.0 ± 0.1"]], "of\nr: Table")
    assert text.startswith("% of r: Table\n\\begin{tabular}")
    assert r"50 \% \& more & 1.0 $\pm$ 0.1 \\" in text
    assert r"a\_b" in text


def test_csv_is_read_back():
    assert list(csv.reader(io.StringIO(to_csv([["a", "b"], ['x,"', None], [1.5, 2]])))) == [
        ["a", "b"],
        ['x,"', ""],
        ["1.5", "2"],
    ]


def test_the_terminal_shows_markup_as_text_and_no_column_without_a_figure():
    text = to_terminal(GRID, "[red]title")
    assert "[red]title" in text
    assert "[b]x[/b]" in text
    assert "1.0 ± 0.1" in text
    assert "empty" not in text
