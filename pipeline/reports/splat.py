"""SPLAT's Tables 3 and 4: its published figures beside ours, and how alike clips' vectors are.

Source: Chung, Zhu and Zeng 2021 (arXiv:2010.02295), Tables 2 and 3. A published figure stands only
beside a task of the same name in everything that the paper states: number of classes, utterances
per split, size of the module. What it does not state (the split itself, the features) is said.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.finetuning.cells import Cell, Pretrained
from pipeline.foundation.errors import Damaged
from pipeline.reports.columns import Stat
from pipeline.reports.formats import NOTHING, listed
from pipeline.reports.page import Section
from pipeline.reports.retrieval import record_of

AUDIO_MOSEI = "mosei-audio"
"""Name of the data when `finetune audio --task` asks CMU-MOSEI's tasks."""
PARAMETERS = (21_000_000, 24_500_000)
"""Of three layers of 768 with 12 heads and their positions, for any stacking of frames."""


@dataclass(frozen=True)
class PapersTask:
    """A task of the paper.

    Attributes:
        name: as the paper has it.
        classes: their number.
        thousands: utterances to train on, to validate and to test, in thousands as printed.
        accuracy: by the variants of an objective, as printed.
    """

    name: str
    classes: int
    thousands: tuple[str, str, str]
    accuracy: Mapping[str, str]

    def is_asked_in(self, cell: Cell) -> bool:
        """Whether a cell's task has the paper's classes and sizes."""
        sizes = tuple(
            f"{cell.splits.get(split, 0) / 1000:.1f}" for split in ("train", "valid", "test")
        )
        return (
            cell.kind == "classes"
            and len(cell.outputs) == self.classes
            and sizes == self.thousands
            and cell.made_split_seed is None
        )


TASKS = (
    PapersTask(
        "Fluent Speech Commands",
        31,
        ("23.1", "3.1", "3.8"),
        {
            "fresh": "Scratch 97.6",
            "masked-audio": "Speech 99.5",
            "splat-seq": "Seq 99.5, Seq-MLM 99.5",
            "splat-tok": "Tok 99.2, Tok-MLM 99.2",
        },
    ),
    PapersTask(
        "Switchboard dialogue acts",
        42,
        ("97.8", "8.6", "2.5"),
        {
            "fresh": "Scratch 65.8",
            "masked-audio": "Speech 67.5",
            "splat-seq": "Seq 74.6, Seq-MLM 76.3",
            "splat-tok": "Tok 71.2, Tok-MLM 72.7",
        },
    ),
)
HEADER = ("encoder", "task", "best constant answer", "accuracy", "published")
METRICS = ("majority_rate", "accuracy")
LIKENESS = ("average", "nearest_text", "average_other_text", "nearest_other_text")
BY_SPEECH = ("closest", "closest_other_text")
"""What runs of before recorded instead: of the clip whose vector is nearest, whatever its text."""
GEOMETRY_HEADER = (
    *("encoder", "vectors of", "S_avg", "S_closest", "difference"),
    *("S_avg, other texts", "S_closest, other texts"),
)


def published(cells: Sequence[Cell]) -> list[Section]:
    """The paper's figures beside ours on equal tasks and sizes; nothing where there are none."""
    rows: list[tuple[str, ...]] = []
    for task in TASKS:
        mine = [cell for cell in cells if task.is_asked_in(cell)]
        seeds = len({cell.seed for cell in mine})
        for label in dict.fromkeys(cell.label for cell in mine):
            some = [cell for cell in mine if cell.label == label]
            figure = task.accuracy.get(_kind(some[0].checkpoint), "")
            constant, accuracy = (
                Stat.of([cell.figure((name,)) for cell in some]) for name in METRICS
            )
            if figure and _has_papers_size(some[0].checkpoint):
                shown = _percent(constant), _percent(accuracy, seeds)
                rows.append((label, task.name, *shown, figure))
    notes = []
    if rows:
        notes.append(
            "The paper's module was trained on 360 hours of LibriSpeech with Kaldi's log-mel, and "
            "its figures are means of three runs without σ. Whether a text encoder was adapted "
            "first (-MLM) is not in our record, so both figures stand there."
        )
    if any(cell.data["name"] == AUDIO_MOSEI for cell in cells):
        notes.append(
            "CMU-MOSEI: no figure of the paper stands beside ours. Its 74.7 % is called 7-class, "
            "but its baseline of 75.9 is a figure of two classes, whose best constant answer is "
            "71.0 %."
        )
    if not notes:
        return []
    grid = (HEADER, *rows) if rows else ()
    return [Section("SPLAT's published figures (Table 3)", grid=grid, notes=tuple(notes))]


