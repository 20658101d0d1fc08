"""Fine-tune speech encoders on a table of labels for clips of speech."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.finetuning.settings import DATA, MACHINE, RECIPE, CellSettings
from pipeline.finetuning.table import TableData
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import like, setting
from pipeline.tasks.mosei.names import TASK_NAMES

if TYPE_CHECKING:
    from pipeline.finetuning.audio_inputs import AudioClips
    from pipeline.tasks.labelled import Labelled


@dataclass(frozen=True, kw_only=True)
class AudioSettings(CellSettings, TableData):
    """Settings of `speechkd finetune audio`."""

    cache: str = setting(
        help="The cache of the clips' frames (path or URL), of the front end that the encoders "
        "learnt from. Its keys are the rows' ids.",
        panel=DATA,
    )
    checkpoint: list[str] = like(
        CellSettings,
        "checkpoint",
        help="Speech encoder to fine-tune: a run of speechkd pretrain, fresh:base (the paper's "
        "size, fresh weights) or fresh:RUN (a run's size); NAME=PATH gives it a name for tables. "
        "Repeat it for several.",
    )
    id_column: str = like(
        TableData, "id_column", "id", help="Column of the clips' keys in the cache."
    )
    text_column: str = like(
        TableData,
        "text_column",
        "",
        help="Column of the texts, if there is one: for --drop-duplicates, and to count how many "
        "test texts stand in training. Nothing else reads them.",
    )
    label_column: str = like(
        TableData,
        "label_column",
        help="Column of the labels; several joined by + make one label, such as "
        "action+object+location.",
    )
    seeds: str = like(CellSettings, "seeds", "0-2")
    epochs: int = like(CellSettings, "epochs", 10)
    learning_rate: float = like(CellSettings, "learning_rate", 3e-4)
    batch_size: int = like(CellSettings, "batch_size", 64)
    warmup_fraction: float = like(
        CellSettings, "warmup_fraction", 0.0, help="Share of all steps in which the rate rises."
    )
    head: Literal["tanh", "linear", "mlp512"] = like(CellSettings, "head", "mlp512", origin="paper")
    selection: Literal["last", "best-valid"] = like(
        CellSettings, "selection", "best-valid", origin="paper"
    )
    schedule: Literal["linear", "fixed"] = setting(
        "fixed",
        help="Whether the rate stays after warm-up, or falls linearly to 0.",
        origin="paper",
        panel=RECIPE,
    )
    pooling: Literal["auto", "cls", "mean", "attention"] = setting(
        "auto",
        help="A clip's vector: what stands for it in the encoder (cls), the mean of its frames, or "
        "a learned query over them. auto is attention for encoders that were aligned by token, "
        "because nothing was asked of their first position, else cls, the paper's.",
        panel=RECIPE,
    )
    prepared: Path | None = setting(
        None,
        help="Folder for the statistics of speakers, which are computed once per cache; the "
        "default is CACHE.prepared.",
        panel=MACHINE,
    )

    def check(self) -> None:
        """Refuse to look for equal texts where there are none."""
        super().check()
        if self.drop_duplicates and not self.text_column:
            raise SpeechkdError("--drop-duplicates compares texts: name their --text-column.")
        if not self.id_column:
            raise SpeechkdError("--id-column is empty; it names the clips in the cache.")

    def ask(self) -> "tuple[Labelled, AudioClips]":
        """The rows whose clips the cache has, and those clips."""
        from pipeline.finetuning.audio_inputs import AudioClips

        clips = AudioClips.open(self.cache, self.prepared)
        return self.read(TASK_NAMES, only=clips.place_of.keys()), clips


def run(settings: AudioSettings) -> None:
    """Fine-tune speech encoders on a table of labels for clips, from their cached frames.

    Nothing is decoded: the frames of each row's clip are read from --cache. Rows without a clip,
    and clips without a row, are counted and left out. The recipe is SPLAT's unless you change it.

    Example: speechkd finetune audio labels.csv --cache mels --label-column intent
    --checkpoint Speech=runs/speech --checkpoint Seq=runs/seq --out results
    """
    from pipeline.finetuning.grid import Grid
    from pipeline.foundation.progress import say
    from pipeline.reports.running import finetune_and_show
    from pipeline.tasks.duplicates import with_repetitions

    table, clips = settings.ask()
    for note in table.notes:
        say(f"{settings.title}: {note}")
    if unlabelled := len(clips.place_of) - len({row.key for row in table.rows}):
        say(f"{settings.cache}: clips without a label that can be used, left out: {unlabelled:,}")
    questions = table.questions
    if settings.text_column:
        questions = with_repetitions(questions, [row.text for row in table.rows])
    if settings.selection == "best-valid" and not all(q.counts["valid"] for q in questions):
        raise SpeechkdError(
            f"{settings.title}: --selection best-valid needs rows in split valid"
            + ("; add --fold-validation next," if settings.has_folds else "")
            + " or write --selection last."
        )
    recipe = settings.recipe()
    grid = Grid(
        ids=[row.id for row in table.rows],
        groups=[row.group for row in table.rows],
        load=partial(clips.load, [row.key for row in table.rows], recipe.pooling),
        questions=questions,
        seeds=parse_seeds(settings.seeds),
        recipe=recipe,
        data={
            "name": settings.title,
            "sha256": table.sha256,
            "split": settings.split(),
            "cache_sha256": clips.cache.digest(),
        },
    )
    finetune_and_show(settings, grid, has_folds=settings.has_folds)


COMMANDS = {"finetune audio": (AudioSettings, run)}
