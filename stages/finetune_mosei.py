"""Fine-tune encoders on CMU-MOSEI's text and judge them, one cell a checkpoint, task and seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.finetuning.settings import DATA, GRID, FinetuneSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import setting

if TYPE_CHECKING:
    from pipeline.finetuning.grid import Grid
    from pipeline.tasks.mosei.clips import Corpus

TaskName = Literal[
    "sentiment7",
    "sentiment5",
    "sentiment3",
    "sentiment2",
    "sentiment2-with-neutral",
    "sentiment",
    "happiness",
    "sadness",
    "anger",
    "surprise",
    "disgust",
    "fear",
    "emotions",
]


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
        [
            "sentiment7",
            "sentiment5",
            "sentiment3",
            "sentiment2",
            "sentiment2-with-neutral",
            "sentiment",
        ],
        help="What to fine-tune for; the default is the paper's Tables 1 and 2.",
        panel=GRID,
    )
    scheme: Literal["paper", "mult"] = setting(
        "paper",
        help=(
            "Classes of sentiment: paper (sign and ceiling, a classifier for each class count) or "
            "mult (one regression, rounded, as MulT and MMSA)."
        ),
        origin="assumed",
        panel=DATA,
    )
    text: Path | None = setting(
        None,
        help=(
            "Texts for labels that come without, as of `speechkd mosei convert`; by default what "
            "stands beside a .csd."
        ),
        panel=DATA,
    )
    folds: Path | None = setting(
        None, help="Which video is in which split, in place of the file's own.", panel=DATA
    )
    allow_pickle: bool = setting(
        False, help="Admit pickles; they are read as data only.", panel=DATA
    )
    split: Literal["given", "made"] = setting(
        "given",
        help=(
            "Use the data's own split, or make one (70/10/20 % by video, of the clips that have "
            "the labels of all tasks asked for)."
        ),
        panel=DATA,
    )
    split_seed: int = setting(0, help="Seed of a made split.", minimum=0, panel=DATA)


def run(settings: MoseiSettings) -> None:
    """Fine-tune encoders on CMU-MOSEI and write results and predictions.

    One cell is a checkpoint, a task and a seed. A finished cell is kept and
    never run again: an interrupted command carries on where it stopped, and
    several may share a folder.

    Example: speechkd finetune mosei --data label.csv --checkpoint runs/none
    --checkpoint runs/crd --task sentiment7,sentiment --seeds 0-4 --out results
    """
    from pipeline.finetuning.grid import finetune
    from pipeline.foundation.progress import say
    from pipeline.tasks.mosei.reading import read_mosei

    corpus = read_mosei(
        settings.data,
        text=settings.text,
        folds=settings.folds,
        allow_pickle=settings.allow_pickle,
        own_split=settings.split == "given",
    )
    for what, count in corpus.notes.items():
        say(f"{settings.data.name}: {what}: {count:,}")
    finetune(settings, mosei_grid(settings, corpus))


def mosei_grid(settings: MoseiSettings, corpus: "Corpus") -> "Grid":
    """What is asked of each encoder."""
    from pipeline.finetuning.grid import Grid, Question, recipe_of
    from pipeline.tasks.mosei.clips import SPLITS, Corpus, made_split
    from pipeline.tasks.mosei.questions import TASKS, raw_labels, targets, trained_task

    names = dict.fromkeys(trained_task(name, settings.scheme) for name in settings.task)
    tasks = [TASKS[name] for name in names]
    if settings.split == "made":
        held = set.intersection(*(set(targets(corpus.clips, task)[0]) for task in tasks))
        clips = [clip for i, clip in enumerate(corpus.clips) if i in held]
        corpus = Corpus(made_split(clips, settings.split_seed), corpus.source, corpus.notes)
    clips = corpus.clips
    questions = []
    for task in tasks:
        places, labels = {}, {}
        for split in SPLITS:
            inside = [i for i, clip in enumerate(clips) if clip.split == split]
            chosen, labels[split] = targets([clips[i] for i in inside], task)
            places[split] = [inside[i] for i in chosen]
        question = Question(
            task, places, labels, raw_labels([clips[i] for i in places["test"]], task)
        )
        _check_counts(question.counts, task.name, settings)
        questions.append(question)
    made = settings.split == "made"
    split = {"origin": settings.split, "seed": settings.split_seed if made else None}
    return Grid(
        ids=[clip.id for clip in clips],
        groups=[clip.video_id for clip in clips],
        texts=[clip.text for clip in clips],
        questions=questions,
        seeds=parse_seeds(settings.seeds),
        recipe=recipe_of(settings),
        data={"name": "mosei", "sha256": corpus.sha256, "split": split},
    )


def _check_counts(counts: dict[str, int], task: str, settings: MoseiSettings) -> None:
    needed = ["train", "test"] + (["valid"] if settings.selection == "best-valid" else [])
    empty = [split for split in needed if not counts[split]]
    if empty:
        held = ", ".join(f"{split} {n:,}" for split, n in counts.items())
        raise SpeechkdError(
            f"{settings.data}: task {task} has no labelled clip in {' and '.join(empty)} "
            f"(clips with that label: {held}). Leave the task out, give data that has its labels, "
            "name the folds with --folds, or let --split made divide the clips that have them."
        )
