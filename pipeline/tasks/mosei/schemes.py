"""Classes of sentiment: published accuracies make them of a number in [-3, 3] in two ways.

`DEFINITIONS` says each in words, as those of `pipeline.tasks.metrics`.

Shapes: n clips.
"""

from typing import Any

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.tasks.metrics import score_classes

DEFINITIONS: dict[str, str] = {
    "paper/sentiment7": "class = sign(y) * min(ceil(|y|), 3), so class 0 is exactly y = 0",
    "paper/sentiment5": "class = sign(y) * min(ceil(|y|), 2)",
    "paper/sentiment3": "class = sign(y)",
    "paper/sentiment2": (
        "clips with y = 0 are left out (of a classifier's training too); y > 0 against y < 0"
    ),
    "paper/sentiment2-with-neutral": "y > 0 against y <= 0: neutral counts as not positive",
    "mult/sentiment7": "class = y clipped to [-3, 3], rounded half to even",
    "mult/sentiment5": "class = y clipped to [-2, 2], rounded half to even",
    "mult/sentiment3": "class = y clipped to [-1, 1], rounded half to even",
    "mult/sentiment2": "clips with label y = 0 are left out of the test; > 0 against <= 0",
    "mult/sentiment2-with-neutral": "> 0 against <= 0: neutral counts as not positive",
    "mult/sentiment2-nonnegative": "< 0 against >= 0: neutral counts as not negative",
    "mult/f1": (
        "F1 of both classes of Acc2, averaged with the class's share of the predictions as weight: "
        "MulT gives its arguments in the other order"
    ),
    "emotion": "the emotion is present where its label is > 0",
}
"""What each convention means, for tables and reports."""


def sign_ceil(values_n: Array, limit: int) -> Array:
    """Classes by sign and ceiling, as CMU's SDK defines them: `sign(y) * min(ceil(|y|), limit)`.

    Args:
        values_n: sentiment values.
        limit: largest class: 3 for seven classes, 2 for five, 1 for three.

    Returns:
        Integers from `-limit` to `limit`.
    """
    values_n = np.asarray(values_n)
    classes_n = np.sign(values_n) * np.minimum(np.ceil(np.abs(values_n)), limit)
    return np.asarray(classes_n, np.int64)


def rounded(values_n: Array, limit: int) -> Array:
    """Classes by clipping and rounding half to even, as MulT and MMSA define them."""
    return np.asarray(np.rint(np.clip(np.asarray(values_n), -limit, limit)), np.int64)


def score_derived(labels_n: Array, predictions_n: Array) -> dict[str, Any]:
    """What each class scheme makes of a regression of sentiment.

    Returns:
        Under `derived` a `score_classes` result for each `scheme/task` of `derived_classes` that
        has at least one clip; that of `mult/sentiment2` has `weighted_f1_as_mult` as well.
    """
    labels_n = np.asarray(labels_n, np.float64)
    predictions_n = np.asarray(predictions_n, np.float64)
    derived = {
        name: score_classes(labels, predictions, classes)
        for name, (labels, predictions, classes) in derived_classes(labels_n, predictions_n).items()
        if len(labels)
    }
    if "mult/sentiment2" in derived:
        labels, predictions, _ = derived_classes(labels_n, predictions_n)["mult/sentiment2"]
        # MulT calls f1_score(predictions, labels): the classes are weighted by what was predicted
        swapped = score_classes(predictions, labels, 2)["weighted_f1"]
        derived["mult/sentiment2"]["weighted_f1_as_mult"] = swapped
    return {"derived": derived}


def derived_classes(labels_n: Array, predictions_n: Array) -> dict[str, tuple[Array, Array, int]]:
    """Labels, predictions and class count that each scheme derives from a regressor's output.

    Under `paper` a regressor all but never emits class 0, which is y = 0 exactly. That is a
    property of the scheme, and the reason why it goes with one classifier per class count.
    """
    derived: dict[str, tuple[Array, Array, int]] = {}
    for scheme, to_class in (("paper", sign_ceil), ("mult", rounded)):
        for classes in (7, 5, 3):
            limit = classes // 2
            derived[f"{scheme}/sentiment{classes}"] = (
                to_class(labels_n, limit) + limit,
                to_class(predictions_n, limit) + limit,
                classes,
            )
        polar = labels_n != 0
        positive, predicted_positive = labels_n > 0, predictions_n > 0
        derived[f"{scheme}/sentiment2"] = (positive[polar], predicted_positive[polar], 2)
        derived[f"{scheme}/sentiment2-with-neutral"] = (positive, predicted_positive, 2)
    derived["mult/sentiment2-nonnegative"] = (labels_n >= 0, predictions_n >= 0, 2)
    return derived
