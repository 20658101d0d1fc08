"""The figures that the paper published: its Tables 1, 2 and 3, row by row.

Source: Hasan et al. 2023, "Teach me with a Whisper" (arXiv 2311.07014), as printed. Its σ is over
five fine-tuning trials; each student was pre-trained once.
"""

PAPER = "Hasan et al. 2023"

ROWS: dict[str, str] = {
    "BERT": "BERT (4B tokens)",
    "wikiBERT": "wikiBERT (2.9B)",
    "none": "transcription-BERT (66M)",
    "nst": "Student NST (66M)",
    "crd": "Student CRD (66M)",
}
"""The paper's rows; where it is a distillation objective of ours, the key is that objective."""

_TABLE1 = """
BERT      47.80 0.29  51.89 0.19  69.45 0.23  85.88 0.40  76.78 0.19  66.36
wikiBERT  46.03 0.60  49.89 0.45  67.25 0.25  83.81 0.37  75.03 0.29  64.40
none      45.57 0.16  49.60 0.33  66.91 0.16  83.65 0.34  74.26 0.25  64.00
nst       46.73 0.40  51.44 0.01  68.83 0.26  84.94 0.17  76.52 0.09  65.69
crd       47.09 0.01  51.44 0.20  68.36 0.10  85.16 0.11  76.28 0.26  65.67
"""
_TABLE2 = """
BERT      0.5453 0.0015  76.99 0.09
wikiBERT  0.5858 0.0029  72.87 0.24
none      0.5903 0.0019  72.00 0.18
nst       0.5590 0.0012  74.61 0.19
crd       0.5614 0.0003  74.74 0.12
"""
_TABLE3 = """
BERT      67.93 0.23  75.18 0.26  90.45 0.11  78.33 0.20  91.71 0.04  84.91 0.23  81.42
wikiBERT  67.02 0.81  73.69 0.41  89.50 0.34  78.19 0.06  91.08 0.06  84.68 0.25  80.69
none      66.55 0.22  74.16 0.02  89.80 0.10  77.76 0.25  91.43 0.17  84.24 0.16  80.66
nst       68.22 0.21  74.70 0.31  90.83 0.24  78.48 0.20  92.74 0.02  85.36 0.04  81.72
crd       67.87 0.01  74.76 0.22  91.49 0.42  78.28 0.10  92.40 0.21  85.24 0.37  81.67
"""

COLUMNS = {
    "table1": (
        "sentiment7",
        "sentiment5",
        "sentiment3",
        "sentiment2",
        "sentiment2-with-neutral",
        "average",
    ),
    "table2": ("MAE", "Pearson r"),
    "table3": ("happiness", "sadness", "surprise", "anger", "fear", "disgust", "average"),
}
"""The paper's columns, in its order."""


def _parsed(table: str, columns: tuple[str, ...]) -> dict[str, dict[str, str]]:
    rows = {}
    for line in table.split("\n"):
        if line.strip():
            row, *figures = line.split()
            pairs = [" ± ".join(figures[i : i + 2]) for i in range(0, len(figures), 2)]
            rows[row] = dict(zip(columns, pairs, strict=True))
    return rows


FIGURES: dict[str, dict[str, dict[str, str]]] = {
    key: _parsed(table, COLUMNS[key])
    for key, table in (("table1", _TABLE1), ("table2", _TABLE2), ("table3", _TABLE3))
}
"""Table → row → column → `mean ± σ` as printed (an average has no σ)."""
