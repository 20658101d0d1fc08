"""Questions of single words: which words of a text they ask of, and how answers are judged.

Shapes: n words, T texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.tasks.metrics import score_classes

OUTPUTS = ("no", "yes")
"""What the outputs of a head stand for that answers of each word."""
RANKED = {"average_precision": "average precision", "f1": "F1", "top1": "top-1"}
"""The metrics of answers to words, and what each is called."""


@dataclass(frozen=True)
class AskedWords:
    """The words of some texts that a question asks of, one text after the other.

    Attributes:
        counts: how many words of each text; at least one.
        ids: a name for each word: that of its text, a colon, and its place in the text from 1.
        spellings: the words as the texts write them.
        prior_n: what the word alone tells: log-odds of yes by the training words that are spelled
            alike, counted from where they are best called a yes; float32.
    """

    counts: tuple[int, ...]
    ids: tuple[str, ...]
    spellings: tuple[str, ...]
    prior_n: Array

    @cached_property
    def ends_T(self) -> Array:
        """One after the last word of each text."""
        return np.cumsum(self.counts, dtype=np.int64)

    @cached_property
    def text_n(self) -> Array:
        """The text of each word, by its place."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def of_texts(self, chosen: Sequence[int] | Array) -> Array:
        """Places of all words of some texts, in the order of these texts."""
        return spread(np.asarray(self.counts, np.int64), np.asarray(chosen, np.int64))


def spread(counts_T: Array, chosen: Array) -> Array:
    """Places of the members of some groups that lie end to end, in the order of these groups.

    Args:
        counts_T: how many members each group has.
        chosen: which groups.
    """
    starts_T = np.cumsum(counts_T) - counts_T
    mine = counts_T[chosen]
    shift = np.repeat(starts_T[chosen] - (np.cumsum(mine) - mine), mine)
    return np.asarray(shift + np.arange(int(mine.sum())), np.int64)


def score_words(labels_n: Array, margins_n: Array, text_n: Array, prior_n: Array) -> dict[str, Any]:
    """All metrics of answers to each word, as plain JSON values.

    Args:
        labels_n: 1 for a yes, 0 for a no; at least one.
        margins_n: by how much yes beats no; a word with more than 0 is answered yes.
        text_n: number of the text that each word is of, from 0.
        prior_n: the same as `margins_n`, by the words alone.

    Returns:
        The metrics of `score_classes`, those of `ranked` for the answers, and under `chance` and
        `prior` the same for a constant answer and for the words alone; see `DEFINITIONS`.

    Raises:
        ValueError: there is no label.
    """
    constant_n = np.ones(len(labels_n))
    return {
        **score_classes(labels_n, margins_n > 0, 2),
        **ranked(labels_n, margins_n, text_n),
        "chance": ranked(labels_n, constant_n, text_n),
        "prior": ranked(labels_n, prior_n, text_n),
    }


def ranked(labels_n: Array, margins_n: Array, text_n: Array) -> dict[str, float | None]:
    """`average_precision`, `f1` and `top1` of answers to each word; None where no word is a yes."""
    return {
        "average_precision": average_precision(labels_n, margins_n),
        "f1": f1(labels_n, margins_n > 0),
        "top1": mean_or_none(*top_words(labels_n, margins_n, text_n)),
    }


def average_precision(labels_n: Array, scores_n: Array) -> float | None:
    """Σ (R_k − R_{k−1}) P_k over the distinct scores from the highest; None if no word is a yes.

    Equal scores are one step, so a constant answer gets the share of yes. This is scikit-learn's
    `average_precision_score`, without interpolation.
    """
    order_n = np.argsort(-np.asarray(scores_n), kind="stable")
    ends = tie_ends(np.asarray(scores_n)[order_n])
    right = np.cumsum(np.asarray(labels_n, np.int64)[order_n])[ends]
    if not len(right) or not right[-1]:
        return None
    return float((np.diff(right, prepend=0) * right / (ends + 1)).sum() / right[-1])


def tie_ends(sorted_n: Array) -> Array:
    """The last place of each run of equal values."""
    return np.flatnonzero(np.diff(sorted_n, append=np.nan) != 0)


def f1(labels_n: Array, answers_n: Array) -> float | None:
    """F1 of the yes: 2 TP / (2 TP + FP + FN); None if no word is a yes."""
    labels_n, answers_n = np.asarray(labels_n, bool), np.asarray(answers_n, bool)
    if not labels_n.any():
        return None
    return float(2 * (labels_n & answers_n).sum() / (labels_n.sum() + answers_n.sum()))


def top_words(labels_n: Array, scores_n: Array, text_n: Array) -> tuple[Array, Array]:
    """For each text, whether it has a yes, and whether its highest word is one.

    Of several words that are equally high, the share of yes among them counts, which is what
    taking one of them by chance gives.

    Returns:
        `has_T`, bool, and `right_T`, 0 to 1.
    """
    texts = int(text_n.max()) + 1 if len(text_n) else 0
    best_T = np.full(texts, -np.inf)
    np.maximum.at(best_T, text_n, scores_n)
    highest_n = np.asarray(scores_n) == best_T[text_n]
    yes_T = np.bincount(text_n, highest_n * labels_n, minlength=texts)
    highest_T = np.bincount(text_n, highest_n, minlength=texts)
    return np.bincount(text_n, labels_n, minlength=texts) > 0, yes_T / np.maximum(highest_T, 1)


def mean_or_none(has_T: Array, right_T: Array) -> float | None:
    """The mean over those that have something; None if none has."""
    return float(right_T[has_T].mean()) if has_T.any() else None


def best_threshold(labels_n: Array, scores_n: Array) -> float | None:
    """The score above which to answer yes for the highest F1; None if no word is a yes.

    It lies half way between two scores, or one under the lowest if all are best called a yes.
    """
    order_n = np.argsort(-np.asarray(scores_n, np.float64), kind="stable")
    sorted_n = np.asarray(scores_n, np.float64)[order_n]
    ends = tie_ends(sorted_n)
    right = np.cumsum(np.asarray(labels_n, np.int64)[order_n])[ends]
    if not len(right) or not right[-1]:
        return None
    best = int(np.argmax(2 * right / (right[-1] + ends + 1)))
    lowest = float(sorted_n[ends[best]])
    return lowest - 1 if best == len(ends) - 1 else (lowest + float(sorted_n[ends[best] + 1])) / 2
