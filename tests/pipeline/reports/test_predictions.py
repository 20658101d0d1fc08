"""Predictions are read as they were written, and a figure that they do not give is refused."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.finetuning.results import prediction_table
from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.predictions import Predictions, read_predictions, scored
from pipeline.tasks.mosei.questions import TASKS
from tests.helpers.finished import cell

KINDS = ["sentiment3", "sentiment", "emotions"]


def written(folder, name, count=40):
    """A cell whose predictions lie in a file, as `finetune` leaves them."""
    task = TASKS[name]
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(count, len(task.outputs))).astype(np.float32)
    labels = task.decide(rng.normal(size=scores.shape).astype(np.float32))
    ids, groups = [f"clip {i}" for i in range(count)], [f"video {i // 3}" for i in range(count)]
    text = prediction_table(task, ids, groups, [""] * count, labels, scores)
    (folder / "p.csv").write_text(text, encoding="utf-8")
    metrics = task.score(labels, scores)
    splits = {"train": 10, "valid": 0, "test": count}
    return cell(task=name, metrics=metrics, splits=splits), folder / "p.csv"


@pytest.mark.parametrize("task", ["sentiment3", "sentiment", "emotions"])
def test_predictions_are_read_as_they_were_written(tmp_path, task):
    task = TASKS[task]
    scores = np.random.default_rng(0).normal(size=(5, len(task.outputs))).astype(np.float32)
    labels = task.decide(scores[::-1])
    text = prediction_table(task, list("abcde"), list("vvwww"), [""] * 5, labels, scores)
    (tmp_path / "p.csv").write_text(text)
    read = read_predictions(tmp_path / "p.csv", task.kind, task.outputs)
    assert read.ids == tuple("abcde")
    assert read.groups == tuple("vvwww")
    assert np.array_equal(read.predictions.astype(scores.dtype), task.decide(scores))
    assert np.array_equal(read.labels.astype(scores.dtype), labels)


def test_damaged_predictions_are_named(tmp_path):
    with pytest.raises(SpeechkdError, match="are missing"):
        read_predictions(tmp_path / "p.csv", "classes", ())
    (tmp_path / "p.csv").write_text("id,group\n1,2\n")
    with pytest.raises(SpeechkdError, match="not a predictions file"):
        read_predictions(tmp_path / "p.csv", "classes", ())


@pytest.mark.parametrize("name", KINDS)
def test_the_figures_of_a_cell_are_those_of_its_predictions(tmp_path, name):
    one, path = written(tmp_path, name)
    checked, predictions = scored(one, path)
    assert checked == replace(one, metrics=checked.metrics)
    for key in ("accuracy", "mae", "pearson"):
        assert checked.metrics.get(key) == pytest.approx(one.metrics.get(key))
    assert len(predictions.ids) == 40


def leaves(metrics, path=()):
    """Every figure of a record, by the keys that lead to it."""
    pairs = metrics.items() if isinstance(metrics, dict) else enumerate(metrics)
    for key, value in pairs:
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def with_figure(metrics, path, value):
    copy = dict(metrics) if isinstance(metrics, dict) else list(metrics)
    copy[path[0]] = with_figure(copy[path[0]], path[1:], value) if path[1:] else value
    return copy


@pytest.mark.parametrize("name", KINDS)
def test_any_figure_that_the_predictions_do_not_give_is_refused(tmp_path, name):
    one, path = written(tmp_path, name)
    for keys, value in leaves(one.metrics):
        wrong = 0.5 if value is None else value + (1 if isinstance(value, int) else 1e-4)
        forged = replace(one, metrics=with_figure(one.metrics, keys, wrong))
        with pytest.raises(SpeechkdError, match="does not give a figure of its cell: ") as told:
            scored(forged, path)
        assert keys[0] in str(told.value)
        assert f"remove cells/{one.name}.json" in str(told.value)


def test_changed_predictions_are_refused(tmp_path):
    one, path = written(tmp_path, "sentiment3")
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[4] = str((int(cells[4]) + 1) % 3)
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))
    with pytest.raises(SpeechkdError, match="does not give a figure"):
        scored(one, path)


def test_a_record_of_before_gets_the_figures_that_it_lacks(tmp_path):
    one, path = written(tmp_path, "sentiment3")
    before = {key: value for key, value in one.metrics.items() if key != "macro_f1"}
    checked, _ = scored(replace(one, metrics=before), path)
    assert checked.metrics["macro_f1"] == pytest.approx(one.metrics["macro_f1"])


@pytest.mark.parametrize(
    ("name", "wrong"), [("sentiment3", "9"), ("sentiment3", "0.5"), ("sentiment", "nan")]
)
def test_predictions_of_another_kind_are_named(tmp_path, name, wrong):
    one, path = written(tmp_path, name)
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[4] = wrong
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))
    with pytest.raises(SpeechkdError, match=f"are none of {name} "):
        scored(one, path)


def test_several_tests_are_one(tmp_path):
    _, path = written(tmp_path, "sentiment3")
    one = read_predictions(path, "classes", ("a", "b", "c"))
    both = Predictions.joined([one, one])
    assert both.ids == one.ids * 2
    assert both.labels.tolist() == one.labels.tolist() * 2
