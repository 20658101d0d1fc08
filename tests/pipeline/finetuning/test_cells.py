"""A cell's record: written and read back unchanged, and every field checked as it is read."""

import json

import numpy as np
import pytest

from pipeline.finetuning.cells import Cell
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.unknown import Unknown
from pipeline.tasks.mosei.questions import TASKS
from tests.helpers.finished import cell, checkpoint


def read(record):
    return Cell.from_record(record, "r/results.jsonl, line 3", "run it again")


def of_kind(kind):
    if kind == "classes":
        return cell()
    if kind == "value":
        metrics = TASKS["sentiment"].score(
            np.array([0.0, 1.0, -2.0]), np.array([[0.2], [1.4], [0.3]])
        )
        return cell(task="sentiment", metrics=metrics, valid_metrics=metrics)
    labels = np.array([[0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0]])
    return cell(task="emotions", metrics=TASKS["emotions"].score(labels, labels - 0.5))


@pytest.mark.parametrize("kind", ["classes", "value", "flags"])
def test_a_record_is_read_back_as_it_was_written(kind):
    record = json.loads(json.dumps(of_kind(kind).record()))
    again = read(record)
    assert again == of_kind(kind)
    assert json.dumps(again.record()) == json.dumps(record)


def test_the_keys_of_a_line_are_those_that_other_tools_read():
    assert list(cell().record()) == [
        "format", "cell", "checkpoint", "task", "kind", "outputs", "definition", "seed", "data",
        "splits", "truncated_texts", "metrics", "valid_metrics", "epochs", "curve",
        "chosen_epoch", "recipe", "seconds", "trained_tokens", "device", "provenance",
        "fold", "repeated_texts", "unknown_tokens", "predictions",
    ]  # fmt: skip
    assert cell("x").record()["predictions"] == "predictions/x.csv"


def paths(record, path=()):
    """Every path of keys in a record, but for what only a program's author reads."""
    for key, value in record.items():
        if (*path, key) in (("recipe",), ("data", "sha256")):
            continue
        yield (*path, key)
        if isinstance(value, dict):
            yield from paths(value, (*path, key))


UNREAD = {
    ("provenance", "argv"),
    ("provenance", "started"),
    ("splits", "valid"),
    ("metrics", "derived"),
    ("valid_metrics", "derived"),
}
LATER = {
    ("fold",),
    ("repeated_texts",),
    ("unknown_tokens",),
    ("checkpoint", "setup"),
    ("checkpoint", "teaching"),
    ("checkpoint", "method"),
}
"""Fields that records of earlier versions do not have."""
LATER_METRICS = {"macro_f1", "weighted_f1_as_mult"}


@pytest.mark.parametrize("kind", ["classes", "value", "flags"])
def test_a_field_that_is_missing_is_named(kind):
    whole = of_kind(kind).record()
    for path in paths(whole):
        if (
            path in UNREAD | LATER
            or path[-1] in LATER_METRICS
            or (path[1:2] == ("derived",) and len(path) == 3)
        ):
            continue
        record = json.loads(json.dumps(whole))
        part = record
        for key in path[:-1]:
            part = part[key]
        del part[path[-1]]
        with pytest.raises(SpeechkdError, match=r"results\.jsonl, line 3") as told:
            read(record)
        if path != ("format",):
            assert ".".join(path) in str(told.value)
            assert "run it again" in str(told.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seed",), "0", "seed is not a whole number"),
        (("seed",), True, "seed is not a whole number"),
        (("kind",), "images", "kind is not classes or value or flags"),
        (("outputs",), ["a", 1], r"outputs\.1 is not text"),
        (("checkpoint", "control"), 1, r"checkpoint\.control is not text or null"),
        (("metrics", "accuracy"), float("nan"), r"metrics\.accuracy is not a finite number"),
        (("metrics", "confusion"), [[1, 2]], r"metrics\.confusion is not counts of 2 classes"),
        (("metrics", "confusion"), [[0, 0], [0, 0]], "confusion is not counts"),
        (("metrics", "recall"), [0.5], r"metrics\.recall is not a figure per class of 2"),
        (("curve",), [{"step": 1}], r"curve\.0\.loss is missing"),
        (("data", "split"), {"origin": "made", "seed": None}, r"data\.split\.seed is not a whole"),
        (("splits",), {"train": 1, "test": "x"}, r"splits\.test is not a whole number"),
        (("predictions",), "/etc/passwd", "predictions is not the file of that cell"),
        (("cell",), "../x", "predictions is not the file of that cell"),
        (("provenance", "hardware", "accelerators"), [1], r"accelerators\.0 is not text"),
        (("unknown_tokens",), {"tokens": "x", "scripts": {}}, r"unknown_tokens\.tokens is not"),
        (("unknown_tokens",), {"scripts": {"LATIN": "x"}}, r"scripts\.LATIN is not a number"),
    ],
)
def test_a_field_of_another_type_is_named(path, value, message):
    record = json.loads(json.dumps(cell().record()))
    part = record
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(SpeechkdError, match=message):
        read(record)


@pytest.mark.parametrize("record", [None, [], {}, {"format": 2}])
def test_other_formats_are_refused(record):
    with pytest.raises(SpeechkdError, match="line 3: not a cell of format 1"):
        read(record)


def test_a_control_is_one_that_was_taught_with_other_vectors():
    assert checkpoint(control="shuffled").is_control
    assert checkpoint(control="random").is_control
    assert not checkpoint(control="real").is_control
    assert not checkpoint().is_control


def test_unknown_tokens_are_read_back_as_they_were_written():
    unknown = Unknown(100, 7, 9, 5, (".", "!"), {"DEVANAGARI": 0.5})
    again = read(json.loads(json.dumps(cell(unknown_tokens=unknown).record())))
    assert again.unknown_tokens == unknown


def test_figures_are_found_by_path():
    assert of_kind("value").figure(("derived", "mult/sentiment3", "accuracy")) == 2 / 3
    assert cell().figure(("mae",)) is None
    assert cell().figure(("accuracy", "x")) is None


def test_records_of_earlier_versions_are_read():
    record = json.loads(json.dumps(cell(fold="Ses1", repeated_texts=3).record()))
    assert (read(record).title, read(record).repeated_texts) == ("sentiment2, fold Ses1", 3)
    for *folder, name in LATER:
        del (record[folder[0]] if folder else record)[name]
    assert (read(record).title, read(record).repeated_texts) == ("sentiment2", None)
    assert (read(record).checkpoint.setup, read(record).checkpoint.teaching) == (None, None)
    with pytest.raises(SpeechkdError, match="fold is not text"):
        read({**record, "fold": 1})
    nested = {**record["checkpoint"], "setup": {"a": {}}}
    with pytest.raises(SpeechkdError, match=r"checkpoint\.setup\.a is not text or"):
        read({**record, "checkpoint": nested})
