import json

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.labelled import Columns, read_labelled

COLUMNS = Columns("utterance", "sarcasm", "id", "speaker")


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
    found = read_labelled(mustard(tmp_path), COLUMNS, "classes", 0)
    assert found.clips[3].clip_id == "1_3"
    assert found.clips[3].video_id == "S1"
    assert found.task.outputs == ("false", "true")
    assert found.labels[:4].tolist() == [1, 0, 0, 1]
    assert found.raw[:2] == ("true", "false")


def test_a_made_split_keeps_groups_whole(tmp_path):
    found = read_labelled(mustard(tmp_path), COLUMNS, "classes", 0)
    homes = {(clip.video_id, clip.split) for clip in found.clips}
    assert len(homes) == 20
    assert [len(found.places(s)) for s in ("train", "valid", "test")] == [28, 4, 8]
    assert read_labelled(mustard(tmp_path), COLUMNS, "classes", 1).sha256 != found.sha256


def test_a_given_split_and_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("text,score,part\na,1.5,train\nb,-2,dev\nc,0,test\n,3,test\n")
    found = read_labelled(tmp_path / "t.csv", Columns("text", "score", split="part"), "value", 0)
    assert found.labels.tolist() == [1.5, -2, 0]
    assert [clip.split for clip in found.clips] == ["train", "valid", "test"]
    assert found.skipped == 1
    assert found.task.kind == "value"


def test_a_label_column_called_as_one_of_moseis_tasks_stays_apart(tmp_path):
    rows = [{"t": f"text {i}", "sentiment": "ab"[i % 2]} for i in range(20)]
    found = read_labelled(write(tmp_path / "t.json", rows), Columns("t", "sentiment"), "classes", 0)
    assert found.task.name == "sentiment (table)"


@pytest.mark.parametrize(
    ("rows", "columns", "kind", "told"),
    [
        ([{"t": "a"}], Columns("t", "y"), "classes", "has no column y; it has t"),
        ([{"t": "a", "y": ""}], Columns("t", "y"), "classes", "no row with both t and y"),
        ([{"t": "a", "y": 1}] * 9, Columns("t", "y"), "classes", "1 different values"),
        ([{"t": "a", "y": "x"}] * 9, Columns("t", "y"), "value", "use --kind classes"),
        ([{"t": "a", "y": "nan"}] * 9, Columns("t", "y"), "value", "not all values are finite"),
        ([{"t": "a", "y": 1, "i": 1}] * 2, Columns("t", "y", "i"), "classes", "i 1 stands there"),
        (
            [{"t": "a", "y": 1, "s": "x"}],
            Columns("t", "y", split="s"),
            "classes",
            "row 1, column s: split 'x'",
        ),
        (
            [{"t": "a", "y": y, "g": "me", "s": s} for y, s in ((0, "train"), (1, "test"))],
            Columns("t", "y", group="g", split="s"),
            "classes",
            "g me is both in train and in test",
        ),
        (
            [{"t": "a", "y": y, "s": "train"} for y in (0, 1)],
            Columns("t", "y", split="s"),
            "classes",
            "no row is in the split test",
        ),
        ("text", Columns("t", "y"), "classes", "expected a list of objects"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, rows, columns, kind, told):
    with pytest.raises(SpeechkdError, match=told):
        read_labelled(write(tmp_path / "t.json", rows), columns, kind, 0)
