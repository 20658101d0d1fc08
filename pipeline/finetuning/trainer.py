"""Fine-tuning of one cell: an encoder × a question × a seed → scores for every test example.

Every random draw (head, order, dropout) comes from the cell's seed alone, so a cell gives the
same scores whichever cells ran before it.

Shapes: B examples of a batch, O outputs of the head, n examples of a split.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.finetuning.classifier import Classifier, autocast, class_weights, loss_of, score
from pipeline.finetuning.inputs import Inputs, device_of
from pipeline.finetuning.settings import Recipe
from pipeline.finetuning.span_reader import SpanReader
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.lengths import to_device
from pipeline.tasks.task import Question, margins
from pipeline.tasks.words import best_threshold
from pipeline.training.optimizer import SCHEDULES, adamw

CURVE_POINTS_PER_EPOCH = 10
DECIDES = {"best-valid": "valid_score", "best-test": "test_score"}
"""Which figure of an epoch's record selects it."""

Advance = Callable[[int, str], None]
"""Takes the number of clips done and a note, for progress."""


@dataclass(frozen=True)
class Outcome:
    """What a finished cell leaves behind.

    Attributes:
        test_scores_nO: the head's outputs for the test examples, in their order; of speakers the
            vectors that the head reads; of words with
            the threshold taken off, so that a word is called a yes where yes beats no.
        valid_scores_nO: the same for the validation examples; empty if there are none.
        epochs: a record per epoch: mean training loss, validation loss and score.
        curve: training loss along the way: `step` and the mean `loss` since the last point.
        chosen_epoch: the epoch, from 1, whose weights gave the scores.
        seconds: time for training and scoring.
        trained_tokens: what training read, all epochs together: tokens of texts, positions of
            speech, of spans both. The name is the record's.
    """

    test_scores_nO: Array
    valid_scores_nO: Array
    epochs: list[dict[str, Any]]
    curve: list[dict[str, float]]
    chosen_epoch: int
    seconds: float
    trained_tokens: int


@dataclass(frozen=True)
class Best:
    """The epoch that was best so far on the validation split, or where it is asked on the test."""

    score: float
    epoch: int
    valid_scores_nO: Array
    weights: dict[str, Tensor]


