"""Figures of CTAL's paper, and where they may stand beside ours.

Source: Li et al. 2021, "CTAL" (arXiv 2109.00181), Tables 1 and 2 as printed, with one seed and no
deviation. A figure is only comparable where it is defined as ours.

- Table 2 (CMU-MOSEI) is: Acc2 leaves labels of 0 out and takes above 0 against the rest; F1 has
  the labels' weights, as in the released code; MAE and r are of all clips.
- Table 1 (IEMOCAP) is of epochs that were selected on the test, as means over folds.
- Table 3 (speakers) is not: the released code averages rates over random draws of four speakers.
"""

from collections.abc import Sequence

from pipeline.finetuning.cells import Cell
from pipeline.tasks.iemocap import FOURTH, LABELS

PAPER = "Li et al. 2021"
SENTIMENT: dict[str, dict[str, str]] = {
    f"{PAPER}: CTAL base": {"Acc2": "80.36", "F1": "80.55", "MAE": "0.6061", "Pearson r": "68.28"},
    f"{PAPER}: CTAL large": {"Acc2": "80.77", "F1": "81.01", "MAE": "0.6027", "Pearson r": "68.09"},
}
"""Table 2: row → column of ours → figure."""
BESIDE = (
    f"Columns marked (paper) hold the figures of {PAPER}, Table 2, of one seed. They are defined "
    "as our columns are; its model was trained on 960 hours."
)
EMOTION = {"CTAL base": ("72.86", "73.70"), "CTAL large": ("73.95", "74.63")}
"""Table 1: row → WA and UA in %."""
SESSIONS = 5
THREE = set(LABELS.values())
"""Three of IEMOCAP's four classes."""
HAPPY = set(FOURTH.values())


def is_sentiment(cells: Sequence[Cell]) -> bool:
    """Whether models of text and audio are asked for sentiment as MulT defines its figures.

    An emotion of CMU-MOSEI is a value, too, of as many clips, so the task has to be called
    sentiment.
    """
    return all(
        cell.kind == "value"
        and "sentiment" in cell.task.lower()
        and "derived" in cell.metrics
        and "orthogonal" in cell.recipe
        for cell in cells
    )


def on_emotion(cells: Sequence[Cell]) -> tuple[str, ...]:
    """What is to be said of the paper's Table 1 beside means over folds of IEMOCAP's sessions.

    Args:
        cells: of single folds of one task.
    """
    first = cells[0]
    fourth = set(first.outputs) - THREE
    if len(first.outputs) != 4 or len(fourth) != 1 or not fourth <= HAPPY:
        return ()
    if len({cell.fold for cell in cells}) != SESSIONS or "orthogonal" not in first.recipe:
        return ()
    if any(cell.recipe.get("selection") != "best-test" for cell in cells):
        return (
            f"The figures of {PAPER} (Table 1) are not put beside these: their epochs were "
            "selected on the test itself. --selection best-test repeats that.",
        )
    told = "; ".join(f"{name} WA {wa}, UA {ua}" for name, (wa, ua) in EMOTION.items())
    return (
        f"{PAPER} (Table 1) print as means over five sessions, with epochs selected on the test: "
        f"{told}. They do not say whether excited turns are merged with happy ones; here the class "
        f"is {fourth.pop()!r}. WA is accuracy, UA balanced accuracy.",
    )


def on_speakers(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Why the paper's Table 3 does not stand beside equal error rates of pairs."""
    if any(cell.kind != "speaker" or "orthogonal" not in cell.recipe for cell in cells):
        return ()
    return (
        f"The rates of {PAPER} (Table 3) are not put beside these: their code averages rates of "
        "four speakers at a time against means of 25 clips, which gives a fraction of this figure "
        "for the same vectors.",
    )
