"""What is asked of a text: the tasks of the paper's Tables 1 to 3, and their targets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.tasks.metrics import judge_classes, judge_flags, judge_values, sign_ceil
from pipeline.tasks.mosei.clips import EMOTIONS, Clip

Kind = Literal["classes", "value", "flags"]


@dataclass(frozen=True)
class Task:
    """One question, for which one head is trained.

    Attributes:
        name: name on the command line and in results.
        kind: `classes` (one of several: softmax), `value` (a number: regression) or `flags`
            (several yes-or-no questions: one sigmoid each).
        outputs: what each output of the head stands for.
        definition: the convention behind the targets, in words; printed in reports.
    """

    name: str
    kind: Kind
    outputs: tuple[str, ...]
    definition: str

    def judge(self, labels: Array, scores_nO: Array) -> dict[str, Any]:
        """Every metric of this task, from true labels and the head's outputs.

        Args:
            labels: classes `[n]`, values `[n]` or flags `[n, F]`, by kind.
            scores_nO: outputs of the head: logits, or the value itself.
        """
        predictions = self.decide(scores_nO)
        if self.kind == "classes":
            return judge_classes(labels, predictions, len(self.outputs))
        if self.kind == "flags":
            return judge_flags(labels, predictions, self.outputs)
        if self.name == "sentiment":
            return judge_values(labels, predictions)
        return {k: v for k, v in judge_values(labels, predictions).items() if k != "derived"}

    def decide(self, scores_nO: Array) -> Array:
        """Predictions from the head's outputs: the largest logit, the value, or logit > 0."""
        if self.kind == "classes":
            return np.asarray(scores_nO.argmax(1), np.int64)
        if self.kind == "flags":
            return np.asarray(scores_nO > 0, np.int64)
        return np.asarray(scores_nO[:, 0])


def _sentiment(classes: int) -> Task:
    limit = classes // 2
    return Task(
        f"sentiment{classes}",
        "classes",
        tuple(f"{c:+d}" if c else "0" for c in range(-limit, limit + 1)),
        f"one of {classes} classes, sign(y) * min(ceil(|y|), {limit}), a classifier of its own",
    )


def _emotion(name: str) -> Task:
    return Task(
        name, "classes", ("absent", "present"), f"{name} > 0 against = 0, a classifier of its own"
    )


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _sentiment(7),
        _sentiment(5),
        _sentiment(3),
        Task(
            "sentiment2",
            "classes",
            ("negative", "positive"),
            "y < 0 against y > 0; clips with y = 0 are in neither training nor test",
        ),
        Task(
            "sentiment2-with-neutral",
            "classes",
            ("not positive", "positive"),
            "y <= 0 against y > 0: neutral counts as not positive",
        ),
        Task("sentiment", "value", ("sentiment",), "y in [-3, 3], regression"),
        *(_emotion(name) for name in EMOTIONS),
        Task(
            "emotions", "flags", EMOTIONS, "each emotion > 0 against = 0, one head of six sigmoids"
        ),
    )
}
"""Every task by name."""

SENTIMENT_CLASSES = (
    "sentiment7",
    "sentiment5",
    "sentiment3",
    "sentiment2",
    "sentiment2-with-neutral",
)
"""The columns of the paper's Table 1, in its order."""


def trained_task(name: str, scheme: str) -> str:
    """The task to train for a task that is asked for: under `mult` every sentiment figure
    comes from the one regression.
    """
    return "sentiment" if scheme == "mult" and name in SENTIMENT_CLASSES else name


def targets(clips: Sequence[Clip], task: Task) -> tuple[list[int], Array]:
    """What the task wants of each clip.

    Args:
        clips: clips of one split.
        task: one of `TASKS`.

    Returns:
        Which clips the task has (those whose label is known and, for `sentiment2`, is not 0),
        and their labels: classes `[n]` int64, values `[n]` float32, or flags `[n, F]` int64.
    """
    sentiment = np.array([clip.sentiment for clip in clips], np.float64)
    emotions = np.array([clip.emotions for clip in clips], np.float64).reshape(-1, len(EMOTIONS))
    if task.name == "emotions":
        held = ~np.isnan(emotions).any(1)
        labels = (emotions > 0).astype(np.int64)
    elif task.name in EMOTIONS:
        column = emotions[:, EMOTIONS.index(task.name)]
        held = ~np.isnan(column)
        labels = (column > 0).astype(np.int64)
    else:
        held = ~np.isnan(sentiment)
        known = np.where(held, sentiment, 0.0)
        if task.name == "sentiment":
            labels = known.astype(np.float32)
        elif task.name == "sentiment2":
            held = held & (sentiment != 0)
            labels = (known > 0).astype(np.int64)
        elif task.name == "sentiment2-with-neutral":
            labels = (known > 0).astype(np.int64)
        else:
            limit = len(task.outputs) // 2
            labels = sign_ceil(known, limit) + limit
    chosen = np.flatnonzero(held)
    return chosen.tolist(), labels[chosen]


def class_counts(clips: Sequence[Clip], task: Task) -> str:
    """How many clips each class has, as text: `156, 489, 705, …`."""
    _, labels = targets(clips, task)
    return ", ".join(f"{n:,}" for n in np.bincount(labels, minlength=len(task.outputs)))


def raw_labels(clips: Sequence[Clip], task: Task) -> list[str]:
    """The label of each clip before it became a class, as text; empty where the task has none."""
    if task.name == "emotions":
        return [""] * len(clips)
    if task.name in EMOTIONS:
        place = EMOTIONS.index(task.name)
        return [_plain(clip.emotions[place]) for clip in clips]
    return [_plain(clip.sentiment) for clip in clips]


def _plain(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
