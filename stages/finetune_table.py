"""Fine-tune encoders on any table of texts with one label each."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pipeline.finetuning.settings import DATA, FinetuneSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import setting
from pipeline.tasks.mosei.names import TASK_NAMES


@dataclass(frozen=True, kw_only=True)
class TableSettings(FinetuneSettings):
    """Settings of `speechkd finetune table`."""

    data: Path = setting(
        help=(
            "The table: CSV, TSV, JSON lines, Parquet, or JSON (a list of objects, or an object "
            "of objects, whose keys become the column id)."
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
    split_seed: int = setting(0, help="Seed of a made split.", minimum=0, panel=DATA)
    kind: Literal["classes", "value"] = setting(
        "classes", help="Whether the labels are classes or numbers.", panel=DATA
    )


def run(settings: TableSettings) -> None:
    """Fine-tune encoders on any table of texts and labels, as `finetune mosei` does on CMU-MOSEI.

    Example: speechkd finetune table sarcasm_data.json --text-column utterance --label-column
    sarcasm --id-column id --group-column speaker --checkpoint runs/crd --out results
    """
    from pipeline.finetuning.grid import Grid, dry_run, finetune
    from pipeline.finetuning.inputs import TextInputs
    from pipeline.foundation.progress import say
    from pipeline.reports.tables import summary
    from pipeline.tasks.labelled import LabelColumns, read_labelled

    columns = LabelColumns(
        settings.text_column,
        settings.label_column,
        settings.id_column,
        settings.group_column,
        settings.split_column,
    )
    table = read_labelled(
        settings.data, columns, settings.kind, settings.split_seed, reserved=TASK_NAMES
    )
    if table.skipped:
        say(f"{settings.data.name}: {table.skipped:,} rows without text or label, left out")
    question = table.question
    if settings.selection == "best-valid" and not question.counts["valid"]:
        raise SpeechkdError(f"{settings.data}: --selection best-valid needs rows in split valid.")
    split: dict[str, Any] = {"origin": "made", "seed": settings.split_seed}
    if settings.split_column:
        split = {"origin": "given", "seed": None}
    texts, recipe = [row.text for row in table.rows], settings.recipe()
    grid = Grid(
        ids=[row.id for row in table.rows],
        groups=[row.group for row in table.rows],
        inputs_for=partial(TextInputs.of, texts, recipe),
        questions=[question],
        seeds=parse_seeds(settings.seeds),
        recipe=recipe,
        data={"name": settings.data.name, "sha256": table.sha256, "split": split},
    )
    if settings.dry_run:
        for name in dry_run(settings, grid):
            print(name)
    else:
        print(summary(finetune(settings, grid)), end="")


COMMANDS = {"finetune table": (TableSettings, run)}
