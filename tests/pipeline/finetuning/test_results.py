"""A results folder holds one recipe, loses no cell, and can be written by many at once."""

import csv
import errno
import json
import multiprocessing

import numpy as np
import pytest

from pipeline.finetuning.results import TEACHER, Results, cell_name, prediction_table, read_asked
from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.cells import read_results
from pipeline.tasks.mosei.questions import TASKS
from tests.helpers.finished import cell

FIXED = {"data": {"sha256": "a" * 64}, "recipe": {"epochs": 3, "pooling": "cls"}}


def test_a_finished_cell_is_known_and_stands_in_results_jsonl(tmp_path):
    results = Results(tmp_path / "r", FIXED, {})
    assert not results.finished("one")
    results.add(cell("one"), "id\nx\n")
    assert results.finished("one")
    assert Results(tmp_path / "r", FIXED, {"other": "provenance"}).finished("one")
    (line,) = read_results(tmp_path / "r")
    assert line == cell("one")
    assert (tmp_path / "r" / line.predictions).read_text() == "id\nx\n"


def test_a_cell_whose_predictions_are_lost_is_not_done(tmp_path):
    results = Results(tmp_path / "r", {}, {})
    results.add(cell("a"), "id\n")
    (tmp_path / "r" / "predictions" / "a.csv").unlink()
    assert not results.finished("a")
    results.add(cell("a"), "id\n")
    assert results.finished("a")


def test_a_folder_without_a_finished_cell_may_change_its_recipe(tmp_path):
    """What failed before its first cell must not bind the next attempt."""
    first = Results(tmp_path, FIXED, {})
    first.ask([("m", "sentiment3", 0)])
    first.add_projection(TEACHER, ["a"], ["1"], np.zeros((1, 2)), 1.0)
    Results(tmp_path, FIXED, {}).ask([("m", "sentiment3", 1)])  # another task of one array
    assert read_asked(tmp_path) == [("m", "sentiment3", 0), ("m", "sentiment3", 1)]
    assert first.has_projection(TEACHER)
    other = {**FIXED, "recipe": {"epochs": 4, "pooling": "cls"}}
    Results(tmp_path, other, {}).add(cell("one"), "")
    with pytest.raises(SpeechkdError, match=r"recipe\.epochs: 4 there, 3 now"):
        first.add(cell("two"), "")
    assert read_asked(tmp_path) == []
    assert not first.has_projection(TEACHER)


@pytest.mark.parametrize("text", ["{", "3", '[["m", "t"]]', '[["m", "t", true]]', "[5]"])
def test_a_list_of_asked_cells_that_is_damaged_is_told(tmp_path, text):
    (tmp_path / "asked.json").write_text(text)
    with pytest.raises(SpeechkdError, match=r"asked\.json is damaged.*remove it"):
        read_asked(tmp_path)


def test_another_recipe_is_refused_with_both_values(tmp_path):
    Results(tmp_path, FIXED, {}).add(cell("one"), "")
    other = {**FIXED, "recipe": {"epochs": 4, "pooling": "cls"}}
    with pytest.raises(SpeechkdError, match=r"recipe\.epochs: 3 there, 4 now\)"):
        Results(tmp_path, other, {})


def test_a_recipe_without_a_text_form_is_one_of_texts_as_they_are(tmp_path):
    """Folders of earlier versions name none."""
    Results(tmp_path, FIXED, {}).add(cell("one"), "")
    named = {**FIXED, "recipe": {**FIXED["recipe"], "text_form": "as-is"}}
    assert Results(tmp_path, named, {}).finished("one")
    lower = {**FIXED, "recipe": {**FIXED["recipe"], "text_form": "lower"}}
    with pytest.raises(SpeechkdError, match=r"recipe\.text_form: as-is there, lower now"):
        Results(tmp_path, lower, {})


def test_a_recipe_without_class_weights_is_one_without_any(tmp_path):
    """Folders of earlier versions name none."""
    Results(tmp_path, FIXED, {}).add(cell("one"), "")
    named = {**FIXED, "recipe": {**FIXED["recipe"], "class_weights": "none"}}
    assert Results(tmp_path, named, {}).finished("one")
    balanced = {**FIXED, "recipe": {**FIXED["recipe"], "class_weights": "balanced"}}
    with pytest.raises(SpeechkdError, match=r"class_weights: none there, balanced now"):
        Results(tmp_path, balanced, {})


