"""Words for what is not known are those that pandas writes and reads."""

import pytest

from pipeline.foundation.missing import MISSING, is_missing


@pytest.mark.parametrize("cell", ["", "  ", "nan", "NaN", " None ", "N/A", "n/a", "null", "NULL"])
def test_what_is_not_known(cell):
    assert is_missing(cell)


@pytest.mark.parametrize("cell", ["none", "0", "no", "a", "nanny", "-", "unknown", "None."])
def test_what_is_known(cell):
    assert not is_missing(cell)


def test_every_word_that_pandas_takes_for_missing_is_known_here():
    """Those that the documentation of `pandas.read_csv` lists at `na_values`."""
    words = "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None"
    assert {"", "n/a", "nan", "null", *words.split("|")} <= MISSING
