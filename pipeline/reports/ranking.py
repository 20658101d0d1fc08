"""Measures in bootstrap draws that are no mean over items: sums where there are any, else ranks.

Shapes: G groups of texts, R bootstrap draws, n words or texts, T texts, C classes.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.reports.predictions import Predictions, WordAnswers
from pipeline.tasks.words import tie_ends, top_words

NUMBERS_AT_ONCE = 4_000_000
"""Weights of words in memory, over some draws."""


@dataclass(frozen=True)
class Ranked:
    """Words in the order of their scores, the highest first.

    Attributes:
        yes_n: 1 for a yes, float32.
        group_n: the group of each word.
        ends: the last place of each run of equal scores.
    """

    yes_n: Array
    group_n: Array
    ends: Array

    @classmethod
    def of(cls, one: Predictions, group_n: Array) -> "Ranked":
        """The words that a cell was tested on.

        Args:
            one: what it predicted.
            group_n: the group of each word.
        """
        margins_n = _words(one).margins
        order_n = np.argsort(-margins_n, kind="stable")
        yes_n = one.labels[order_n].astype(np.float32)
        return cls(yes_n, group_n[order_n], tie_ends(margins_n[order_n]))

    def average_precision_R(self, groups_RG: Array) -> Array:
        """Average precision `[R]` where each group counts as often as a draw has it.

        It is that of `pipeline.tasks.words.average_precision` on the words of the draw; not a
        number for a draw without a yes.

        Args:
            groups_RG: how often each draw has each group.
        """
        at_once = max(1, NUMBERS_AT_ONCE // max(1, len(self.group_n)))
        values = []
        for first in range(0, len(groups_RG), at_once):
            # sums of whole numbers below 2^24, so that float32 holds them exactly
            weights_Rn = groups_RG[first : first + at_once].astype(np.float32)[:, self.group_n]
            all_R = np.cumsum(weights_Rn, 1)[:, self.ends]
            right_R = np.cumsum(weights_Rn * self.yes_n, 1)[:, self.ends].astype(np.float64)
            gained_R = np.diff(right_R, prepend=0, axis=1)
            total_R = (gained_R * right_R / np.maximum(all_R, 1)).sum(1)
            values.append(total_R / right_R[:, -1])
        return np.concatenate(values)


def yes_sums(one: Predictions, group_n: Array) -> Array:
    """Per group `[G, 2]`: half of the words that are or are called a yes; those that are both.

    F1 of the yes is the second over the first.
    """
    labels, answers = one.labels.astype(np.float64), one.predictions.astype(np.float64)
    terms = [(labels + answers) / 2, labels * answers]
    return np.stack([np.bincount(group_n, term) for term in terms], 1)


def text_sums(one: Predictions, group_n: Array) -> Array:
    """Per group `[G, 2]`: texts with a yes, and of how many of them the highest word is one."""
    words = _words(one)
    text_n = words.text_n
    has_T, right_T = top_words(one.labels, words.margins, text_n)
    group_T = np.zeros(len(has_T), np.int64)
    group_T[text_n] = group_n  # all words of a text are of one group
    terms = (has_T.astype(np.float64), has_T * right_T)
    groups = int(group_n.max()) + 1
    return np.stack([np.bincount(group_T, term, minlength=groups) for term in terms], 1)


def class_sums(labels: Array, predictions: Array, group_n: Array) -> Array:
    """Per group and class `[G, 3 C]`: right answers, true labels, answers; for `weighted_f1`."""
    classes = np.unique(np.concatenate([labels, predictions]))
    groups, count = int(group_n.max()) + 1, len(classes)
    label_n, answer_n = np.searchsorted(classes, labels), np.searchsorted(classes, predictions)
    right_n = label_n == answer_n
    terms = [(label_n[right_n], group_n[right_n]), (label_n, group_n), (answer_n, group_n)]
    return np.concatenate(
        [
            np.bincount(group * count + kind, minlength=groups * count).reshape(groups, count)
            for kind, group in terms
        ],
        1,
    ).astype(np.float32)  # whole numbers below 2^24


def weighted_f1(sums: Array) -> Array:
    """F1 of each class weighed by its true labels `[...]`, from sums `[..., 3 C]`.

    As scikit-learn's `f1_score(average="weighted")`: F1 of a class is 2 right / (labels + answers),
    which without labels has no weight.
    """
    right, labels, answers = np.split(sums, 3, -1)
    of_class = 2 * right / np.maximum(labels + answers, 1)
    return np.asarray((of_class * labels).sum(-1) / labels.sum(-1))


def _words(one: Predictions) -> WordAnswers:
    if one.words is None:
        raise ValueError("these predictions are of whole texts")
    return one.words
