"""Any table of labelled texts: splits keep groups whole, and what is wrong is told."""

import json

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.labelled import LabelColumns, read_labelled
from pipeline.tasks.mosei.names import TASK_NAMES

COLUMNS = LabelColumns("utterance", "sarcasm", "id", "speaker")
TY = LabelColumns("t", "y")


def write(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def mustard(tmp_path, count=40):
    rows = {
        f"1_{i}": {"utterance": f"line {i}", "speaker": f"S{i // 2}", "sarcasm": i % 3 == 0}
        for i in range(count)
    }
    return write(tmp_path / "sarcasm_data.json", rows)


def test_an_object_of_objects_is_a_table_with_its_keys_as_ids(tmp_path):
    table = read_labelled(mustard(tmp_path), COLUMNS, "classes", 0)
    assert table.rows[3].id == "1_3"
    assert table.rows[3].group == "S1"
    assert table.task.outputs == ("false", "true")
    assert table.labels[:4].tolist() == [1, 0, 0, 1]
    assert [row.label for row in table.rows[:2]] == ["true", "false"]


def test_a_made_split_keeps_groups_whole(tmp_path):
    table = read_labelled(mustard(tmp_path), COLUMNS, "classes", 0)
    homes = {(row.group, row.split) for row in table.rows}
    assert len(homes) == 20
    assert table.question.counts == {"train": 28, "valid": 4, "test": 8}
    assert read_labelled(mustard(tmp_path), COLUMNS, "classes", 1).sha256 != table.sha256


def test_a_given_split_and_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("text,score,part\na,1.5,train\nb,-2,dev\nc,0,test\n,3,test\n")
    table = read_labelled(
        tmp_path / "t.csv", LabelColumns("text", "score", split="part"), "value", 0
    )
    assert table.labels.tolist() == [1.5, -2, 0]
    assert [row.split for row in table.rows] == ["train", "valid", "test"]
    assert table.skipped == 1
    assert table.question.labels["test"].tolist() == [0]
    assert table.question.raw == ["0"]
    assert table.task.kind == "value"


def test_a_description_names_ten_classes_at_most(tmp_path):
    rows = [{"t": f"text {i}", "y": f"c{i % 12:02}"} for i in range(60)]
    task = read_labelled(write(tmp_path / "t.json", rows), TY, "classes", 0).task
    ten = ", ".join(f"c{i:02}" for i in range(10))
    assert task.definition == f"y: one of 12 classes ({ten} …)"


def test_a_label_column_called_as_one_of_moseis_tasks_stays_apart(tmp_path):
    rows = [{"t": f"text {i}", "sentiment": "ab"[i % 2]} for i in range(20)]
    path, columns = write(tmp_path / "t.json", rows), LabelColumns("t", "sentiment")
    assert read_labelled(path, columns, "classes", 0).task.name == "sentiment"
    table = read_labelled(path, columns, "classes", 0, reserved=TASK_NAMES)
    assert table.task.name == "sentiment (table)"


@pytest.mark.parametrize(
    ("rows", "columns", "kind", "told"),
    [
        ([{"t": "a"}], TY, "classes", "has no column y; it has t"),
        ([{"t": "a", "y": ""}], TY, "classes", "no row with both t and y"),
        ([{"t": "a", "y": 1}] * 9, TY, "classes", "1 different values"),
        ([{"t": "a", "y": "x"}] * 9, TY, "value", "not every value is a number .* --kind classes"),
        (
            [{"t": "a", "y": "nan"}] * 9,
            TY,
            "value",
            "not all values are finite",
        ),
        (
            [{"t": "a", "y": 1, "i": 1}] * 2,
            LabelColumns("t", "y", "i"),
            "classes",
            "i 1 stands there",
        ),
        (
            [{"t": "a", "y": 1, "s": "x"}],
            LabelColumns("t", "y", split="s"),
            "classes",
            "row 1, column s: split 'x'",
        ),
        (
            [{"t": "a", "y": y, "g": "me", "s": s} for y, s in ((0, "train"), (1, "test"))],
            LabelColumns("t", "y", group="g", split="s"),
            "classes",
            "g me is both in train and in test",
        ),
        (
            [{"t": "a", "y": y, "s": "train"} for y in (0, 1)],
            LabelColumns("t", "y", split="s"),
            "classes",
            "no row is in the split test",
        ),
        ("text", TY, "classes", "expected a list of objects"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, rows, columns, kind, told):
    with pytest.raises(SpeechkdError, match=told):
        read_labelled(write(tmp_path / "t.json", rows), columns, kind, 0)
