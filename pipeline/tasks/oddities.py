"""Warnings of what is allowed in a table of labels, and most likely wrong."""

import re
from collections.abc import Sequence

from pipeline.foundation.progress import counted
from pipeline.foundation.tables import read_rows
from pipeline.tasks.folds import Fold
from pipeline.tasks.labelled_rows import LabelColumns, LabelledText, Source
from pipeline.tasks.labels import alike
from pipeline.tasks.splits import split_in_name

SPLIT_COLUMNS = ("split", "mode", "set", "subset", "partition", "fold")
"""What tables call the column of their own split."""

GROUP_COLUMNS = (
    *("speaker", "speaker_id", "spk", "spk_id", "client_id", "recording", "recording_id"),
    *("session", "dialogue", "dialogue_id", "conversation", "conversation_id", "video", "video_id"),
)
"""What tables call the column of what several rows share beside their label."""

MOST_NAMED = 5
MOST_FOLDS = 3
_MARKS = re.compile(r"[01-]( [01-])+")


def odd_of_table(sources: Sequence[Source], columns: LabelColumns, *, divided: bool) -> list[str]:
    """Warnings of a split that is made although the table, or its files, seem to have one.

    Args:
        sources: the files of the table.
        columns: which column is what.
        divided: whether the table itself says how its rows are divided.
    """
    if divided:
        return []
    warnings = []
    for source in sources if len(sources) > 1 else ():
        if split := split_in_name(source.path.stem):
            warnings.append(
                f"WARNING: {source.path.name} seems to be the split {split}, but a split is made "
                f"of all files together; write {split}={source.path} if it is"
            )
    names, _ = read_rows(sources[0].path)
    unused = [name for name in names if name not in vars(columns).values()]
    if own := next((name for name in unused if name.lower() in SPLIT_COLUMNS), ""):
        warnings.append(
            f"WARNING: the rows are divided here, and the table has a column {own}; "
            f"--split-column {own} takes the table's own split"
        )
    group = next((name for name in unused if name.lower() in GROUP_COLUMNS), "")
    if group and not columns.group:
        warnings.append(
            f"WARNING: the rows are divided one by one, so that rows of one {group} are trained on "
            f"and tested; --group-column {group} keeps them together"
        )
    return warnings


def odd_of_classes(rows: Sequence[LabelledText], folds: Sequence[Fold]) -> list[str]:
    """Warnings of classes that are hardly meant so, or cannot be learnt."""
    labels = [row.label for row in rows]
    warnings = [
        f"WARNING: classes whose names differ in case or spaces only: {names}"
        for names in alike(labels)
    ]
    if all(_MARKS.fullmatch(label) or label in ("0", "1") for label in labels) and any(
        " " in label for label in labels
    ):
        warnings.append(
            "WARNING: the labels look like a mark for each word, and each row of marks is taken "
            "for a class; --kind words asks of each word"
        )
    unlearnt = [warning for fold in folds if (warning := _unlearnt(labels, fold))]
    warnings += unlearnt[:MOST_FOLDS]
    if len(unlearnt) > MOST_FOLDS:
        further = counted(len(unlearnt) - MOST_FOLDS, "more fold")
        warnings.append(f"WARNING: so it is in {further}")
    return warnings


def _unlearnt(labels: Sequence[str], fold: Fold) -> str:
    """A warning of classes that the test of a fold has and its training does not, or nothing."""
    trained = {x for x, split in zip(labels, fold.splits, strict=True) if split == "train"}
    tested = {x for x, split in zip(labels, fold.splits, strict=True) if split == "test"}
    where = f"WARNING: fold {fold.name}: " if fold.name else "WARNING: "
    if len(trained) == 1:
        return f"{where}all training rows are {min(trained)!r}, so nothing can be learnt"
    strange = sorted(tested - trained)
    if not strange:
        return ""
    names = ", ".join(strange[:MOST_NAMED]) + (" …" if len(strange) > MOST_NAMED else "")
    several = "class" if len(strange) == 1 else "classes"
    return f"{where}no training row has the {several} {names} of the test"
