"""Fine-tune encoders on CMU-MOSEI's text and score them: a cell per checkpoint, task and seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.finetuning.settings import DATA, GRID, CellSettings, FinetuneSettings, ValueScale
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import like, setting
from pipeline.tasks.mosei.names import SCALE_HELP, SENTIMENT_CLASSES, TaskName, parse_scale

if TYPE_CHECKING:
    from pipeline.tasks.mosei.clips import MoseiClips
    from pipeline.tasks.task import Question


@dataclass(frozen=True, kw_only=True)
class MoseiSettings(FinetuneSettings):
    """Settings of `speechkd finetune mosei`."""

    data: Path = setting(
        help=(
            "CMU-MOSEI: MMSA's label.csv, a tidy table (CSV, TSV, JSON lines, Parquet), the label "
            ".csd, or anything else that `speechkd mosei convert` reads."
        ),
        panel=DATA,
    )
    task: list[TaskName] = setting(
        [*SENTIMENT_CLASSES, "sentiment"],
        help="Tasks to fine-tune for; the default is those of the paper's Tables 1 and 2.",
        panel=GRID,
    )
    scheme: Literal["paper", "mult"] = setting(
        "paper",
        help=(
            "Classes of sentiment: paper (sign and ceiling, a classifier per class count) or mult "
            "(one regression, rounded, as in MulT and MMSA)."
        ),
        origin="assumed",
        panel=DATA,
    )
    text: Path | None = setting(
        None,
        help=(
            "Source of the texts, for label files that have none, as for `speechkd mosei convert`; "
            "by default what lies beside a .csd."
        ),
        panel=DATA,
    )
    folds: Path | None = setting(
        None, help="List of which video is in which split, in place of the file's own.", panel=DATA
    )
    allow_pickle: bool = setting(
        False, help="Accept pickles; they are read as data only.", panel=DATA
    )
    split: Literal["given", "made"] = setting(
        "given",
        help=(
            "Use the data's own split, or make one: 70/10/20 % by video, from the clips that have "
            "the labels of every task asked for."
        ),
        panel=DATA,
    )
    split_seed: int = setting(0, help="Seed of a made split.", minimum=0, panel=DATA)
    label_scale: str = setting("", help=SCALE_HELP, panel=DATA)
    drop_duplicates: bool = setting(
        False,
        help="Leave out all but one of the clips whose texts differ in case and punctuation at "
        "most; one in the test stays rather than one in training.",
        panel=DATA,
    )

    selection: Literal["last", "best-valid"] = like(CellSettings, "selection")
    value_scale: ValueScale = like(CellSettings, "value_scale", "raw")

    def check(self) -> None:
        """Refuse a scale that is none."""
        super().check()
        parse_scale(self.label_scale)

    def questions(self) -> "Sequence[Question]":
        """What is asked of every encoder."""
        return self.ask(self.read())[1]

    def read(self) -> "MoseiClips":
        """The clips of the data, with their texts and folds."""
        from pipeline.tasks.mosei.reading import read_mosei

        return read_mosei(
            self.data,
            text=self.text,
            folds=self.folds,
            allow_pickle=self.allow_pickle,
            own_split=self.split == "given",
            scale=parse_scale(self.label_scale),
        )

    def ask(self, corpus: "MoseiClips") -> "tuple[MoseiClips, list[Question]]":
        """The clips in the split that was asked for, and each task with their labels."""
        from pipeline.tasks.duplicates import with_repetitions
        from pipeline.tasks.mosei.questions import (
            questions,
            trained_tasks,
            with_made_split,
            without_duplicates,
        )

        tasks = trained_tasks(self.task, self.scheme)
        if self.drop_duplicates:
            corpus = without_duplicates(corpus, own_split=self.split == "given")
        if self.split == "made":
            corpus = with_made_split(corpus, tasks, self.split_seed)
        needed = ["train", "test"] + (["valid"] if self.selection == "best-valid" else [])
        texts = [clip.text for clip in corpus.clips]
        return corpus, with_repetitions(questions(corpus, tasks, needed), texts)


def run(settings: MoseiSettings) -> None:
    """Fine-tune encoders on CMU-MOSEI and write results and predictions.

    One cell is a checkpoint, a task and a seed. A finished cell is kept and never run again, so
    an interrupted command carries on where it stopped, and several commands may share a folder.

    Example: speechkd finetune mosei --data label.csv --checkpoint runs/none
    --checkpoint runs/crd --task sentiment7,sentiment --seeds 0-4 --out results
    """
    from pipeline.finetuning.grid import Grid
    from pipeline.finetuning.inputs import TextInputs, load_text
    from pipeline.foundation.progress import say
    from pipeline.reports.running import finetune_and_show

    corpus, questions = settings.ask(settings.read())
    for what, count in corpus.notes.items():
        say(f"{settings.data.name}: {what}: {count:,}")
    seed = settings.split_seed if settings.split == "made" else None
    split = {"origin": settings.split, "seed": seed}
    texts, recipe = [clip.text for clip in corpus.clips], settings.recipe()
    grid = Grid(
        ids=[clip.id for clip in corpus.clips],
        groups=[clip.video_id for clip in corpus.clips],
        load=partial(load_text, partial(TextInputs.of, texts, recipe)),
        questions=questions,
        seeds=parse_seeds(settings.seeds),
        recipe=recipe,
        data={"name": "mosei", "sha256": corpus.sha256, "split": split},
    )
    finetune_and_show(settings, grid)


COMMANDS = {"finetune mosei": (MoseiSettings, run)}
