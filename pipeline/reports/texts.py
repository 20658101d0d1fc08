"""What a report says of the texts: in which form they were read, and what encoders do not know."""

from collections.abc import Sequence

from pipeline.finetuning.cells import Cell, Unknown
from pipeline.finetuning.text_form import AS_IS
from pipeline.reports.formats import listed

FORMS = {
    "lower": "in lower case",
    "no-punctuation": "in lower case and without punctuation",
}


def on_texts(cells: Sequence[Cell]) -> list[str]:
    """Remarks on the texts of cells that share a recipe; warnings first."""
    worse: dict[str, list[str]] = {}
    known: list[str] = []
    for label, unknown in unknown_by_label(cells).items():
        if unknown.too_many:
            worse.setdefault(str(unknown), []).append(label)
        else:
            known.append(f"{label} {unknown.percentage}")
    remarks = [
        f"WARNING: to {listed(labels)} {what}. What is unknown is lost to an encoder; "
        "--text-form of finetune can bring texts into the form that it learnt from."
        for what, labels in worse.items()
    ]
    form = str(cells[0].recipe.get("text_form", AS_IS))
    if form != AS_IS:
        remarks.append(
            f"All texts, of training and test, were read {FORMS.get(form, form)} "
            f"(--text-form {form})."
        )
    if known:
        remarks.append(f"Unknown tokens: {', '.join(known)}.")
    return remarks


def unknown_by_label(cells: Sequence[Cell]) -> dict[str, Unknown]:
    """What each encoder's tokenizer does not know, where that was counted."""
    return {cell.label: cell.unknown_tokens for cell in cells if cell.unknown_tokens}
