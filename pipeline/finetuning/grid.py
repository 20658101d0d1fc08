"""The grid of cells: checkpoints × tasks × seeds, each fine-tuned once and written down."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers import PreTrainedModel

from pipeline.cache.store import TeacherCache, vectors_by_key
from pipeline.cluster.shares import array_task, share
from pipeline.finetuning.cell import (
    Examples,
    Outcome,
    Tokens,
    check_pooling,
    tokenize,
    train_cell,
)
from pipeline.finetuning.cells import Cell
from pipeline.finetuning.classifier import Recipe
from pipeline.finetuning.results import (
    TEACHER,
    Results,
    cell_name,
    check_results,
    prediction_table,
    projection_name,
)
from pipeline.finetuning.settings import FinetuneSettings
from pipeline.finetuning.text_vectors import plane, vectors
from pipeline.foundation.arrays import Array
from pipeline.foundation.devices import device_named
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import Meter, duration, say
from pipeline.foundation.provenance import record as provenance
from pipeline.foundation.signals import stop_at_once
from pipeline.models.encoders import check_labels, load_pretrained
from pipeline.models.pretrained import Pretrained
from pipeline.tasks.task import Question


@dataclass(frozen=True)
class Grid:
    """Everything that is asked of every encoder.

    Attributes:
        ids: name of each text.
        groups: the recording (or other unit) that each text belongs to.
        texts: the texts, tokenised once for each checkpoint.
        questions: the tasks.
        seeds: seeds of fine-tuning.
        recipe: how each cell is trained.
        data: identity of the texts, labels and split, as plain JSON values.
    """

    ids: Sequence[str]
    groups: Sequence[str]
    texts: Sequence[str]
    questions: Sequence[Question]
    seeds: Sequence[int]
    recipe: Recipe
    data: Mapping[str, Any]


@dataclass(frozen=True)
class PlannedCell:
    """A cell that is to be run: one checkpoint, one question, one seed."""

    given: str
    checkpoint: Pretrained
    question: Question
    seed: int

    @property
    def name(self) -> str:
        """Name of the cell in the results folder."""
        found = self.checkpoint
        return cell_name(found.label, found.weights_sha256, self.question.task.name, self.seed)

    def clips(self, epochs: int) -> int:
        """Clips that go through the encoder for this cell."""
        counts = self.question.counts
        return epochs * (counts["train"] + counts["valid"]) + counts["test"]


def cells(grid: Grid, checkpoints: Sequence[str]) -> list[PlannedCell]:
    """The whole grid, in an order that keeps a checkpoint's cells together.

    Args:
        grid: what is asked.
        checkpoints: encoders as given by the user; each is loaded once here, so that a wrong
            one is known before anything is trained.

    Raises:
        SpeechkdError: a checkpoint cannot be loaded, or two have the same label.
    """
    check_labels(checkpoints)
    described = {given: load_pretrained(given)[0] for given in dict.fromkeys(checkpoints)}
    return [
        PlannedCell(given, found, question, seed)
        for (given, found), question, seed in itertools.product(
            described.items(), grid.questions, grid.seeds
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
    left = [cell for cell in todo if not results.finished(cell.name)]
    if len(left) < len(todo):
        say(f"{len(todo) - len(left)} of {len(todo)} cells are finished already, {len(left)} left")
    total = sum(cell.clips(grid.recipe.epochs) for cell in left)
    with Meter("fine-tuning", total, "clips") as meter:
        for given, group in itertools.groupby(left, key=lambda cell: cell.given):
            described, encoder, tokenizer = load_pretrained(given)
            tokens = tokenize(tokenizer, grid.texts, _longest(grid.recipe, encoder.config))
            check_pooling(tokens, tokenizer, grid.recipe)
            encoder.to(device)
            _project(results, grid, described, encoder, tokens)
            for cell in group:
                if results.finished(cell.name):  # meanwhile, by another command
                    meter.advance(cell.clips(grid.recipe.epochs), cell.name)
                    continue

                def advance(clips: int, note: str, name: str = cell.name) -> None:
                    meter.advance(clips, f"{name} {note}")

                question = cell.question
                data = {
                    split: Examples(tuple(tokens.ids[i] for i in places), question.labels[split])
                    for split, places in question.places.items()
                }
                outcome = train_cell(
                    encoder, question.task, data, grid.recipe, cell.seed, advance=advance
                )
                _write(results, grid, cell, tokens, outcome, device)


def _project(
    results: Results,
    grid: Grid,
    checkpoint: Pretrained,
    encoder: PreTrainedModel,
    tokens: Tokens,
) -> None:
    """Put the test texts' vectors, before any fine-tuning, on a plane for the report."""
    question = grid.questions[0]
    places = question.places["test"]
    name = projection_name(checkpoint.label, checkpoint.weights_sha256, question.task.name)
    if results.has_projection(name):
        return
    points_n2, share = plane(vectors(encoder, [tokens.ids[i] for i in places]))
    ids = [grid.ids[i] for i in places]
    results.add_projection(name, ids, question.raw, points_n2, share)


