"""The paper's figures as they were typed in: complete, and in agreement with their averages."""

from statistics import fmean

import pytest

from pipeline.reports.published import COLUMNS, FIGURES, ROWS


@pytest.mark.parametrize("key", ["table1", "table3"])
def test_the_papers_averages_follow_from_its_own_figures(key):
    """Guards against a slip of the pen; the paper rounds its averages to two decimals."""
    for row in ROWS:
        figures = FIGURES[key][row]
        parts = [float(figures[column].split()[0]) for column in COLUMNS[key][:-1]]
        assert fmean(parts) == pytest.approx(float(figures["average"]), abs=0.0151), row


def test_every_row_and_column_is_there():
    for key, columns in COLUMNS.items():
        assert set(FIGURES[key]) == set(ROWS)
        for row in FIGURES[key].values():
            assert tuple(row) == columns
