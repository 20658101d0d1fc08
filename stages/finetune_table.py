"""Fine-tune encoders on any table of texts with one label each, or one per word."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from pipeline.finetuning.settings import CellSettings, FinetuneSettings
from pipeline.finetuning.table import TableData
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import like
from pipeline.tasks.mosei.names import TASK_NAMES

if TYPE_CHECKING:
    from pipeline.tasks.task import Question


@dataclass(frozen=True, kw_only=True)
class TableSettings(FinetuneSettings, TableData):
    """Settings of `speechkd finetune table`."""

    selection: Literal["last", "best-valid"] = like(CellSettings, "selection")
    kind: Literal["classes", "value", "words"] = like(
        TableData,
        "kind",
        help="Whether the labels are classes or numbers, or 0 or 1 for each word of the text: as "
        "many, with blanks between them, as the text has words between its blanks, and - for a "
        "word that is not asked of.",
    )

    def check(self) -> None:
        """Refuse vectors of clips where words are asked of."""
        super().check()
        if self.kind == "words" and self.teacher_cache:
            raise SpeechkdError(
                "--teacher-cache shows vectors of whole clips, and --kind words asks of single "
                "words; leave it out."
            )

    def questions(self) -> "Sequence[Question]":
        """What is asked of every encoder."""
        return self.read(TASK_NAMES).questions


def run(settings: TableSettings) -> None:
    """Fine-tune encoders on any table of texts and labels, as `finetune mosei` does on CMU-MOSEI.

    With --kind words each word of a text has a label, 0 or 1. Answers are ranked (average
    precision), called yes or no (F1), and the highest word of each text is looked at (top-1);
    beside them stand a constant answer and what the word alone tells.

    Example: speechkd finetune table sarcasm_data.json --text-column utterance --label-column
    sarcasm --id-column id --group-column speaker --checkpoint runs/crd --out results
    """
    from pipeline.finetuning.grid import Grid
    from pipeline.finetuning.inputs import TextInputs, load_text
    from pipeline.finetuning.word_inputs import WordInputs
    from pipeline.foundation.progress import say
    from pipeline.reports.running import finetune_and_show
    from pipeline.tasks.duplicates import with_repetitions

    table, name = settings.read(TASK_NAMES), settings.title
    for note in table.notes:
        say(f"{name}: {note}")
    texts, recipe = [row.text for row in table.rows], settings.recipe()
    questions = with_repetitions(table.questions, texts)
    settings.check_selection(settings.selection, questions)
    grid = Grid(
        ids=[row.id for row in table.rows],
        groups=[row.group for row in table.rows],
        load=partial(
            load_text,
            partial(WordInputs.of_words, table.words, recipe)
            if settings.kind == "words"
            else partial(TextInputs.of, texts, recipe),
        ),
        questions=questions,
        seeds=parse_seeds(settings.seeds),
        recipe=recipe,
        data={
            "name": name,
            "sha256": table.sha256,
            "split": settings.split(),
            **({"kind": "words"} if settings.kind == "words" else {}),
        },
    )
    finetune_and_show(settings, grid, has_folds=settings.has_folds)


COMMANDS = {"finetune table": (TableSettings, run)}
