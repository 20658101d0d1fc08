"""Fine-tuning of one cell: an encoder × a task × a seed → scores for every test clip.

Every random draw (head, order, dropout) comes from the cell's seed alone, so a cell gives the
same scores whichever cells ran before it.

Shapes: B clips of a batch, O outputs of the head, n clips of a split.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.finetuning.classifier import Judge, Recipe, autocast, loss_of, pack_rows, score
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.loading import panics_as_errors
from pipeline.tasks.task import Task
from pipeline.training.optimizer import linear_schedule, parameter_groups

CURVE_POINTS_PER_EPOCH = 10


@dataclass(frozen=True)
class Tokens:
    """Texts as token ids, cut to the longest length allowed.

    Attributes:
        ids: int32 ids of each text, special tokens included.
        truncated: how many texts lost tokens.
    """

    ids: tuple[Array, ...]
    truncated: int


@dataclass(frozen=True)
class Examples:
    """Tokens and labels of one split for one task."""

    ids: tuple[Array, ...]
    labels: Array

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Outcome:
    """What a finished cell leaves behind.

    Attributes:
        test_scores_nO: the head's outputs for the test clips, in their order.
        valid_scores_nO: the same for the validation clips; empty where there are none.
        epochs: a record an epoch: mean training loss, validation loss and score.
        curve: training loss along the way: `step` and the mean `loss` since the last point.
        chosen_epoch: the epoch, from 1, whose weights gave the scores.
        seconds: time for training and judging.
        trained_tokens: tokens that went through training, all epochs together.
    """

    test_scores_nO: Array
    valid_scores_nO: Array
    epochs: list[dict[str, Any]]
    curve: list[dict[str, float]]
    chosen_epoch: int
    seconds: float
    trained_tokens: int


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> Tokens:
    """Token ids of each text with the tokenizer's own special tokens, at most `max_tokens` each.

    Raises:
        SpeechkdError: a text gives no token at all.
    """
    with panics_as_errors("the texts"):
        ids: list[list[int]] = tokenizer(list(texts), verbose=False)["input_ids"]
    long = [i for i, row in enumerate(ids) if len(row) > max_tokens]
    if long:
        cut = tokenizer([texts[i] for i in long], truncation=True, max_length=max_tokens)
        for i, row in zip(long, cut["input_ids"], strict=True):
            ids[i] = row
    empty = next((i for i, row in enumerate(ids) if not row), None)
    if empty is not None:
        raise SpeechkdError(
            f"the tokenizer makes no token of the text {texts[empty]!r}; leave the clip out, or "
            "use a tokenizer that adds special tokens."
        )
    return Tokens(tuple(np.asarray(row, np.int32) for row in ids), len(long))


def check_pooling(tokens: Tokens, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> None:
    """Refuse to take the first token for the text where it is a word of the text.

    Raises:
        SpeechkdError: pooling is `cls` and the tokenizer puts no token of its own in front.
    """
    if recipe.pooling == "cls" and any(
        row[0] not in tokenizer.all_special_ids for row in tokens.ids
    ):
        raise SpeechkdError(
            "--pooling cls takes the vector of the first token, but this tokenizer puts no "
            "special token in front of a text; use --pooling mean."
        )


def train_cell(
    encoder: PreTrainedModel,
    task: Task,
    data: dict[str, Examples],
    recipe: Recipe,
    seed: int,
    *,
    advance: Callable[[int, str], None] = lambda _clips, _note: None,
) -> Outcome:
    """Fine-tune a copy of `encoder` on `data["train"]` and score the other splits.

    Args:
        encoder: the pre-trained encoder, on the device to train on; it is not changed.
        task: what to learn.
        data: examples of `train`, `valid` (may be empty) and `test`.
        recipe: how to train.
        seed: decides the head's initial weights, the order of clips and dropout.
        advance: told clips done and a note after each step, for progress.

    Raises:
        SpeechkdError: the loss stops being a finite number.
    """
    started = time.monotonic()
    device = next(encoder.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        judge = Judge(copy.deepcopy(encoder), len(task.outputs), recipe, generator).to(device)
        outcome = _train(judge, task, data, recipe, seed, device, advance)
    outcome["seconds"] = time.monotonic() - started
    return Outcome(**outcome)


def _train(
    judge: Judge,
    task: Task,
    data: dict[str, Examples],
    recipe: Recipe,
    seed: int,
    device: torch.device,
    advance: Callable[[int, str], None],
) -> dict[str, Any]:
    train = data["train"]
    steps_per_epoch = math.ceil(len(train) / recipe.batch_size)
    total_steps = recipe.epochs * steps_per_epoch
    warmup_steps = round(recipe.warmup_fraction * total_steps)
    optimizer = torch.optim.AdamW(
        parameter_groups(judge, recipe.weight_decay), lr=recipe.learning_rate, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: linear_schedule(step, warmup_steps, total_steps)
    )
    every = max(1, steps_per_epoch // CURVE_POINTS_PER_EPOCH)
    curve: list[dict[str, float]] = []
    epochs: list[dict[str, Any]] = []
    best: tuple[float, int, dict[str, Tensor]] | None = None
    valid_scores = np.empty((0, len(task.outputs)), np.float32)
    step = 0
    for epoch in range(1, recipe.epochs + 1):
        judge.train()
        recent, whole = torch.zeros((), device=device), torch.zeros((), device=device)
        recent_clips = 0
        order = np.random.default_rng([seed, epoch]).permutation(len(train))
        for at in range(0, len(train), recipe.batch_size):
            chosen = order[at : at + recipe.batch_size]
            labels_B = torch.as_tensor(train.labels[chosen]).to(device)
            with autocast(device, recipe):
                scores_BO = judge(pack_rows([train.ids[i] for i in chosen], device))
            loss = loss_of(task.kind, recipe.regression_loss, scores_BO, labels_B)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            if recipe.clip_norm:
                nn.utils.clip_grad_norm_(judge.parameters(), recipe.clip_norm)
            optimizer.step()
            schedule.step()
            step += 1
            recent = recent + loss.detach() * len(chosen)
            recent_clips += len(chosen)
            if step % every == 0 or (step == total_steps and not curve):
                mean = float(recent) / recent_clips
                _check_finite(mean, step, total_steps, recipe)
                curve.append({"step": step, "loss": mean})
                whole, recent, recent_clips = whole + recent, torch.zeros_like(recent), 0
            advance(len(chosen), f"loss {curve[-1]['loss']:.3f}" if curve else "")
        whole = whole + recent
        record: dict[str, Any] = {"epoch": epoch, "train_loss": float(whole) / len(train)}
        _check_finite(record["train_loss"], step, total_steps, recipe)
        if len(data["valid"]):
            scores = score(judge, data["valid"].ids, device, recipe, advance)
            record |= _judged(task, recipe, data["valid"].labels, scores)
            if recipe.selection == "last" or best is None or record["valid_score"] > best[0]:
                valid_scores = scores
                if recipe.selection == "best-valid":
                    state = {k: v.clone() for k, v in judge.state_dict().items()}
                    best = (record["valid_score"], epoch, state)
        epochs.append(record)
    if best:
        judge.load_state_dict(best[2])
    return {
        "test_scores_nO": score(judge, data["test"].ids, device, recipe, advance),
        "valid_scores_nO": valid_scores,
        "epochs": epochs,
        "curve": curve,
        "chosen_epoch": best[1] if best else recipe.epochs,
        "trained_tokens": recipe.epochs * sum(map(len, train.ids)),
    }


def _judged(task: Task, recipe: Recipe, labels: Array, scores_nO: Array) -> dict[str, float]:
    loss = loss_of(
        task.kind, recipe.regression_loss, torch.from_numpy(scores_nO), torch.as_tensor(labels)
    )
    return {"valid_loss": float(loss), "valid_score": headline(task.score(labels, scores_nO))}


def headline(metrics: dict[str, Any]) -> float:
    """The one figure that `best-valid` goes by, larger is better: accuracy, or minus the MAE."""
    return float(metrics["accuracy"] if "accuracy" in metrics else -metrics["mae"])


def _check_finite(loss: float, step: int, total: int, recipe: Recipe) -> None:
    if not math.isfinite(loss):
        raise SpeechkdError(
            f"the training loss is {loss} at step {step} of {total}. Lower --learning-rate "
            f"(now {recipe.learning_rate}), or train in --precision fp32."
        )