class RunningMean:
    """Mean loss over examples, summed up on the device so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.total = torch.zeros((), device=device)
        self.count = 0

    def add(self, total: Tensor, count: int) -> None:
        """Add the losses of `count` examples, given their sum."""
        self.total = self.total + total
        self.count += count

    @property
    def value(self) -> float:
        """The mean; waits for the device."""
        return float(self.total) / self.count


def train_cell(
    encoder: nn.Module,
    inputs: Inputs,
    question: Question,
    recipe: Recipe,
    seed: int,
    *,
    advance: Advance = lambda _clips, _note: None,
) -> Outcome:
    """Fine-tune a copy of `encoder` on the training split and score the other splits.

    Args:
        encoder: the pre-trained encoder, on the device to train on; it is not changed.
        inputs: the examples as this encoder reads them.
        question: what to learn; it says which examples are in `train`, `valid` (may be empty)
            and `test`.
        recipe: how to train.
        seed: decides the head's initial weights, the order of examples and dropout.
        advance: called after each step, for progress.

    Raises:
        SpeechkdError: the loss stops being a finite number.
    """
    started = time.monotonic()
    device, outputs = device_of(encoder), len(question.task.outputs)
    valid = question.places["valid"]
    valid_scores_nO = np.empty((0, outputs), np.float32)
    epochs: list[dict[str, Any]] = []
    best: Best | None = None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        kind: Any = SpanReader if question.task.kind == "spans" else Classifier
        classifier = kind(copy.deepcopy(encoder), outputs, recipe, generator).to(device)
        trainer = _Trainer(classifier, inputs, question, recipe, seed, advance)
        for epoch in range(1, recipe.epochs + 1):
            record: dict[str, Any] = {"epoch": epoch, "train_loss": trainer.run_epoch(epoch)}
            if len(valid):
                valid_scores_nO = trainer.scores("valid")
                record |= trainer.validate(valid_scores_nO)
            if recipe.selection == "best-test":
                record["test_score"] = trainer.released_score()
            decisive = record.get(DECIDES.get(recipe.selection, ""))
            if decisive is not None and (best is None or decisive > best.score):
                weights = {k: v.clone() for k, v in classifier.state_dict().items()}
                best = Best(decisive, epoch, valid_scores_nO, weights)
            epochs.append(record)
        if best:
            classifier.load_state_dict(best.weights)
            valid_scores_nO = best.valid_scores_nO
        test_scores_nO = trainer.scores("test")
        if question.words:
            threshold = trainer.threshold(valid_scores_nO)
            for scores_nO in (test_scores_nO, valid_scores_nO):
                scores_nO[:, 1] -= threshold
    return Outcome(
        test_scores_nO=test_scores_nO,
        valid_scores_nO=valid_scores_nO,
        epochs=epochs,
        curve=trainer.curve,
        chosen_epoch=best.epoch if best else recipe.epochs,
        seconds=time.monotonic() - started,
        trained_tokens=recipe.epochs * inputs.size(question.places["train"]),
    )


class _Trainer:
    """Trains a classifier epoch by epoch; `curve` is its training loss along the way."""

    def __init__(
        self,
        classifier: Classifier,
        inputs: Inputs,
        question: Question,
        recipe: Recipe,
        seed: int,
        advance: Advance,
    ) -> None:
        self.curve: list[dict[str, float]] = []
        self._classifier, self._inputs, self._recipe = classifier, inputs, recipe
        self._question, self._places = question, question.places["train"]
        self._answers_n = np.array(question.answers("train"), np.int64)
        self._kind, self._seed, self._advance = question.task.kind, seed, advance
        if self._kind == "value" and recipe.value_scale == "standard":
            classifier.scale_by(question.labels["train"])
        outputs = len(question.task.outputs)
        weights_O = class_weights(self._kind, question.labels["train"], outputs, recipe)
        self._weights_O = None if weights_O is None else weights_O.to(device_of(classifier))
        steps_per_epoch = math.ceil(len(self._places) / recipe.batch_size)
        self._every = max(1, steps_per_epoch // CURVE_POINTS_PER_EPOCH)
        self._step, self._steps = 0, recipe.epochs * steps_per_epoch
        warmup_steps = round(recipe.warmup_fraction * self._steps)
        self._optimizer = adamw(classifier, recipe.learning_rate, recipe.weight_decay)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda step: SCHEDULES[recipe.schedule](step, warmup_steps, self._steps),
        )

    def run_epoch(self, epoch: int) -> float:
        """Train on every example once, in an order of this seed and epoch; return the mean loss.

        Raises:
            SpeechkdError: the loss stops being a finite number.
        """
        self._classifier.train()
        device = device_of(self._classifier)
        whole, recent = RunningMean(device), RunningMean(device)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._places))
        for at in range(0, len(order), self._recipe.batch_size):
            chosen = order[at : at + self._recipe.batch_size]
            answers = int(self._answers_n[chosen].sum())
            loss = self._train_on(chosen, device)
            recent.add(loss * answers, answers)
            if self._step % self._every == 0 or (self._step == self._steps and not self.curve):
                self.curve.append({"step": self._step, "loss": self._finite(recent.value)})
                whole.add(recent.total, recent.count)
                recent = RunningMean(device)
            note = f"loss {self.curve[-1]['loss']:.3f}" if self.curve else ""
            self._advance(len(chosen), note)
        whole.add(recent.total, recent.count)
        return self._finite(whole.value)

    def scores(self, split: str) -> Array:
        """The outputs for the examples of a split, in their order, by the weights as they are.

        Raises:
            SpeechkdError: one is no finite number, as after a last step that went astray, whose
                loss nothing looks at. What is decided by such a score means nothing.
        """
        question = self._question
        scores_nO = score(
            self._classifier,
            self._inputs,
            question.places[split],
            self._recipe,
            self._advance if split != "train" else lambda _clips, _note: None,
            question.answers(split),
            vectors=self._kind == "speaker",
        )
        if wrong := int((~np.isfinite(scores_nO)).any(1).sum()):
            raise SpeechkdError(
                f"after step {self._step} of {self._steps}, {wrong:,} of {len(scores_nO):,} scores "
                f"of split {split} are no finite numbers. Lower --learning-rate (now "
                f"{self._recipe.learning_rate}), or train in --precision float32."
            )
        return scores_nO

    def threshold(self, valid_scores_nO: Array) -> float:
        """By how much yes must beat no for the best F1 of the validation words, or of the training
        words where no validation word is a yes.
        """
        labels = self._question.labels
        best = best_threshold(labels["valid"], margins(valid_scores_nO))
        if best is None:
            best = best_threshold(labels["train"], margins(self.scores("train")))
        return 0.0 if best is None else best

    def validate(self, scores_nO: Array) -> dict[str, float]:
        """Loss and score of the validation examples, the loss as that of training.

        Other speakers than those of training, and stretches of time, have a score alone.
        """
        metrics = self._question.score("valid", scores_nO)
        if self._kind in ("speaker", "spans"):
            return {"valid_score": headline(metrics)}
        labels = self._question.labels["valid"]
        weights_O = None if self._weights_O is None else self._weights_O.cpu()
        scores, targets = torch.from_numpy(scores_nO), torch.as_tensor(labels)
        loss = self._loss(self._classifier.scaled(scores), targets, weights_O)
        return {"valid_loss": float(loss), "valid_score": headline(metrics)}

    def released_score(self) -> float:
        """What CTAL's released code selects an epoch by: 0.9 WA + 0.1 UA of the test itself."""
        metrics = self._question.score("test", self.scores("test"))
        return 0.9 * float(metrics["accuracy"]) + 0.1 * float(metrics["balanced_accuracy"])

    def _train_on(self, chosen: Array, device: torch.device) -> Tensor:
        """Take one step on some training examples and return their mean loss."""
        recipe, places = self._recipe, [self._places[i] for i in chosen]
        with autocast(device, recipe):
            scores_BO = self._classifier(self._inputs, places)
        if isinstance(self._classifier, SpanReader):
            loss = self._classifier.loss(self._inputs, places, scores_BO)
        else:
            labels_B = to_device(torch.as_tensor(self._question.labels_of("train", chosen)), device)
            loss = self._loss(scores_BO, labels_B, self._weights_O)
        if (penalty := self._classifier.penalty) is not None:
            loss = loss + penalty
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if recipe.clip_norm:
            nn.utils.clip_grad_norm_(self._classifier.parameters(), recipe.clip_norm)
        self._optimizer.step()
        self._schedule.step()
        self._step += 1
        return loss.detach()

    def _loss(self, scores_BO: Tensor, labels_B: Tensor, weights_O: Tensor | None) -> Tensor:
        """Mean loss of the head's outputs, beside labels as the task has them."""
        if self._kind == "value":
            labels_B = self._classifier.scaled(labels_B)
        return loss_of(self._kind, self._recipe.regression_loss, scores_BO, labels_B, weights_O)

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise SpeechkdError(
                f"the training loss is {loss} at step {self._step} of {self._steps}. Lower "
                f"--learning-rate (now {self._recipe.learning_rate}), or train in "
                "--precision float32."
            )
        return loss


def headline(metrics: dict[str, Any]) -> float:
    """The one figure that `best-valid` goes by, larger is better: accuracy, or minus the MAE; of
    words the average precision, if any is a yes; of speakers minus the equal error rate; of
    stretches of time the AOS.
    """
    if "aos" in metrics:
        return float(metrics["aos"])
    if "eer" in metrics:
        return -float(metrics["eer"])
    if metrics.get("average_precision") is not None:
        return float(metrics["average_precision"])
    return float(metrics["accuracy"] if "accuracy" in metrics else -metrics["mae"])
