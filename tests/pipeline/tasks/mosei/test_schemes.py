"""Classes of sentiment by the two published schemes, against their own tables and real labels."""

import csv
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from pipeline.tasks.mosei.questions import TASKS
from pipeline.tasks.mosei.schemes import derived_classes, rounded, sign_ceil
from tests.helpers.mosei import REAL_DATA, needs_real_data

SENTIMENT = TASKS["sentiment"]
VALUES = [-3.0, -2.5, -2.0001, -5 / 3, -1.5, -1.0, -0.5, -1e-6, 0.0]


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (3, [-3, -3, -3, -2, -2, -1, -1, -1, 0]),
        (2, [-2, -2, -2, -2, -2, -1, -1, -1, 0]),
        (1, [-1, -1, -1, -1, -1, -1, -1, -1, 0]),
    ],
)
def test_sign_ceil_is_the_sdks_table(limit, wanted):
    assert sign_ceil(np.array(VALUES), limit).tolist() == wanted
    assert sign_ceil(-np.array(VALUES), limit).tolist() == [-w for w in wanted]


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (3, [-3, -2, -2, -2, -2, -1, 0, 0, 0]),
        (2, [-2, -2, -2, -2, -2, -1, 0, 0, 0]),
        (1, [-1, -1, -1, -1, -1, -1, 0, 0, 0]),
    ],
)
def test_rounded_clips_and_rounds_half_to_even(limit, wanted):
    assert rounded(np.array(VALUES), limit).tolist() == wanted
    assert rounded(-np.array(VALUES), limit).tolist() == [-w for w in wanted]


def test_perfect_predictions_are_perfect_under_every_convention():
    """A check that would have caught MMSA's 27 % 'Non0_acc_2': labels 0, 2, predictions 0, 1."""
    labels = np.random.default_rng(0).integers(-9, 10, 400) / 3
    scored = SENTIMENT.score(labels, labels[:, None])
    assert scored["mae"] == 0
    assert scored["pearson"] == pytest.approx(1)
    assert len(scored["derived"]) == 11
    for name, derived in scored["derived"].items():
        assert derived["accuracy"] == derived["balanced_accuracy"] == 1, name
        assert derived["weighted_f1"] == 1, name


def test_acc2_and_f1_are_what_mults_own_lines_give():
    """Its eval_metrics.py: `f1_score((preds > 0), (truth > 0))`, so that predictions weight."""
    source = np.random.default_rng(0)
    truth = (source.integers(-9, 10, 400) / 3).astype(np.float32)
    preds = (truth + source.normal(0.7, 1.5, 400)).astype(np.float32)
    polar = truth != 0
    scored = SENTIMENT.score(truth, preds[:, None])["derived"]["mult/sentiment2"]
    assert scored["accuracy"] == pytest.approx(accuracy_score(truth[polar] > 0, preds[polar] > 0))
    f1, other_way = (
        f1_score(*pair, average="weighted")
        for pair in (
            (preds[polar] > 0, truth[polar] > 0),
            (truth[polar] > 0, preds[polar] > 0),
        )
    )
    assert scored["weighted_f1_as_mult"] == pytest.approx(f1)
    assert scored["weighted_f1"] == pytest.approx(other_way)
    assert abs(f1 - other_way) > 1e-3


def test_a_constant_answer_gets_its_class_share_and_no_more():
    labels = np.random.default_rng(0).integers(-9, 10, 400) / 3
    scored = SENTIMENT.score(labels, np.full((400, 1), 0.5))
    polar = labels[labels != 0]
    assert scored["pearson"] is None
    accuracy = {name: d["accuracy"] for name, d in scored["derived"].items()}
    assert accuracy["paper/sentiment7"] == np.mean((labels > 0) & (labels <= 1))
    assert accuracy["mult/sentiment7"] == np.mean(np.rint(labels) == 0)  # half to even
    assert accuracy["paper/sentiment2"] == accuracy["mult/sentiment2"] == np.mean(polar > 0)
    assert accuracy["paper/sentiment2-with-neutral"] == np.mean(labels > 0)
    assert accuracy["mult/sentiment2-nonnegative"] == np.mean(labels >= 0)
    for derived in scored["derived"].values():
        assert derived["accuracy"] <= derived["majority_rate"]
        assert derived["balanced_accuracy"] == pytest.approx(
            1 / sum(map(any, derived["confusion"]))
        )


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
