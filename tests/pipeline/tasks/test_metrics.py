import csv
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn import metrics as reference

from pipeline.tasks.metrics import (
    derived_classes,
    judge_classes,
    judge_flags,
    judge_values,
    pearson,
    rounded,
    sign_ceil,
)
from tests.helpers.mosei import REAL_DATA, needs_real_data

SENTIMENT = [-3.0, -2.5, -2.0001, -5 / 3, -1.5, -1.0, -0.5, -1e-6, 0.0]


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (3, [-3, -3, -3, -2, -2, -1, -1, -1, 0]),
        (2, [-2, -2, -2, -2, -2, -1, -1, -1, 0]),
        (1, [-1, -1, -1, -1, -1, -1, -1, -1, 0]),
    ],
)
def test_sign_ceil_is_the_sdks_table(limit, wanted):
    assert sign_ceil(np.array(SENTIMENT), limit).tolist() == wanted
    assert sign_ceil(-np.array(SENTIMENT), limit).tolist() == [-w for w in wanted]


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (3, [-3, -2, -2, -2, -2, -1, 0, 0, 0]),
        (2, [-2, -2, -2, -2, -2, -1, 0, 0, 0]),
        (1, [-1, -1, -1, -1, -1, -1, 0, 0, 0]),
    ],
)
def test_rounded_clips_and_rounds_half_to_even(limit, wanted):
    assert rounded(np.array(SENTIMENT), limit).tolist() == wanted
    assert rounded(-np.array(SENTIMENT), limit).tolist() == [-w for w in wanted]


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
    judged = judge_classes(labels, predictions, classes)
    everything = list(range(classes))
    assert judged["accuracy"] == pytest.approx(reference.accuracy_score(labels, predictions))
    assert judged["weighted_f1"] == pytest.approx(
        reference.f1_score(labels, predictions, average="weighted", zero_division=0)
    )
    assert judged["balanced_accuracy"] == pytest.approx(
        reference.recall_score(
            labels, predictions, labels=sorted(set(labels)), average="macro", zero_division=0
        )
    )
    assert judged["confusion"] == (
        reference.confusion_matrix(labels, predictions, labels=everything).tolist()
    )
    assert judged["majority_rate"] == Counter(labels.tolist()).most_common(1)[0][1] / len(labels)
    recalls = reference.recall_score(
        labels, predictions, labels=everything, average=None, zero_division=0
    )
    for c in everything:
        if c in labels:
            assert judged["recall"][c] == pytest.approx(recalls[c])
        else:
            assert judged["recall"][c] is None


def test_no_label_at_all_is_refused():
    with pytest.raises(ValueError, match="no labels"):
        judge_classes(np.array([], int), np.array([], int), 2)


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
    judged = judge_values(labels, predictions)
    assert judged["mae"] == pytest.approx(reference.mean_absolute_error(labels, predictions))
    medians = np.full(300, np.median(labels))
    assert judged["constant_mae"] == pytest.approx(reference.mean_absolute_error(labels, medians))


def test_perfect_predictions_are_perfect_under_every_convention():
    """A check that would have caught MMSA's 27 % 'Non0_acc_2': labels 0, 2, predictions 0, 1."""
    labels = np.random.default_rng(0).integers(-9, 10, 400) / 3
    judged = judge_values(labels, labels)
    assert judged["mae"] == 0
    assert judged["pearson"] == pytest.approx(1)
    assert len(judged["derived"]) == 11
    for name, derived in judged["derived"].items():
        assert derived["accuracy"] == derived["balanced_accuracy"] == 1, name
        assert derived["weighted_f1"] == 1, name


def test_a_constant_answer_gets_its_class_share_and_no_more():
    labels = np.random.default_rng(0).integers(-9, 10, 400) / 3
    judged = judge_values(labels, np.full(400, 0.5))
    polar = labels[labels != 0]
    assert judged["pearson"] is None
    accuracy = {name: d["accuracy"] for name, d in judged["derived"].items()}
    assert accuracy["paper/sentiment7"] == np.mean((labels > 0) & (labels <= 1))
    assert accuracy["mult/sentiment7"] == np.mean(np.rint(labels) == 0)  # half to even
    assert accuracy["paper/sentiment2"] == accuracy["mult/sentiment2"] == np.mean(polar > 0)
    assert accuracy["paper/sentiment2-with-neutral"] == np.mean(labels > 0)
    assert accuracy["mult/sentiment2-nonnegative"] == np.mean(labels >= 0)
    for derived in judged["derived"].values():
        assert derived["accuracy"] <= derived["majority_rate"]
        assert derived["balanced_accuracy"] == pytest.approx(
            1 / sum(map(any, derived["confusion"]))
        )


def test_random_predictions_are_at_chance():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 7, 200_000), rng.integers(0, 7, 200_000)
    judged = judge_classes(labels, predictions, 7)
    assert judged["accuracy"] == pytest.approx(1 / 7, abs=0.005)
    assert judged["balanced_accuracy"] == pytest.approx(1 / 7, abs=0.005)


def test_neutral_counts_where_each_convention_says():
    """Three groupings of neutral stand in the literature; one clip of y = 0 tells them apart."""
    made = derived_classes(np.array([0.0]), np.array([0.0]))
    assert len(made["mult/sentiment2"][0]) == 0
    assert made["mult/sentiment2-with-neutral"][0].tolist() == [False]
    assert made["paper/sentiment2-with-neutral"][0].tolist() == [False]
    assert made["mult/sentiment2-nonnegative"][0].tolist() == [True]


def test_a_regressor_never_reaches_class_zero_under_the_papers_scheme():
    predictions = np.random.default_rng(0).normal(size=10_000) * 0.01
    assert 0 not in sign_ceil(predictions, 3)


def test_flags_are_judged_one_by_one_and_averaged():
    labels = np.array([[0, 1], [1, 1], [0, 0], [0, 1]])
    predictions = np.array([[0, 1], [0, 1], [0, 1], [0, 1]])
    judged = judge_flags(labels, predictions, ("a", "b"))
    assert judged["flags"]["a"] == judge_classes(labels[:, 0], predictions[:, 0], 2)
    assert judged["accuracy"] == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert judged["balanced_accuracy"] == pytest.approx(0.5)


@needs_real_data
def test_sign_ceil_gives_the_csds_own_seven_classes():
    """22,850 real sentiments against the class labels of s3prl's conversion of the csd."""
    with (REAL_DATA / "CMU_MOSEI_Labels.csv").open(encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    with (REAL_DATA / "mosei_joined.csv").open(encoding="utf-8") as file:
        joined = [row for row in csv.DictReader(file) if row["csd_index"]]
    by_clip = {(row["file"], row["index"]): int(row["label7"]) for row in labels}
    wanted = [by_clip[row["video_id"], row["csd_index"]] for row in joined]
    found = sign_ceil(np.array([float(row["sentiment"]) for row in joined]), 3)
    assert len(joined) == 22_850
    assert found.tolist() == wanted
    test_fold = Counter(int(row["label7"]) for row in labels if row["split"] == "2")
    counts = [test_fold[c] for c in range(-3, 4)]
    assert counts == [156, 489, 705, 1025, 1512, 665, 110]
