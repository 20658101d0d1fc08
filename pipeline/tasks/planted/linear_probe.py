"""A linear probe: what can be read from vectors of examples that it was not trained on."""

from collections.abc import Sequence

import numpy as np

from pipeline.foundation.arrays import Array

INVERSE_PENALTY = 0.1
"""scikit-learn's C of the logistic regression; fixed, since nothing is to be tuned on a test."""


def probe(train_CD: Array, labels_C: Sequence[str], test_CD: Array) -> Array:
    """Labels of test vectors by a logistic regression on standardised train vectors.

    Args:
        train_CD: vectors to learn from.
        labels_C: their labels.
        test_CD: vectors to judge, standardised by the train vectors' statistics.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=2000))
    model.fit(np.asarray(train_CD, np.float64), list(labels_C))
    judged: Array = model.predict(np.asarray(test_CD, np.float64))
    return judged
