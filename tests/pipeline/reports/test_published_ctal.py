"""CTAL's published figures: as typed in, and beside ours only where both are defined alike."""

import numpy as np
import pytest

from pipeline.reports.fold_tables import by_fold
from pipeline.reports.published_ctal import EMOTION, SENTIMENT
from pipeline.reports.tables import tables
from pipeline.tasks.iemocap import labels_of
from pipeline.tasks.metrics import score_classes, score_values
from pipeline.tasks.mosei.schemes import score_derived
from tests.helpers.finished import cell

FUSED = {"epochs": 20, "orthogonal": 1.0, "selection": "best-valid"}
GIVEN = {"origin": "given", "seed": None}
FOLDS = {"origin": "folds", "seed": 0, "of": "session", "validation": "none"}


def sentiment(**changes):
    labels, answers = np.random.default_rng(0).normal(size=(2, 50))
    metrics = score_values(labels, answers) | score_derived(labels, answers)
    data = {"name": "mosei.csv", "split": GIVEN}
    fields = {"task": "sentiment score", "recipe": FUSED, "data": data, **changes}
    return cell(kind="value", outputs=("y",), metrics=metrics, **fields)


def emotion(fold, selection="best-test", outputs=None, **changes):
    metrics = score_classes(np.arange(4), np.arange(4), 4)
    outputs = tuple(outputs or labels_of("merge"))
    data = {"name": "iemocap.csv", "split": FOLDS}
    recipe = {**FUSED, "selection": selection}
    return cell(
        f"fold {fold}", task="label", kind="classes", outputs=outputs, metrics=metrics, data=data,
        recipe=recipe, fold=str(fold), **changes,
    )  # fmt: skip


def test_large_is_better_than_base_by_what_the_papers_text_says():
    """Section 4.2.1: 3.86 and 4.95 points of WA, 3.56 and 4.49 of UA over LSTM_alignment."""
    base, large = EMOTION["CTAL base"], EMOTION["CTAL large"]
    for one, other, more in ((0, 69.00, (3.86, 4.95)), (1, 70.14, (3.56, 4.49))):
        assert float(base[one]) - other == pytest.approx(more[0], abs=0.011)
        assert float(large[one]) - other == pytest.approx(more[1], abs=0.011)


def test_sentiment_stands_beside_ours_of_the_whole_of_cmu_mosei():
    (table,) = tables([sentiment()], published=True)
    grid = table.grid()
    rows = {row[0]: dict(zip(grid[0], row, strict=True)) for row in grid}
    large = rows["Li et al. 2021: CTAL large"]
    assert (large["Acc2"], large["Acc2 (paper)"]) == ("", "80.77")
    assert (large["Pearson r (paper)"], large["MAE (paper)"]) == ("68.09", "0.6027")
    assert "F1 as MulT (paper)" not in large
    assert rows["m"]["Acc2 (paper)"] == ""
    assert set(SENTIMENT) < set(rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"splits": {"train": 500, "valid": 50, "test": 100}},
        {"data": {"name": "m.csv", "split": {"origin": "made", "seed": 0}}},
        {"data": {"name": "m.csv", "split": FOLDS}},
    ],
)
def test_a_part_of_it_does_not(changes):
    (table,) = tables([sentiment(**changes)], published=True)
    assert "(paper)" not in str(table.grid())
    assert any("figures of Li et al. 2021 are not put beside these" in n for n in table.notes)


@pytest.mark.parametrize("changes", [{"recipe": {"epochs": 3}}, {"task": "happiness"}])
def test_a_regression_of_another_command_or_of_an_emotion_has_nothing_beside_it(changes):
    (table,) = tables([sentiment(**changes)], published=True)
    assert "Li et al." not in str(table)


@pytest.mark.parametrize("excited", ["merge", "drop", "only"])
def test_emotions_stand_beside_means_of_five_sessions_selected_on_the_test(excited):
    (section,) = by_fold([emotion(k, outputs=labels_of(excited)) for k in range(1, 6)])
    told = " ".join(section.notes)
    assert "CTAL base WA 72.86, UA 73.70; CTAL large WA 73.95, UA 74.63" in told
    (fourth,) = set(labels_of(excited)) - {"angry", "neutral", "sad"}
    assert f"here the class is {fourth!r}" in told


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([emotion(k, "best-valid") for k in range(5)], "selected on the test itself"),
        ([emotion(k) for k in range(4)], ""),
        ([emotion(k, outputs=["a", "b", "c", "d"]) for k in range(5)], ""),
    ],
)
def test_emotions_asked_in_another_way_do_not(cells, told):
    (section,) = by_fold(cells)
    notes = " ".join(section.notes)
    assert "72.86" not in notes
    assert told in notes


def test_rates_of_speakers_never_do_and_it_is_said_why():
    metrics = {"eer": 0.1, "min_dcf": 0.5, "pairs": 10, "trials": "all"}
    one = cell(
        task="speaker", kind="speaker", outputs=("a", "b"), metrics=metrics, recipe=FUSED,
        data={"name": "t.csv", "split": GIVEN},
    )  # fmt: skip
    (table,) = tables([one], published=True)
    assert "1.55" not in str(table)
    assert any("Table 3) are not put beside these" in note for note in table.notes)
