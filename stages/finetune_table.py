"""Fine-tune encoders on any table of texts with one label each, or one per word."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.finetuning.settings import DATA, FinetuneSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import setting
from pipeline.tasks.mosei.names import TASK_NAMES

if TYPE_CHECKING:
    from pipeline.tasks.labelled import Labelled


@dataclass(frozen=True, kw_only=True)
class TableSettings(FinetuneSettings):
    """Settings of `speechkd finetune table`."""

    data: list[str] = setting(
        help=(
            "The table: CSV, TSV, JSON lines, Parquet, or JSON (a list of objects, or an object "
            "of objects, whose keys become the column id). Several files make one table; "
            "train=FILE, valid=FILE and test=FILE say which split each is."
        ),
        argument=True,
    )
    text_column: str = setting("text", help="Column of the texts.", panel=DATA)
    label_column: str = setting("label", help="Column of the labels.", panel=DATA)
    id_column: str = setting("", help="Column that names each row.", panel=DATA)
    group_column: str = setting(
        "",
        help="Column of what must stay together in one split, such as the speaker.",
        panel=DATA,
    )
    split_column: str = setting(
        "",
        help="Column of the split (train, valid, test); without it a split of 70/10/20 % is made.",
        panel=DATA,
    )
    split_seed: int = setting(
        0, help="Seed of a made split, and of dealing to --folds.", minimum=0, panel=DATA
    )
    fold_column: str = setting(
        "",
        help="Column whose values are left out in turn, such as the session or the speaker: one "
        "fold per value, in which that value is the test. It takes the place of a split.",
        panel=DATA,
    )
    folds: int = setting(
        0,
        help="Deal the values of --fold-column (without it, of --group-column, or the rows) to "
        "this many folds; 0 for one fold per value.",
        unit="folds",
        minimum=0,
        panel=DATA,
    )
    fold_validation: Literal["none", "next"] = setting(
        "none",
        help="What of a fold validates: nothing, or the part that the next fold tests. It is never "
        "the test; --selection best-valid needs next.",
        panel=DATA,
    )
    drop_duplicates: bool = setting(
        False,
        help="Leave out all but one of the texts that differ in case and punctuation at most; one "
        "in the test stays rather than one in training.",
        panel=DATA,
    )
    kind: Literal["classes", "value", "words"] = setting(
        "classes",
        help="Whether the labels are classes or numbers, or 0 or 1 for each word of the text: as "
        "many, with blanks between them, as the text has words between its blanks, and - for a "
        "word that is not asked of.",
        panel=DATA,
    )

    def check(self) -> None:
        """Refuse a grid without a table, and validation by what does not validate."""
        super().check()
        if not self.data:
            raise SpeechkdError("DATA is empty; name at least one file.")
        if self.kind == "words" and self.teacher_cache:
            raise SpeechkdError(
                "--teacher-cache shows vectors of whole clips, and --kind words asks of single "
                "words; leave it out."
            )
        if self.fold_validation != "none" and not (self.fold_column or self.folds):
            raise SpeechkdError("--fold-validation needs --fold-column or --folds.")

    @property
    def has_folds(self) -> bool:
        """Whether each question is asked once per fold."""
        return bool(self.fold_column or self.folds)

    def read(self) -> "Labelled":
        """The table's texts and labels in their splits or folds."""
        from pipeline.tasks.labelled import Division, read_labelled
        from pipeline.tasks.labelled_rows import LabelColumns, Source

        columns = LabelColumns(
            text=self.text_column,
            label=self.label_column,
            id=self.id_column,
            group=self.group_column,
            split=self.split_column,
            fold=self.fold_column,
        )
        division = Division(
            seed=self.split_seed,
            folds=self.folds,
            validation=self.fold_validation,
            drop_duplicates=self.drop_duplicates,
        )
        sources = [Source.of(written) for written in self.data]
        return read_labelled(sources, columns, self.kind, division, reserved=TASK_NAMES)

    def split(self) -> dict[str, Any]:
        """How the rows are divided, as results record it."""
        from pipeline.tasks.labelled_rows import Source

        if self.has_folds:
            return {
                "origin": "folds",
                "seed": self.split_seed,
                "of": self.fold_column or self.group_column or "row",
                "validation": self.fold_validation,
            }
        if self.split_column or any(Source.of(written).split for written in self.data):
            return {"origin": "given", "seed": None}
        return {"origin": "made", "seed": self.split_seed}


def run(settings: TableSettings) -> None:
    """Fine-tune encoders on any table of texts and labels, as `finetune mosei` does on CMU-MOSEI.

    With --kind words each word of a text has a label, 0 or 1. Answers are ranked (average
    precision), called yes or no (F1), and the highest word of each text is looked at (top-1);
    beside them stand a constant answer and what the word alone tells.

    Example: speechkd finetune table sarcasm_data.json --text-column utterance --label-column
    sarcasm --id-column id --group-column speaker --checkpoint runs/crd --out results
    """
    from pipeline.finetuning.grid import Grid, dry_run, finetune
    from pipeline.finetuning.inputs import TextInputs
    from pipeline.finetuning.word_inputs import WordInputs
    from pipeline.foundation.progress import say
    from pipeline.reports.cells import whole_tests
    from pipeline.reports.tables import summary
    from pipeline.tasks.duplicates import with_repetitions

    table = settings.read()
    name = " + ".join(Path(written).name for written in settings.data)
    for note in table.notes:
        say(f"{name}: {note}")
    texts, recipe = [row.text for row in table.rows], settings.recipe()
    questions = with_repetitions(table.questions, texts)
    if settings.selection == "best-valid" and not all(q.counts["valid"] for q in questions):
        raise SpeechkdError(
            f"{name}: --selection best-valid needs rows in split valid"
            + ("; add --fold-validation next." if settings.has_folds else ".")
        )
    grid = Grid(
        ids=[row.id for row in table.rows],
        groups=[row.group for row in table.rows],
        inputs_for=partial(WordInputs.of_words, table.words, recipe)
        if settings.kind == "words"
        else partial(TextInputs.of, texts, recipe),
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
    if settings.dry_run:
        for name in dry_run(settings, grid):
            print(name)
    else:
        cells = finetune(settings, grid)
        print(summary(whole_tests(settings.out) if settings.has_folds else cells), end="")


COMMANDS = {"finetune table": (TableSettings, run)}
