"""The grid of cells: checkpoints × questions × seeds, each fine-tuned once and written down."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.cluster.shares import array_task, share
from pipeline.finetuning.cells import Cell
from pipeline.finetuning.inputs import Inputs, Loaded
from pipeline.finetuning.planes import project_encoder, project_teacher
from pipeline.finetuning.results import (
    TEACHER,
    Results,
    cell_name,
    check_results,
    prediction_table,
)
from pipeline.finetuning.settings import CellSettings, Recipe
from pipeline.finetuning.trainer import Outcome, train_cell
from pipeline.foundation.arrays import Array
from pipeline.foundation.devices import device_named, ieee_float32
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import Meter, counted, duration, say
from pipeline.foundation.provenance import record as provenance
from pipeline.foundation.signals import stop_at_once
from pipeline.foundation.untrusted import file_part
from pipeline.models.encoders import check_labels
from pipeline.models.pretrained import Pretrained
from pipeline.tasks.duplicates import remark
from pipeline.tasks.task import Question
from pipeline.tasks.words import RANKED


@dataclass(frozen=True)
class Grid:
    """Everything that is asked of every encoder.

    Attributes:
        ids: name of each example.
        groups: the recording (or other unit) that each example belongs to.
        load: loads a checkpoint as the user wrote it, with the examples as it reads them.
        questions: the tasks with their labels.
        seeds: seeds of fine-tuning.
        recipe: how each cell is trained.
        data: identity of the examples, labels and split, as plain JSON values.
    """

    ids: Sequence[str]
    groups: Sequence[str]
    load: Callable[[str], Loaded]
    questions: Sequence[Question]
    seeds: Sequence[int]
    recipe: Recipe
    data: Mapping[str, Any]

    @property
    def fixed(self) -> dict[str, Any]:
        """What must be the same for every cell of a results folder."""
        return {"data": self.data, "recipe": self.recipe.record()}


@dataclass(frozen=True)
class PlannedCell:
    """A cell that is to be run.

    Attributes:
        argument: the checkpoint as the user wrote it.
        checkpoint: what is known about it.
        question: what it is asked.
        seed: seed of fine-tuning.
    """

    argument: str
    checkpoint: Pretrained
    question: Question
    seed: int

    @property
    def name(self) -> str:
        """Name of the cell in the results folder."""
        checkpoint, question = self.checkpoint, self.question
        digest, task = checkpoint.weights_sha256, question.task.name
        return cell_name(checkpoint.label, digest, task, self.seed, question.fold)

    def clips(self, recipe: Recipe) -> int:
        """Number of clips that go through the encoder for this cell."""
        counts = self.question.counts
        tests = recipe.epochs if recipe.selection == "best-test" else 0
        return recipe.epochs * (counts["train"] + counts["valid"]) + (1 + tests) * counts["test"]


def plan_cells(grid: Grid, checkpoints: Sequence[str]) -> list[PlannedCell]:
    """The whole grid, in an order that keeps a checkpoint's cells together.

    Args:
        grid: what is asked.
        checkpoints: encoders as the user wrote them. Each is loaded once here, so that a wrong
            one is found before anything is trained.

    Raises:
        SpeechkdError: a checkpoint cannot be loaded, two have the same label, or two folds have
            names that are the same in files.
    """
    check_labels(checkpoints)
    files = Counter((q.task.name, file_part(q.fold)) for q in grid.questions)
    for question in grid.questions:
        if files[question.task.name, file_part(question.fold)] > 1:
            raise SpeechkdError(
                f"{question.title}: another fold has the same name in files "
                f"({file_part(question.fold)}); rename one of the two in the data."
            )
    known = {argument: grid.load(argument).checkpoint for argument in dict.fromkeys(checkpoints)}
    return [
        PlannedCell(argument, checkpoint, question, seed)
        for (argument, checkpoint), question, seed in itertools.product(
            known.items(), grid.questions, grid.seeds
        )
    ]


def run_cells(
    grid: Grid, todo: Sequence[PlannedCell], results: Results, device: torch.device
) -> None:
    """Fine-tune each cell that is not finished, and write it down as soon as it is.

    Raises:
        SpeechkdError: training fails; cells that were finished before stay.
    """
    for cell in todo:
        results.check_weights(cell.checkpoint.label, cell.checkpoint.weights_sha256)
    results.collect()
    unfinished = [cell for cell in todo if not results.finished(cell.name)]
    if len(unfinished) < len(todo):
        ready = len(todo) - len(unfinished)
        say(f"{ready} of {counted(len(todo), 'cell')} are finished already, {len(unfinished)} left")
    total = sum(cell.clips(grid.recipe) for cell in unfinished)
    unit = "questions" if any(question.passages for question in grid.questions) else "clips"
    with Meter("fine-tuning", total, unit) as meter:
        for argument, group in itertools.groupby(unfinished, key=lambda cell: cell.argument):
            loaded = grid.load(argument)
            checkpoint, encoder, inputs = loaded.checkpoint, loaded.encoder, loaded.inputs()
            _tell_unknown(checkpoint.label, inputs)
            encoder.to(device)
            if not grid.questions[0].passages:  # a passage is no point on a plane
                project_encoder(results, grid.ids, grid.questions, checkpoint, encoder, inputs)
            for cell in group:
                if results.finished(cell.name):  # meanwhile, by another command
                    meter.advance(cell.clips(grid.recipe), cell.name)
                    continue

                def advance(clips: int, note: str, name: str = cell.name) -> None:
                    meter.advance(clips, f"{name} {note}")

                outcome = train_cell(
                    encoder, inputs, cell.question, grid.recipe, cell.seed, advance=advance
                )
                _write(results, grid, cell, inputs, outcome, device)


def _tell_unknown(label: str, inputs: Inputs) -> None:
    """Say what an encoder's tokenizer does not know of the texts, and warn if it is much."""
    if not inputs.unknown:
        return
    if not inputs.unknown.too_many:
        say(f"{label}: {inputs.unknown}")
        return
    say(
        f"WARNING: {label}: {inputs.unknown}. What is unknown is lost to it; if it learnt from "
        "texts without case or punctuation, --text-form reads these in that form, too"
    )


