import csv
import io
import statistics

import pytest

from pipeline.metrics import judge_classes, judge_values
from pipeline.report import CONSTANT, Stat, tables, to_csv, to_markdown


def record(label, task, seed, metrics, objective=None):
    return {
        "checkpoint": {"label": label, "objective": objective},
        "task": task,
        "seed": seed,
        "metrics": metrics,
    }


def classes(label, seed, right, objective=None):
    """Ten clips of two classes, seven of class 1, of which `right` clips are judged right."""
    labels = [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    predictions = [y if i < right else 1 - y for i, y in enumerate(labels)]
    return record(label, "sentiment2", seed, judge_classes(labels, predictions, 2), objective)


def test_mean_and_sigma_over_seeds():
    stat = Stat.of([0.5, 0.6, 0.9])
    assert stat == Stat(statistics.fmean([0.5, 0.6, 0.9]), statistics.stdev([0.5, 0.6, 0.9]), 3)
    assert Stat.of([0.5]) == Stat(0.5, None, 1)
    assert Stat.of([]) is None
    assert Stat.of([0.5, None]) is None


def test_a_table_starts_with_the_best_constant_answer_and_shows_what_is_missing():
    records = [classes("kd", s, 8 + s, "crd") for s in (0, 1)] + [classes("text", 0, 7, "none")]
    (table,) = tables(records)
    rows = dict(table.rows)
    assert [label for label, _ in table.rows] == [CONSTANT, "text", "kd"]
    place = [column.title for column in table.columns].index("sentiment2")
    assert rows[CONSTANT][place].mean == 0.7
    assert rows["kd"][place] == Stat(pytest.approx(0.85), pytest.approx(0.0707, abs=1e-4), 2)
    assert rows["text"][place] == Stat(0.7, None, 1)
    assert rows["kd"][0] is None
    text = to_markdown(table)
    assert "| kd | – | – | – | 85.00 ± 7.07 | – |" in text
    assert "clips with y = 0 are left out" in text


def test_one_regression_gives_the_mult_table_and_the_second_table():
    metrics = judge_values([0.0, 1.0, -2.0], [0.2, 1.4, 0.3])
    made = {table.key: table for table in tables([record("m", "sentiment", 0, metrics)])}
    assert set(made) == {"table1-mult", "table2"}
    values = dict(made["table2"].rows)["m"]
    assert values[0].mean == pytest.approx((0.2 + 0.4 + 2.3) / 3)
    shown = to_markdown(made["table1-mult"])
    assert "rounded half to even" in shown
    assert "| m | 66.67 | 66.67 | 66.67 | 50.00 | 33.33 | 66.67 |" in shown


def test_undefined_correlations_are_missing_and_not_zero():
    metrics = judge_values([0.0, 1.0], [0.5, 0.5])
    made = {table.key: table for table in tables([record("m", "sentiment", 0, metrics)])}
    assert "| m | 0.5000 | – |" in to_markdown(made["table2"])


def test_labels_cannot_break_a_table():
    text = to_markdown(tables([classes("a|b\nc", 0, 9)])[0])
    assert "| a\\|b c |" in text


def test_csv_has_every_figure_in_full():
    made = tables([classes("m", s, 8 + s) for s in (0, 1)])
    rows = list(csv.DictReader(io.StringIO(to_csv(made))))
    row = next(r for r in rows if r["model"] == "m" and r["column"] == "sentiment2")
    assert (float(row["mean"]), row["seeds"]) == (pytest.approx(0.85), "2")
    assert len(rows) == 2 * 5