def _teacher(grid: Grid, location: str) -> tuple[list[str], list[str], Array, float]:
    """The teacher's vectors of the test clips on a plane, with the clips' ids and labels."""
    question = grid.questions[0]
    ids = [grid.ids[i] for i in question.places["test"]]
    cache = TeacherCache.open(location)
    places, vectors_nD = vectors_by_key(cache, ids)
    if len(places) < 2:
        key = next((r["key"] for shard in cache.receipts() for r in cache.shard_samples(shard)), "")
        raise SpeechkdError(
            f"--teacher-cache {location} has {len(places)} of the {len(ids):,} test clips. They "
            f"are called {ids[0]!r} here and {key!r} there; the keys of the shards must be the "
            "clips' ids."
        )
    say(f"{location} has {len(places):,} of the {len(ids):,} test clips of {question.task.name}")
    points_n2, share = plane(vectors_nD)
    return [ids[i] for i in places], [question.raw[i] for i in places], points_n2, share


def _longest(recipe: Recipe, config: Any) -> int:
    """The recipe's longest text, or the encoder's own limit where that is shorter."""
    return min(recipe.max_tokens, int(getattr(config, "max_position_embeddings", 10**9)))


def _write(
    results: Results,
    grid: Grid,
    cell: PlannedCell,
    tokens: Tokens,
    outcome: Outcome,
    device: torch.device,
) -> None:
    question, task = cell.question, cell.question.task
    labels = question.labels
    metrics = task.score(labels["test"], outcome.test_scores_nO)
    test = question.places["test"]
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
        truncated_texts=tokens.truncated,
        metrics=metrics,
        valid_metrics=task.score(labels["valid"], outcome.valid_scores_nO)
        if len(labels["valid"])
        else None,
        epochs=outcome.epochs,
        curve=outcome.curve,
        chosen_epoch=outcome.chosen_epoch,
        recipe=grid.recipe.record(),
        seconds=outcome.seconds,
        trained_tokens=outcome.trained_tokens,
        device=str(device),
        provenance=provenance(),
    )
    results.add(
        finished,
        prediction_table(
            task,
            [grid.ids[i] for i in test],
            [grid.groups[i] for i in test],
            question.raw,
            labels["test"],
            outcome.test_scores_nO,
        ),
    )
    say(f"{cell.name}: {told(metrics)}, {duration(outcome.seconds)}")


def told(metrics: Mapping[str, Any]) -> str:
    """The main figures of a cell in a few words."""
    if "accuracy" in metrics:
        return (
            f"accuracy {metrics['accuracy']:.4f} (majority {metrics['majority_rate']:.4f}, "
            f"balanced {metrics['balanced_accuracy']:.4f})"
        )
    r = metrics["pearson"]
    return (
        f"MAE {metrics['mae']:.4f} (constant answer {metrics['constant_mae']:.4f}), Pearson r "
        + ("undefined: constant predictions" if r is None else f"{r:.4f}")
    )


def finetune(settings: FinetuneSettings, grid: Grid) -> list[Cell]:
    """Run this process's share of a grid, or only list it.

    Args:
        settings: of the command; of an array's tasks, each does its share, every cell once.
        grid: what is asked of each encoder; its data and recipe must not change within a
            results folder.

    Returns:
        Every finished cell of the results folder; none for a dry run.

    Raises:
        SpeechkdError: a checkpoint cannot be loaded, the results folder holds something else,
            or training fails.
    """
    whole = cells(grid, settings.checkpoint)
    mine = array_task(settings.array_task)
    todo = [whole[i] for i in share([cell.clips(grid.recipe.epochs) for cell in whole], mine)]
    for question in grid.questions:
        sizes = ", ".join(f"{split} {n:,}" for split, n in question.counts.items())
        say(f"{question.task.name}: {sizes} clips; {question.task.definition}")
    teacher = _teacher(grid, settings.teacher_cache) if settings.teacher_cache else None
    assumed = ", ".join(f"{name} {value}" for name, value in settings.assumed().items())
    say(f"assumed where the paper is silent: {assumed}")
    if len(todo) < len(whole):
        say(f"this task's share: {len(todo):,} of {len(whole):,} cells")
    fixed = {"data": grid.data, "recipe": grid.recipe.record()}
    if settings.dry_run:
        check_results(settings.out, fixed)
        for cell in todo:
            print(cell.name)
        return []
    results = Results(settings.out, fixed, {**provenance(), "settings": settings.record()})
    results.ask((c.checkpoint.label, c.question.task.name, c.seed) for c in whole)
    if teacher:
        results.add_projection(TEACHER, *teacher)
    with stop_at_once("finished cells stay; the same command runs the others"):
        run_cells(grid, todo, results, device_named(settings.device))
    return results.cells()


def recipe_of(settings: FinetuneSettings) -> Recipe:
    """The recipe that the settings describe."""
    chosen = {f.name: getattr(settings, f.name) for f in fields(Recipe)}
    if settings.precision == "auto":
        chosen["precision"] = "bf16" if device_named(settings.device).type == "cuda" else "fp32"
    return Recipe(**chosen)
