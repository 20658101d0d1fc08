"""What an encoder is asked: a task, and a question, which is a task with the labels of some texts.

Shapes: n texts, O outputs of the head, F flags.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.tasks.metrics import score_classes, score_flags, score_values

Kind: TypeAlias = Literal["classes", "value", "flags"]


@dataclass(frozen=True)
class Task:
    """What is asked of a text; one head is trained for it.

    Attributes:
        name: name on the command line and in results.
        kind: `classes` (one of several: softmax), `value` (a number: regression) or `flags`
            (several yes-or-no questions: one sigmoid each).
        outputs: what each output of the head stands for.
        definition: the convention behind the labels, in words; printed in reports.
        own_metrics: further metrics of this task alone, from labels and predictions.
    """

    name: str
    kind: Kind
    outputs: tuple[str, ...]
    definition: str
    own_metrics: Callable[[Array, Array], dict[str, Any]] | None = None

    def score(self, labels: Array, scores_nO: Array) -> dict[str, Any]:
        """Every metric of this task, from true labels and the head's outputs.

        Args:
            labels: classes `[n]`, values `[n]` or flags `[n, F]`, by kind.
            scores_nO: outputs of the head: logits, or the value itself.
        """
        predictions = self.decide(scores_nO)
        if self.kind == "classes":
            metrics = score_classes(labels, predictions, len(self.outputs))
        elif self.kind == "flags":
            metrics = score_flags(labels, predictions, self.outputs)
        else:
            metrics = score_values(labels, predictions)
        return metrics | (self.own_metrics(labels, predictions) if self.own_metrics else {})

    def decide(self, scores_nO: Array) -> Array:
        """Predictions from the head's outputs: the largest logit, the value, or logit > 0."""
        if self.kind == "classes":
            return np.asarray(scores_nO.argmax(1), np.int64)
        if self.kind == "flags":
            return np.asarray(scores_nO > 0, np.int64)
        return np.asarray(scores_nO[:, 0])


@dataclass(frozen=True)
class Question:
    """A task with its labels.

    Attributes:
        task: what is asked.
        places: for `train`, `valid` and `test`, which of the texts at hand are in it.
        labels: the labels of those texts.
        raw: the test texts' labels before they became classes, as text.
        fold: the part of the data that is the test, where the same task is asked once per part
            (`pipeline.tasks.folds`); empty where the data have one split.
        repeated: how many of the test texts stand in training, too (`pipeline.tasks.duplicates`).
    """

    task: Task
    places: Mapping[str, Sequence[int]]
    labels: Mapping[str, Array]
    raw: Sequence[str]
    fold: str = ""
    repeated: int = 0

    @property
    def title(self) -> str:
        """The task, and the fold if there are several."""
        return f"{self.task.name}, fold {self.fold}" if self.fold else self.task.name

    @property
    def counts(self) -> dict[str, int]:
        """Number of texts per split."""
        return {split: len(places) for split, places in self.places.items()}
