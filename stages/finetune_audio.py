"""Fine-tune speech encoders on a table of labels for clips of speech."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.finetuning.settings import DATA, MACHINE, RECIPE, CellSettings
from pipeline.finetuning.table import TableData
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import like, setting
from pipeline.tasks.mosei.names import TASK_NAMES, TaskName

if TYPE_CHECKING:
    from pipeline.finetuning.audio_inputs import AudioClips
    from pipeline.tasks.task import Question

PAPERS_MOSEI = (
    "NOTE: SPLAT's 74.7 % is called 7-class, but its baseline of 75.9 is a figure of two classes, "
    "whose best constant answer is 71.0 %. It stands beside none of these tasks"
)
LABELS_OF_A_TABLE = (
    *("label_column", "kind", "text_column", "group_column", "split_column", "fold_column"),
    *("folds", "drop_duplicates", "group_per_file", "id_column", "split_seed"),
)
"""Settings that say where a table's labels and splits are; CMU-MOSEI has its own."""


@dataclass(frozen=True)
class Asked:
    """What is asked of every encoder.

    Attributes:
        ids: of the rows, unique.
        keys: of their clips in the cache.
        groups: what each row belongs to.
        questions: with their labels.
        notes: sentences on what was left out, how often, and what must be known.
        data: what the results say of the data.
    """

    ids: Sequence[str]
    keys: Sequence[str]
    groups: Sequence[str]
    questions: "Sequence[Question]"
    notes: Sequence[str]
    data: dict[str, Any]


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
    task: list[TaskName] = setting(
        [],
        help="Tasks of CMU-MOSEI: DATA is then one of the files that speechkd mosei convert reads "
        "or writes, with labels and splits of its own, and keys are VIDEO[CLIP].",
        panel=DATA,
    )
    kind: Literal["classes", "value"] = like(TableData, "kind")
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

        defaults = {f.name: f.default for f in fields(self)}
        given = [name for name in LABELS_OF_A_TABLE if getattr(self, name) != defaults[name]]
        if self.task and given:
            raise SpeechkdError(
                f"--{given[0].replace('_', '-')} is for tables, and --task reads CMU-MOSEI, whose "
                "labels and splits are its own. Leave one of them out."
            )
        if self.task and (len(self.data) != 1 or "=" in self.data[0]):
            raise SpeechkdError("--task reads CMU-MOSEI from one file; name that alone as DATA.")

    def questions(self) -> "Sequence[Question]":
        """What is asked of every encoder."""
        return self.ask()[0].questions

    def ask(self) -> "tuple[Asked, AudioClips]":
        """The rows whose clips the cache has, and those clips."""
        from pipeline.finetuning.audio_inputs import AudioClips

        clips = AudioClips.open(self.cache, self.prepared)
        return (self._ask_mosei(clips) if self.task else self._ask_table(clips)), clips

    def _ask_table(self, clips: "AudioClips") -> Asked:
        from pipeline.tasks.duplicates import with_repetitions

        table = self.read(TASK_NAMES, only=clips.place_of.keys())
        questions = table.questions
        if self.text_column:
            questions = with_repetitions(questions, [row.text for row in table.rows])
        return Asked(
            ids=[row.id for row in table.rows],
            keys=[row.key for row in table.rows],
            groups=[row.group for row in table.rows],
            questions=questions,
            notes=table.notes,
            data={"name": self.title, "sha256": table.sha256, "split": self.split()},
        )

    def _ask_mosei(self, clips: "AudioClips") -> Asked:
        from pipeline.tasks.duplicates import with_repetitions
        from pipeline.tasks.mosei.questions import questions, trained_tasks
        from pipeline.tasks.mosei.reading import read_mosei

        corpus = read_mosei(Path(self.data[0]))
        here = tuple(clip for clip in corpus.clips if clip.id in clips.place_of)
        without = len(corpus.clips) - len(here)
        if not here:
            raise SpeechkdError(
                f"{self.cache}: none of the {without:,} labelled clips of {corpus.source} is in "
                f"it. Their keys are such as {corpus.clips[0].id!r}; those of the cache are such "
                f"as {next(iter(clips.place_of), 'none')!r}. Make its shards from the table of "
                "speechkd mosei convert --audio."
            )
        corpus = replace(corpus, clips=here)
        notes = [f"{what}: {count:,}" for what, count in corpus.notes.items()]
        if without:
            notes.append(f"labelled clips that the cache does not have, left out: {without:,}")
        needed = ["train", "test"] + (["valid"] if self.selection == "best-valid" else [])
        asked = questions(corpus, trained_tasks(self.task, "paper"), needed)
        return Asked(
            ids=[clip.id for clip in here],
            keys=[clip.id for clip in here],
            groups=[clip.video_id for clip in here],
            questions=with_repetitions(asked, [clip.text for clip in here]),
            notes=[*notes, PAPERS_MOSEI],
            data={
                "name": "mosei-audio",
                "sha256": corpus.sha256,
                "split": {"origin": "given", "seed": None},
            },
        )


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

    asked, clips = settings.ask()
    for note in asked.notes:
        say(f"{settings.title}: {note}")
    if unlabelled := len(clips.place_of) - len({*asked.keys}):
        say(f"{settings.cache}: clips without a label that can be used, left out: {unlabelled:,}")
    settings.check_selection(settings.selection, asked.questions)
    recipe = settings.recipe()
    grid = Grid(
        ids=asked.ids,
        groups=asked.groups,
        load=partial(clips.load, asked.keys, recipe.pooling),
        questions=asked.questions,
        seeds=parse_seeds(settings.seeds),
        recipe=recipe,
        data={**asked.data, "cache_sha256": clips.cache.digest()},
    )
    finetune_and_show(settings, grid, has_folds=settings.has_folds)


COMMANDS = {"finetune audio": (AudioSettings, run)}