def _write(
    results: Results,
    grid: Grid,
    cell: PlannedCell,
    inputs: Inputs,
    outcome: Outcome,
    device: torch.device,
) -> None:
    question, task, labels = cell.question, cell.question.task, cell.question.labels
    metrics = question.score("test", outcome.test_scores_nO)
    valid_metrics = None
    if len(labels["valid"]):
        valid_metrics = question.score("valid", outcome.valid_scores_nO)
    finished = Cell(
        name=cell.name,
        checkpoint=cell.checkpoint,
        task=task.name,
        kind=task.kind,
        outputs=task.outputs,
        definition=task.definition,
        seed=cell.seed,
        data=grid.data,
        splits=question.counts,
        truncated_texts=inputs.truncated,
        metrics=metrics,
        valid_metrics=valid_metrics,
        epochs=outcome.epochs,
        curve=outcome.curve,
        chosen_epoch=outcome.chosen_epoch,
        recipe=grid.recipe.record(),
        seconds=outcome.seconds,
        trained_tokens=outcome.trained_tokens,
        device=str(device),
        provenance=provenance(),
        fold=question.fold,
        repeated_texts=None if question.passages else question.repeated,
        unknown_tokens=inputs.unknown,
    )
    predictions = prediction_table(
        task,
        question.names("test", grid.ids),
        question.repeat("test", grid.groups),
        question.raw,
        labels["test"],
        outcome.test_scores_nO,
        _beside(question, grid.ids),
    )
    results.add(finished, predictions)
    say(f"{cell.name}: {in_words(metrics)}, {duration(outcome.seconds)}")


def _beside(question: Question, ids: Sequence[str]) -> dict[str, Sequence[str]]:
    """What a predictions file tells of each word, or of each question about a passage, beside its
    answer; nothing of whole texts.
    """
    if question.passages:
        asked = question.passages["test"]
        seconds = [repr(float(value)) for value in asked.seconds_n]
        return {"passage": asked.names, "seconds": seconds}
    if not question.words:
        return {}
    words = question.words["test"]
    return {
        "text": question.repeat("test", ids),
        "word": words.spellings,
        "prior": [f"{value:.9g}" for value in words.prior_n.tolist()],
    }


