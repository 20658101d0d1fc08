"""Fine-tune encoders on CMU-MOSEI's text and judge them, one cell a checkpoint, task and seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.cluster import array_task, stop_on_sigterm
from pipeline.errors import SpeechkdError
from pipeline.settings import Settings, setting

if TYPE_CHECKING:
    import torch

    from pipeline.finetuning import Recipe
    from pipeline.grid import Grid
    from pipeline.mosei.table import Corpus

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

GRID, RECIPE, MACHINE, DATA = "The grid", "The recipe", "The machine", "The data"


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Settings):
    """What every fine-tuning command shares: the grid, the recipe, the machine."""

    checkpoint: list[str] = setting(
        help=(
            "Encoder to fine-tune: a distill run, a Hugging Face encoder folder or a hub id; "
            "NAME=PATH gives it a name for tables. Repeat it for several."
        ),
        panel=GRID,
    )
    seeds: str = setting(
        "0-4",
        help="Seeds of fine-tuning: a range, a list with commas, or both.",
        origin="paper",
        panel=GRID,
    )
    out: Path = setting(help="The results folder; finished cells in it are not run again.")
    array_task: str = setting(
        "",
        help=(
            "I/N: run part I of N (from 0) of the grid; by default what the scheduler's own "
            "variables say, else all of it."
        ),
        panel=GRID,
    )
    dry_run: bool = setting(False, help="Check everything, print the cells, train nothing.")

    epochs: int = setting(
        3, help="Passes over the training split.", minimum=1, origin="paper", panel=RECIPE
    )
    learning_rate: float = setting(
        2e-5, help="Peak learning rate.", minimum=1e-9, origin="paper", panel=RECIPE
    )
    batch_size: int = setting(
        32, help="Clips a step.", unit="clips", minimum=1, origin="paper", panel=RECIPE
    )
    max_tokens: int = setting(
        128,
        help="Longest text; longer ones are cut and counted.",
        unit="tokens",
        minimum=4,
        origin="paper",
        panel=RECIPE,
    )
    pooling: Literal["cls", "mean"] = setting(
        "cls",
        help="A text's vector: its first token's, or the mean of all.",
        origin="assumed",
        panel=RECIPE,
    )
    head: Literal["tanh", "linear"] = setting(
        "tanh",
        help="Fresh head: dense, tanh, dropout, linear (as BERT's own classifier), or linear only.",
        origin="assumed",
        panel=RECIPE,
    )
    warmup_fraction: float = setting(
        0.1,
        help="Part of all steps in which the rate climbs; then it falls linearly to 0.",
        minimum=0,
        maximum=1,
        origin="assumed",
        panel=RECIPE,
    )
    weight_decay: float = setting(
        0.01, help="AdamW's decay of matrices.", minimum=0, origin="assumed", panel=RECIPE
    )
    dropout: float = setting(
        0.1,
        help="Dropout in the head; the encoder keeps its own.",
        minimum=0,
        maximum=0.9,
        origin="assumed",
        panel=RECIPE,
    )
    clip_norm: float = setting(
        1.0,
        help="Largest norm of the gradient; 0 for no limit.",
        minimum=0,
        origin="assumed",
        panel=RECIPE,
    )
    regression_loss: Literal["mse", "l1"] = setting(
        "mse", help="Loss of the regression task.", origin="assumed", panel=RECIPE
    )
    selection: Literal["last", "best-valid"] = setting(
        "last",
        help="Weights that are tested: the last, or of the epoch best on the validation split.",
        origin="assumed",
        panel=RECIPE,
    )

    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", help="Where to train; auto takes a GPU where there is one.", panel=MACHINE
    )
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto",
        help="Arithmetic of the encoder; auto is bf16 on a GPU and fp32 on a CPU.",
        origin="assumed",
        panel=MACHINE,
    )

    def check(self) -> None:
        """Refuse an empty grid and parts that are not there."""
        if not self.checkpoint:
            raise SpeechkdError("--checkpoint is empty; name at least one encoder.")
        parse_seeds(self.seeds)
        array_task(self.array_task)


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
    from pipeline.mosei.reading import read_mosei
    from pipeline.progress import say

    corpus = read_mosei(
        settings.data,
        text=settings.text,
        folds=settings.folds,
        allow_pickle=settings.allow_pickle,
    )
    for what, count in corpus.notes.items():
        say(f"{settings.data.name}: {what}: {count:,}")
    grid, fixed = mosei_grid(settings, corpus)
    run_grid(settings, grid, fixed)


def mosei_grid(settings: MoseiSettings, corpus: "Corpus") -> tuple["Grid", dict[str, Any]]:
    """What is asked of each encoder, and what must not change within a results folder."""
    from pipeline.grid import Grid, Question
    from pipeline.mosei.table import SPLITS, Corpus, made_split
    from pipeline.mosei.tasks import TASKS, raw_labels, targets, trained_task

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
    grid = Grid(
        ids=[clip.id for clip in clips],
        groups=[clip.video_id for clip in clips],
        texts=[clip.text for clip in clips],
        questions=questions,
        seeds=parse_seeds(settings.seeds),
        recipe=recipe(settings),
    )
    made = {
        "origin": settings.split,
        "seed": settings.split_seed if settings.split == "made" else None,
    }
    fixed = {"data": {"name": "mosei", "sha256": corpus.sha256, "split": made}}
    return grid, fixed


def run_grid(settings: FinetuneSettings, grid: "Grid", fixed: dict[str, Any]) -> None:
    """Run this process's share of a grid, or only list it."""
    from pipeline.grid import cells, run_cells
    from pipeline.progress import say
    from pipeline.provenance import record
    from pipeline.report import print_summary
    from pipeline.results import Results

    todo = cells(grid, settings.checkpoint, array_task(settings.array_task))
    for question in grid.questions:
        sizes = ", ".join(f"{split} {n:,}" for split, n in question.counts.items())
        say(f"{question.task.name}: {sizes} clips; {question.task.definition}")
    assumed = ", ".join(f"{name} {value}" for name, value in settings.assumed().items())
    say(f"assumed where the paper is silent: {assumed}")
    if settings.dry_run:
        for cell in todo:
            print(cell.name)
        return
    fixed = {**fixed, "recipe": grid.recipe.record()}
    results = Results(settings.out, fixed, {**record(), "settings": settings.record()})
    with stop_on_sigterm("finished cells stay; the same command runs the others"):
        run_cells(grid, todo, results, _device(settings))
    print_summary(results.records())