def test_other_data_are_refused_with_both_values(tmp_path):
    Results(tmp_path, FIXED, {}).add(cell("one"), "")
    with pytest.raises(SpeechkdError, match=r"data\.sha256: aaaa.* there, cccc.* now"):
        Results(tmp_path, {**FIXED, "data": {"sha256": "c" * 64}}, {})


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(SpeechkdError, match=r"not a results folder \(it holds thesis\.tex\)"):
        Results(tmp_path, FIXED, {})


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(SpeechkdError, match=r"--out .*out is a file; name a folder"):
        Results(tmp_path / "out", FIXED, {})


def test_one_label_for_two_encoders_is_refused(tmp_path):
    results = Results(tmp_path / "r", FIXED, {})
    results.add(cell("one"), "")
    results.check_weights("m", "b" * 64)
    results.check_weights("other", "c" * 64)
    with pytest.raises(SpeechkdError, match="bbbbbbbbbbbb there, cccccccccccc now"):
        results.check_weights("m", "c" * 64)


def test_a_lost_results_jsonl_is_made_again(tmp_path):
    results = Results(tmp_path / "r", FIXED, {})
    results.add(cell("one"), "")
    (tmp_path / "r" / "results.jsonl").unlink()
    results.collect()
    assert len(read_results(tmp_path / "r")) == 1


def test_a_damaged_cell_is_told_with_its_file(tmp_path):
    results = Results(tmp_path / "r", FIXED, {})
    results.add(cell("one"), "")
    path = tmp_path / "r" / "cells" / "one.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": "0"'))
    with pytest.raises(SpeechkdError, match=r"one\.json: .*seed is not a whole .*remove that file"):
        results.collect()


def _write_cells(folder, worker):
    results = Results(folder, FIXED, {})
    for i in range(10):
        results.add(cell(f"cell-{worker}-{i}"), "")


def test_many_writers_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_cells, args=(tmp_path / "r", w)) for w in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    names = [line.name for line in read_results(tmp_path / "r")]
    assert names == sorted(f"cell-{w}-{i}" for w in range(4) for i in range(10))


def test_a_file_system_without_locks_is_told_once_and_the_work_goes_on(
    tmp_path, monkeypatch, capsys
):
    """Found by review: finetune died with an OSError where shard and distill go on."""

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    results = Results(tmp_path / "r", FIXED, {})
    results.ask([("m", "sentiment2", 0)])
    results.add(cell("one"), "id\nx\n")
    assert [line.name for line in read_results(tmp_path / "r")] == ["one"]
    assert capsys.readouterr().err.count("has no locks; run one command at a time") == 1


def test_names_of_cells_are_file_names():
    name = cell_name("../../etc/pass wd|é", "ab" * 32, "sentiment7", 0)
    assert "/" not in name
    assert not name.startswith(".")
    assert name.endswith("-abababab-sentiment7-seed0")


@pytest.mark.parametrize("task", ["sentiment3", "sentiment", "emotions"])
def test_every_metric_can_be_made_again_from_the_predictions(task):
    task = TASKS[task]
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, len(task.outputs))).astype(np.float32)
    labels = {
        "classes": rng.integers(0, 3, 50),
        "value": rng.integers(-9, 10, 50).astype(np.float32) / 3,
        "flags": rng.integers(0, 2, (50, 6)),
    }[task.kind]
    ids = [f'vid,eo"{i}' for i in range(50)]
    text = prediction_table(task, ids, ids, [""] * 50, labels, scores)
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["id"] for row in rows] == ids
    again = np.array([[row[f"score:{o}"] for o in task.outputs] for row in rows], np.float32)
    assert np.array_equal(again, scores)
    columns = [f"label:{o}" for o in task.outputs] if task.kind == "flags" else ["label"]
    read = np.array([[float(row[c]) for c in columns] for row in rows], np.float32)
    read = read if task.kind == "flags" else read[:, 0]
    read = read if task.kind == "value" else read.astype(np.int64)
    assert json.dumps(task.score(read, again)) == json.dumps(task.score(labels, scores))
