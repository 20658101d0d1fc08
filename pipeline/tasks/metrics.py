"""Every metric of the downstream tasks, each under a name with one written definition.

`DEFINITIONS` says each in words, so that a report can print what it shows.

Shapes: n clips, C classes, F flags (one yes-or-no question each).
"""

from typing import Any

import numpy as np

from pipeline.foundation.arrays import Array

DEFINITIONS: dict[str, str] = {
    "accuracy": "share of test clips whose class is predicted right (WA in papers on emotion)",
    "majority_rate": (
        "share of the most frequent class among the test labels: what the best constant answer gets"
    ),
    "balanced_accuracy": (
        "mean of the recalls of the classes that occur in the labels (UA in papers on emotion)"
    ),
    "weighted_f1": "F1 of each class, averaged with the class's share of the labels as weight",
    "macro_f1": "mean of the F1 of the classes that occur in the labels or the predictions",
    "recall": "share of each class's clips that were given that class",
    "confusion": "counts; a row is a true class, a column a predicted one",
    "mae": "mean absolute error of the raw prediction, neither clipped nor rounded",
    "pearson": (
        "Pearson correlation over all test clips; undefined (shown as missing) where the "
        "predictions are constant"
    ),
    "constant_mae": "MAE of always answering the median of the test labels",
    "average_precision": (
        "the mean precision of the words that are a yes, ranked by score (scikit-learn's average "
        "precision); a constant answer gets the share of yes"
    ),
    "f1": (
        "F1 of the yes, above the threshold that is best on the validation words, or on the "
        "training words where there are none; the constant answer is always yes"
    ),
    "top1": (
        "share of the texts with a yes whose highest word is one; the constant answer takes any "
        "word"
    ),
    "eer": (
        "equal error rate of all pairs of test clips, scored by the cosine of their vectors: the "
        "rate at which as many pairs of one speaker are rejected as pairs of two are accepted"
    ),
    "min_dcf": (
        "least detection cost over all thresholds, where one pair in a hundred is of one speaker, "
        "as a share of the cost of no system"
    ),
    "aos": (
        "audio overlapping score: the time that the answer shares with a true one, over the time "
        "of both together; of several true answers the best counts; mean over questions. The "
        "constant answer is the one stretch of time that is best for all questions of the test, "
        "of those that begin and end with some true answer (if there are more than 64 starts or "
        "ends, with one of 64, evenly by rank)"
    ),
    "frame_f1": (
        "harmonic mean of the shares that the answer and the true one have in common, in time; of "
        "several true answers the best counts; mean over questions"
    ),
    "ceiling": (
        "the greatest AOS that the cells of time allow in which an answer can begin and end, and "
        "the longest answer that is given"
    ),
    "sigma": "standard deviation over fine-tuning seeds, with n - 1",
}
"""What each name means, for tables and reports."""


def confusion(labels_n: Array, predictions_n: Array, classes: int) -> Array:
    """Counts `[C, C]`; row = true class, column = predicted class, both 0 … C - 1."""
    flat = np.asarray(labels_n, np.int64) * classes + np.asarray(predictions_n, np.int64)
    counts: Array = np.bincount(flat, minlength=classes * classes)
    return np.reshape(counts, (classes, classes))


def score_classes(labels_n: Array, predictions_n: Array, classes: int) -> dict[str, Any]:
    """All metrics of a classification, as plain JSON values.

    Args:
        labels_n: true classes, 0 … C - 1; at least one.
        predictions_n: predicted classes.
        classes: C.

    Returns:
        `accuracy`, `majority_rate`, `balanced_accuracy`, `weighted_f1`, `macro_f1`, `recall` (a
        class that no label has: None) and `confusion`; see `DEFINITIONS`.

    Raises:
        ValueError: there is no label.
    """
    if len(labels_n) == 0:
        raise ValueError("no labels to score against")
    counts = confusion(labels_n, predictions_n, classes)
    total = counts.sum()
    right, support, guessed = counts.diagonal(), counts.sum(1), counts.sum(0)
    occurs = support > 0
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + guessed, 1)
    return {
        "accuracy": float(right.sum() / total),
        "majority_rate": float(support.max() / total),
        "balanced_accuracy": float(recall[occurs].mean()),
        "weighted_f1": float((f1 * support).sum() / total),
        "macro_f1": float(f1[support + guessed > 0].mean()),
        "recall": [float(r) if o else None for r, o in zip(recall, occurs, strict=True)],
        "confusion": counts.tolist(),
    }


def pearson(labels_n: Array, predictions_n: Array) -> float | None:
    """Pearson correlation in float64; None where either side is constant."""
    a = np.asarray(labels_n, np.float64)
    b = np.asarray(predictions_n, np.float64)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(a @ a) * np.sqrt(b @ b))
    return float(np.clip((a @ b) / scale, -1, 1)) if scale > 0 else None


def score_values(labels_n: Array, predictions_n: Array) -> dict[str, Any]:
    """All metrics of a regression: `mae`, `pearson` and `constant_mae`; see `DEFINITIONS`."""
    labels_n = np.asarray(labels_n, np.float64)
    predictions_n = np.asarray(predictions_n, np.float64)
    return {
        "mae": float(np.abs(predictions_n - labels_n).mean()),
        "pearson": pearson(labels_n, predictions_n),
        "constant_mae": float(np.abs(np.median(labels_n) - labels_n).mean()),
    }


def score_flags(labels_nF: Array, predictions_nF: Array, names: tuple[str, ...]) -> dict[str, Any]:
    """Metrics of several yes-or-no questions and the unweighted means over them.

    Args:
        labels_nF: 1 where the flag holds, 0 where not.
        predictions_nF: the same, predicted.
        names: name of each flag.

    Returns:
        `flags`: a `score_classes` result per flag; and the means of `accuracy`,
        `majority_rate`, `balanced_accuracy`, `weighted_f1` and `macro_f1`.
    """
    flags = {
        name: score_classes(labels_nF[:, i], predictions_nF[:, i], 2)
        for i, name in enumerate(names)
    }
    means = {
        key: float(np.mean([flag[key] for flag in flags.values()]))
        for key in ("accuracy", "majority_rate", "balanced_accuracy", "weighted_f1", "macro_f1")
    }
    return {**means, "flags": flags}