def _kind(encoder: Pretrained) -> str:
    """The paper's kind of variant that an encoder is; empty for a control or another encoder."""
    if encoder.source.startswith("fresh:"):
        return "fresh"
    return "" if encoder.is_control else encoder.objective or ""


def _has_papers_size(encoder: Pretrained) -> bool:
    least, most = PARAMETERS
    return least <= encoder.parameters <= most


def _percent(stat: Stat | None, seeds: int = 0) -> str:
    if stat is None:
        return "–"
    spread = f" ± {100 * stat.sigma:.1f}" if stat.sigma is not None else ""
    few = f" ({stat.count} of {seeds})" if stat.count < seeds else ""
    return f"{100 * stat.mean:.1f}{spread} %{few}"


def geometry(encoders: Iterable[Pretrained]) -> list[Section]:
    """How alike clips of held-out speakers are in each encoder, and those with the nearest texts.

    Raises:
        Damaged: a run's record of it is not of its form.
    """
    rows: list[tuple[str, ...]] = []
    before: list[str] = []
    for encoder in encoders:
        for way, figures in (record_of(encoder.source).get("geometry") or {}).items():
            if isinstance(figures, Mapping) and BY_SPEECH[0] in figures:
                before.append(encoder.label)
                figures = {name: figures.get(name) for name in LIKENESS}
            is_other = encoder.label in before
            shown = _figures(figures, encoder.source, some=is_other)
            rows.append((encoder.label, str(way), *shown))
    if not rows:
        return []
    text = (
        "Mean cosine between the vectors of any two held-out clips (S_avg, Eq. 4), and between a "
        "clip and the one whose text is nearest to its own by the text encoder (S_closest, Eq. 5). "
        "centred takes the mean vector away first; other texts leaves out pairs of equal texts, "
        "which are near because of their words alone.",
    )
    notes = [
        "A module that gives every clip the same vector has 1 for both. So only the difference "
        "counts, beside that of the control (shuffled, relabelled) and of the text itself.",
        "The paper's Table 4 is of LibriSpeech's dev-clean with its own modules, so none of its "
        "figures stands here.",
    ]
    if before:
        notes.append(
            f"{listed(list(dict.fromkeys(before)))}: the run recorded S_closest of the clips whose "
            "vectors are nearest, which is another measure, so it does not stand here. The same "
            "alignment again with another --out records Eq. 5."
        )
    title = "How alike clips with like texts are (SPLAT, Table 4)"
    return [Section(title, text, (GEOMETRY_HEADER, *rows), tuple(notes))]


def _figures(figures: Any, source: str, *, some: bool) -> tuple[str, ...]:
    """The figures as text; with `some` only the averages, and dashes for the others."""
    names = LIKENESS[::2] if some else LIKENESS
    values = [figures.get(name) if isinstance(figures, Mapping) else None for name in names]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values):
        raise Damaged(f"{source}/run.json: its geometry is not of the form that a run writes.")
    if some:
        average, average_other = numbers
        return f"{average:.3f}", NOTHING, NOTHING, f"{average_other:.3f}", NOTHING
    average, nearest, average_other, nearest_other = numbers
    return (
        *(f"{average:.3f}", f"{nearest:.3f}", f"{nearest - average:+.3f}"),
        *(f"{average_other:.3f}", f"{nearest_other:.3f}"),
    )