def in_words(metrics: Mapping[str, Any]) -> str:
    """The main figures of a cell in a few words."""
    if "average_precision" in metrics:
        chance, prior = metrics["chance"], metrics["prior"]
        return "; ".join(
            f"{title} undefined: no word is a yes"
            if metrics[name] is None
            else f"{title} {metrics[name]:.4f} (constant answer {chance[name]:.4f}, word alone "
            f"{prior[name]:.4f})"
            for name, title in RANKED.items()
        )
    if "aos" in metrics:
        constant, whole = metrics["constant"], metrics["whole"]
        return (
            f"AOS {metrics['aos']:.4f} (constant answer {constant['aos']:.4f}, whole passage "
            f"{whole['aos']:.4f}, at most {metrics['ceiling']:.4f} in these cells), frame F1 "
            f"{metrics['frame_f1']:.4f}"
        )
    if "accuracy" in metrics:
        return (
            f"accuracy {metrics['accuracy']:.4f} (majority {metrics['majority_rate']:.4f}, "
            f"balanced {metrics['balanced_accuracy']:.4f})"
        )
    if "eer" in metrics:
        return (
            f"EER {metrics['eer']:.4f} (minDCF {metrics['min_dcf']:.4f}) of {metrics['pairs']:,} "
            f"pairs of {metrics['speakers']:,} speakers"
        )
    r = metrics["pearson"]
    return (
        f"MAE {metrics['mae']:.4f} (constant answer {metrics['constant_mae']:.4f}), Pearson r "
        + ("undefined: constant predictions" if r is None else f"{r:.4f}")
    )


def finetune(settings: CellSettings, grid: Grid) -> list[Cell]:
    """Run this process's share of a grid.

    Args:
        settings: of the command. The tasks of an array divide the grid among them.
        grid: what is asked of each encoder; its data and recipe must not change within a
            results folder.

    Returns:
        Every finished cell of the results folder.

    Raises:
        SpeechkdError: a checkpoint cannot be loaded, the results folder holds something else,
            or training fails.
    """
    whole, todo, teacher = _prepare(settings, grid)
    results = Results(settings.out, grid.fixed, {**provenance(), "settings": settings.record()})
    results.ask((c.checkpoint.label, c.question.title, c.seed) for c in whole)
    if teacher:
        results.add_projection(TEACHER, *teacher)
    with stop_at_once("finished cells stay; the same command runs the others"), ieee_float32():
        run_cells(grid, todo, results, device_named(settings.device))
    return results.cells()


def dry_run(settings: CellSettings, grid: Grid) -> list[str]:
    """Check everything that `finetune` checks before it trains; return the names of its cells."""
    _, todo, _ = _prepare(settings, grid)
    check_results(settings.out, grid.fixed)
    return [cell.name for cell in todo]


def _prepare(
    settings: CellSettings, grid: Grid
) -> tuple[list[PlannedCell], list[PlannedCell], tuple[list[str], list[str], Array, float] | None]:
    """The whole grid, this process's share of it, and the teacher's projection if it is wanted."""
    split = grid.data.get("split", {})
    if split.get("origin") == "made":
        say(f"the split is made here, with seed {split['seed']}; it is not a published one")
    whole = plan_cells(grid, settings.checkpoint)
    sizes = [cell.clips(grid.recipe) for cell in whole]
    todo = [whole[i] for i in share(sizes, array_task(settings.array_task))]
    for question in grid.questions:
        counts = ", ".join(f"{split} {n:,}" for split, n in question.counts.items())
        noun = "questions" if question.passages else "clips"
        say(f"{question.title}: {counts} {noun}; {question.task.definition}")
        tested = {grid.groups[place] for place in question.places["test"]}
        if len(tested) == 1 < question.counts["test"]:
            say(
                f"WARNING: {question.title}: all test examples are of one group "
                f"({next(iter(tested))}), so no interval can be given"
            )
        if repeated := remark(question, "--drop-duplicates leaves them out"):
            say(repeated)
    location = settings.teacher_cache
    teacher = project_teacher(grid.ids, grid.questions, location) if location else None
    assumed = ", ".join(f"{name} {value}" for name, value in settings.assumed().items())
    say(f"assumed where the paper is silent: {assumed}")
    if len(todo) < len(whole):
        say(f"this task's share: {len(todo):,} of {counted(len(whole), 'cell')}")
    return whole, todo, teacher
