"""Every metric against scikit-learn and SciPy."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn import metrics as reference

from pipeline.tasks.metrics import pearson, score_classes, score_flags, score_values


@settings(deadline=None)
@given(
    st.integers(2, 7).flatmap(
        lambda c: st.tuples(
            st.just(c),
            st.lists(st.tuples(st.integers(0, c - 1), st.integers(0, c - 1)), min_size=1),
        )
    )
)
def test_class_metrics_equal_scikit_learns(drawn):
    classes, pairs = drawn
    labels, predictions = np.array(pairs).T
    scored = score_classes(labels, predictions, classes)
    everything = list(range(classes))
    assert scored["accuracy"] == pytest.approx(reference.accuracy_score(labels, predictions))
    assert scored["weighted_f1"] == pytest.approx(
        reference.f1_score(labels, predictions, average="weighted", zero_division=0)
    )
    assert scored["macro_f1"] == pytest.approx(
        reference.f1_score(labels, predictions, average="macro", zero_division=0)
    )
    assert scored["balanced_accuracy"] == pytest.approx(
        reference.recall_score(
            labels, predictions, labels=sorted(set(labels)), average="macro", zero_division=0
        )
    )
    assert scored["confusion"] == (
        reference.confusion_matrix(labels, predictions, labels=everything).tolist()
    )
    assert scored["majority_rate"] == Counter(labels.tolist()).most_common(1)[0][1] / len(labels)
    recalls = reference.recall_score(
        labels, predictions, labels=everything, average=None, zero_division=0
    )
    for c in everything:
        if c in labels:
            assert scored["recall"][c] == pytest.approx(recalls[c])
        else:
            assert scored["recall"][c] is None


def test_no_label_at_all_is_refused():
    with pytest.raises(ValueError, match="no labels"):
        score_classes(np.array([], int), np.array([], int), 2)


def test_pearson_equals_scipys_and_is_undefined_for_constants():
    rng = np.random.default_rng(0)
    a = rng.normal(size=500) + 1e3
    b = a + rng.normal(size=500)
    assert pearson(a, b) == pytest.approx(pearsonr(a, b).statistic, abs=1e-12)
    assert pearson(a, np.full(500, 0.1)) is None
    assert pearson(np.zeros(500), b) is None
    assert pearson(a[:1], b[:1]) is None


def test_values_equal_scikit_learns():
    rng = np.random.default_rng(0)
    labels = rng.integers(-9, 10, 300) / 3
    predictions = labels + rng.normal(size=300)
    scored = score_values(labels, predictions)
    assert scored["mae"] == pytest.approx(reference.mean_absolute_error(labels, predictions))
    medians = np.full(300, np.median(labels))
    assert scored["constant_mae"] == pytest.approx(reference.mean_absolute_error(labels, medians))


def test_random_predictions_are_at_chance():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 7, 200_000), rng.integers(0, 7, 200_000)
    scored = score_classes(labels, predictions, 7)
    assert scored["accuracy"] == pytest.approx(1 / 7, abs=0.005)
    assert scored["macro_f1"] == pytest.approx(
        reference.f1_score(labels, predictions, average="macro", zero_division=0)
    )
    assert scored["balanced_accuracy"] == pytest.approx(1 / 7, abs=0.005)


def test_flags_are_scored_one_by_one_and_averaged():
    labels = np.array([[0, 1], [1, 1], [0, 0], [0, 1]])
    predictions = np.array([[0, 1], [0, 1], [0, 1], [0, 1]])
    scored = score_flags(labels, predictions, ("a", "b"))
    assert scored["flags"]["a"] == score_classes(labels[:, 0], predictions[:, 0], 2)
    assert scored["accuracy"] == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert scored["macro_f1"] == pytest.approx(
        reference.f1_score(labels, predictions, average="macro", zero_division=0)
    )
    assert scored["balanced_accuracy"] == pytest.approx(0.5)
