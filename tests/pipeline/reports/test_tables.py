"""Tables of results: mean and sigma over seeds, what is missing, what the paper published."""

import csv
import io
import statistics

import numpy as np
import pytest

from pipeline.reports.columns import AVERAGE, Stat
from pipeline.reports.formats import to_csv, to_markdown
from pipeline.reports.tables import CONSTANT, every_figure, summary, tables
from pipeline.tasks.metrics import score_classes
from pipeline.tasks.mosei.names import SENTIMENT_CLASSES
from pipeline.tasks.mosei.questions import TASKS
from tests.helpers.finished import cell, checkpoint


def finished(label, task, seed, metrics, objective=None, control=None, **changes):
    encoder = checkpoint(label, objective, control)
    return cell(encoder=encoder, task=task, seed=seed, metrics=metrics, **changes)


def classes(label, seed, right, objective=None, control=None, **changes):
    """Ten clips of two classes, seven of class 1, of which `right` clips are classed right."""
    labels = [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    predictions = [y if i < right else 1 - y for i, y in enumerate(labels)]
    metrics = score_classes(labels, predictions, 2)
    task = changes.pop("task", "sentiment2")
    return finished(label, task, seed, metrics, objective, control, **changes)


def test_mean_and_sigma_over_seeds():
    stat = Stat.of([0.5, 0.6, 0.9])
    assert stat == Stat(statistics.fmean([0.5, 0.6, 0.9]), statistics.stdev([0.5, 0.6, 0.9]), 3)
    assert Stat.of([0.5]) == Stat(0.5, None, 1)
    assert Stat.of([]) is None
    assert Stat.of([0.5, None]) is None


def test_a_table_starts_with_the_best_constant_answer_and_shows_what_is_missing():
    cells = [classes("kd", s, 8 + s, "crd") for s in (0, 1)] + [classes("text", 0, 7, "none")]
    (table,) = tables(cells)
    rows = dict(table.rows)
    assert [label for label, _ in table.rows] == [CONSTANT, "text (kd none)", "kd (kd crd)"]
    place = [column.title for column in table.columns].index("sentiment2")
    assert rows[CONSTANT][place].mean == 0.7
    assert rows["kd (kd crd)"][place] == Stat(
        pytest.approx(0.85), pytest.approx(0.0707, abs=1e-4), 2
    )
    assert rows["text (kd none)"][place] == Stat(0.7, None, 1)
    assert rows["kd (kd crd)"][0] is None
    text = to_markdown(table.grid())
    assert "| kd (kd crd) | – | – | – | 85.00 ± 7.07 | – | – |" in text
    assert "| text (kd none) | – | – | – | 70.00 (1 of 2) | – | – |" in text
    assert any("clips with y = 0 are left out (of a" in note for note in table.notes)


def test_one_seed_has_no_sigma_and_one_definition_stands_once():
    (table,) = tables([classes("m", 0, 7)])
    assert "There is one fine-tuning seed, 0, and so no σ." in table.notes
    emotions = [classes("m", s, 7, task=task) for s in (0, 1) for task in ("fear", "anger")]
    (table,) = tables(emotions)
    assert "happiness, sadness, surprise, anger, fear, disgust: the emotion is" in table.notes[0]
    assert "Mean ± σ over the fine-tuning seeds 0, 1; σ is" in " ".join(table.notes)


def test_one_regression_gives_the_mult_table_and_the_second_table():
    metrics = TASKS["sentiment"].score(np.array([0.0, 1, -2]), np.array([[0.2], [1.4], [0.3]]))
    made = {table.key: table for table in tables([finished("m", "sentiment", 0, metrics)])}
    assert set(made) == {"table1-mult", "table2"}
    values = dict(made["table2"].rows)["m"]
    assert values[0].mean == pytest.approx((0.2 + 0.4 + 2.3) / 3)
    shown = to_markdown(made["table1-mult"].grid())
    assert any("rounded half to even" in note for note in made["table1-mult"].notes)
    assert "| m | 66.67 | 66.67 | 66.67 | 50.00 | 33.33 | 66.67 |" in shown


def test_undefined_correlations_are_missing_and_not_zero():
    metrics = TASKS["sentiment"].score(np.array([0.0, 1]), np.array([[0.5], [0.5]]))
    made = {table.key: table for table in tables([finished("m", "sentiment", 0, metrics)])}
    assert "| m | 0.5000 | – |" in to_markdown(made["table2"].grid())


def test_labels_cannot_break_a_table():
    text = to_markdown(tables([classes("a|b\nc", 0, 9)])[0].grid())
    assert "| a\\|b c |" in text


def test_csv_has_every_figure_in_full():
    made = tables([classes("m", s, 8 + s) for s in (0, 1)])
    rows = list(csv.DictReader(io.StringIO(to_csv(every_figure({"r": made})))))
    row = next(r for r in rows if r["model"] == "m" and r["column"] == "sentiment2")
    assert (float(row["mean"]), row["seeds"]) == (pytest.approx(0.85), "2")
    assert len(rows) == 2 * 6


def all_tasks(label, objective, control=None, **changes):
    """Two seeds of the five sentiment tasks, 8 and 9 of 10 clips right."""
    return [
        classes(label, seed, 8 + seed, objective, control, task=task, **changes)
        for task in SENTIMENT_CLASSES
        for seed in (0, 1)
    ]


def test_the_average_is_over_the_seeds_that_have_every_column():
    cells = all_tasks("m", "none")
    (table,) = tables(cells)
    place = [column.title for column in table.columns].index(AVERAGE)
    assert table.rows[1][1][place].mean == pytest.approx(0.85)
    assert table.rows[0][1][place].mean == pytest.approx(0.7)
    (table,) = tables(cells[:-1])
    assert table.rows[1][1][place] == Stat(pytest.approx(0.8), None, 1)


def test_the_papers_figures_stand_in_columns_of_their_own():
    grid = tables(all_tasks("runs", "nst"), published=True)[0].grid()
    by_row = {row[0]: dict(zip(grid[0], row, strict=True)) for row in grid}
    ours = by_row["runs (kd nst)"]
    assert (ours["sentiment7"], ours["sentiment7 (paper)"]) == ("85.00 ± 7.07", "46.73 ± 0.40")
    assert (ours["average"], ours["average (paper)"]) == ("85.00 ± 7.07", "65.69")
    bert = by_row["Hasan et al. 2023: BERT (4B tokens)"]
    assert (bert["sentiment2"], bert["sentiment2 (paper)"]) == ("", "85.88 ± 0.40")
    assert not any("NST" in name for name in by_row)
    assert "(paper)" not in str(tables(all_tasks("runs", "nst"))[0].grid())


def test_a_control_is_marked_and_never_shown_as_the_papers_row():
    grid = tables(all_tasks("runs", "nst", "shuffled"), published=True)[0].grid()
    row = next(row for row in grid if row[0].startswith("runs"))
    assert "CONTROL: shuffled teacher" in row[0]
    assert "46.73 ± 0.40" not in row


def test_other_data_are_not_put_beside_the_papers_figures():
    few = {"train": 160, "valid": 40, "test": 200}
    (table,) = tables(all_tasks("m", "none", splits=few), published=True)
    assert "(paper)" not in str(table.grid())
    assert any("not put beside" in note for note in table.notes)


def test_other_tasks_get_tables_of_their_own():
    (table,) = tables([classes("m", 0, 9, task="sarcasm")])
    assert to_markdown(table.grid()).splitlines()[2:] == [
        "| best constant answer | 70.00 | – | – | – |",
        "| m | 90.00 | 92.86 | 90.33 | 89.01 |",
    ]


def test_a_tables_task_of_a_mosei_name_is_not_taken_for_it():
    data = {"name": "labels.csv", "sha256": "0", "split": {"origin": "given", "seed": None}}
    (table,) = tables([classes("m", 0, 9, data=data)], published=True)
    assert table.key == "task-sentiment2"
    assert table.columns[0].title == "accuracy"


def test_a_made_split_is_said():
    data = {"name": "mosei", "sha256": "0", "split": {"origin": "made", "seed": 5}}
    (table,) = tables(all_tasks("m", "none", data=data), published=True)
    assert any("with seed 5; it is not a published one" in note for note in table.notes)
    assert any("not put beside" in note for note in table.notes)


def test_the_summary_shows_each_table_without_its_empty_columns():
    text = summary([classes("m", 0, 9)])
    assert "Table 1" in text
    assert "90.00" in text
    assert "sentiment7" not in text
    assert summary([]) == ""
