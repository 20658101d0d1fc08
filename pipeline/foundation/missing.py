"""Words by which tables say that a value is not known."""

MISSING = frozenset(
    {
        *("", "nan", "NaN", "NAN", "-nan", "-NaN", "None", "null", "NULL", "Null", "n/a", "N/A"),
        *("NA", "<NA>", "#NA", "#N/A", "#N/A N/A", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    }
)
"""What pandas reads as missing by default, in the spellings that it and other programs write.

`none` in small letters is none of them: data sets of stance and of emotion have a class of that
name.
"""


def is_missing(cell: str) -> bool:
    """Whether a cell, spaces around it aside, stands for a value that is not known."""
    return cell.strip() in MISSING