def recipe(settings: FinetuneSettings) -> "Recipe":
    """The recipe that the settings describe."""
    from dataclasses import fields

    from pipeline.finetuning import Recipe

    chosen = {f.name: getattr(settings, f.name) for f in fields(Recipe)}
    if settings.precision == "auto":
        chosen["precision"] = "bf16" if _device(settings).type == "cuda" else "fp32"
    return Recipe(**chosen)


def parse_seeds(text: str) -> list[int]:
    """Seeds from a text such as `0-4`, `7` or `0,2,5-7`; each once, in that order.

    Raises:
        SpeechkdError: it is not of that form.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not (low.isdecimal() and (high.isdecimal() if dash else not high)):
            raise SpeechkdError(f"--seeds is {text!r}; write 0-4, or 0,1,2, or both with commas.")
        seeds.update(dict.fromkeys(range(int(low), int(high or low) + 1)))
    if not seeds:
        raise SpeechkdError(f"--seeds is {text!r}, which is no seed at all; write 0-4, or 0,1,2.")
    return list(seeds)


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


def _device(settings: FinetuneSettings) -> "torch.device":
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SpeechkdError("--device cuda: PyTorch sees no GPU here; use --device cpu.")
    wanted = settings.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", torch.cuda.current_device()) if wanted else torch.device("cpu")
