"""What an encoder is asked: a task, and a question, which is a task with the labels of some texts.

Shapes: n texts, O outputs of the head, F flags.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.tasks.metrics import score_classes, score_flags, score_values
from pipeline.tasks.spans.overlap import score_spans
from pipeline.tasks.words import AskedWords, score_words

Kind: TypeAlias = Literal["classes", "value", "flags", "words", "speaker", "spans"]


@dataclass(frozen=True)
class Task:
    """What is asked of a text; one head is trained for it.

    Attributes:
        name: name on the command line and in results.
        kind: `classes` (one of several: softmax), `value` (a number: regression), `flags`
            (several yes-or-no questions: one sigmoid each), `words` (yes or no of each word:
            softmax of two), `speaker` (trained as classes, judged by the vectors of clips of
            other speakers, by `own_metrics` alone) or `spans` (a stretch of a spoken passage).
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
            scores_nO: outputs of the head: logits, or the value itself; of speakers the vectors
                `[n, D]` that the head reads.

        Raises:
            ValueError: the kind is `words` or `spans`, of which the question knows the texts or the
                passages.
        """
        if self.kind in ("words", "spans"):
            raise ValueError("ask the question: it knows the texts or the passages of its answers")
        if self.kind == "speaker":
            return self.own_metrics(labels, scores_nO) if self.own_metrics else {}
        predictions = self.decide(scores_nO)
        if self.kind == "classes":
            metrics = score_classes(labels, predictions, len(self.outputs))
        elif self.kind == "flags":
            metrics = score_flags(labels, predictions, self.outputs)
        else:
            metrics = score_values(labels, predictions)
        return metrics | (self.own_metrics(labels, predictions) if self.own_metrics else {})

    def decide(self, scores_nO: Array) -> Array:
        """Predictions from the head's outputs: the largest logit, the value, logit > 0, or the
        ends of a stretch.
        """
        if self.kind == "spans":
            return np.asarray(scores_nO[:, :2])
        if self.kind in ("classes", "words"):
            return np.asarray(scores_nO.argmax(1), np.int64)
        if self.kind == "flags":
            return np.asarray(scores_nO > 0, np.int64)
        return np.asarray(scores_nO[:, 0])


@dataclass(frozen=True)
class AskedPassages:
    """The passages that the questions of a split are about, question by question.

    Attributes:
        names: of the passages.
        seconds_n: how long each is, float64.
    """

    names: tuple[str, ...]
    seconds_n: Array


@dataclass(frozen=True)
class Question:
    """A task with its labels.

    Attributes:
        task: what is asked.
        places: for `train`, `valid` and `test`, which of the texts at hand are in it.
        labels: the labels of those texts, or of their words; of spans the true answers
            `[n, A, 2]`, in seconds, (0, 0) where a question has fewer than A.
        raw: the test labels before they became classes, as text.
        fold: the part of the data that is the test, where the same task is asked once per part
            (`pipeline.tasks.folds`); empty where the data have one split.
        repeated: how many of the test texts stand in training, too (`pipeline.tasks.duplicates`).
        words: for each split the words that are asked of; empty where texts are asked of as wholes.
        passages: for each split the passages that are asked about; empty but for spans.
    """

    task: Task
    places: Mapping[str, Sequence[int]]
    labels: Mapping[str, Array]
    raw: Sequence[str]
    fold: str = ""
    repeated: int = 0
    words: Mapping[str, AskedWords] = field(default_factory=dict)
    passages: Mapping[str, AskedPassages] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The task, and the fold if there are several."""
        return f"{self.task.name}, fold {self.fold}" if self.fold else self.task.name

    @property
    def counts(self) -> dict[str, int]:
        """Number of texts per split."""
        return {split: len(places) for split, places in self.places.items()}

    def answers(self, split: str) -> Sequence[int]:
        """How many answers each text of a split wants: one, or one per word that is asked of."""
        return self.words[split].counts if self.words else [1] * len(self.places[split])

    def labels_of(self, split: str, chosen: Array) -> Array:
        """The labels of some texts of a split, text after text.

        Args:
            split: which.
            chosen: places in `places[split]`.
        """
        return self.labels[split][self.words[split].of_texts(chosen) if self.words else chosen]

    def score(self, split: str, scores_nO: Array) -> dict[str, Any]:
        """Every metric of the answers to a split, from the head's outputs in the order of labels.

        Raises:
            ValueError: the split has no label.
        """
        if self.passages:
            return score_spans(self.labels[split], scores_nO, self.passages[split].seconds_n)
        if not self.words:
            return self.task.score(self.labels[split], scores_nO)
        words = self.words[split]
        return score_words(self.labels[split], margins(scores_nO), words.text_n, words.prior_n)

    def names(self, split: str, of_texts: Sequence[str]) -> list[str]:
        """Names of all texts at hand → a name per answer to a split: a word has one of its own."""
        if self.words:
            return list(self.words[split].ids)
        return [of_texts[place] for place in self.places[split]]

    def repeat(self, split: str, of_texts: Sequence[str]) -> list[str]:
        """Something of all texts at hand, such as their groups → the same per answer to a split."""
        answers = zip(self.places[split], self.answers(split), strict=True)
        return [of_texts[place] for place, count in answers for _ in range(count)]


def margins(scores_nO: Array) -> Array:
    """By how much yes beats no `[n]`, float64, from outputs of a head of words `[n, 2]`."""
    return np.asarray(scores_nO[:, 1], np.float64) - np.asarray(scores_nO[:, 0], np.float64)
