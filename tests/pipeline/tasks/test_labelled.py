"""Any table of labelled texts: splits keep groups whole, and what is wrong is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.duplicates import with_repetitions
from pipeline.tasks.labelled import Division, read_labelled
from pipeline.tasks.labelled_rows import LabelColumns, Source
from pipeline.tasks.mosei.names import TASK_NAMES

COLUMNS = LabelColumns("utterance", "sarcasm", "id", "speaker")
TY = LabelColumns("t", "y")


def read(path, columns, kind, seed=0, reserved=(), **division):
    """A table of one file, or of several."""
    paths = path if isinstance(path, list) else [path]
    sources = [one if isinstance(one, Source) else Source(one) for one in paths]
    return read_labelled(sources, columns, kind, Division(seed, **division), reserved)


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
    table = read(mustard(tmp_path), COLUMNS, "classes", 0)
    assert table.rows[3].id == "1_3"
    assert table.rows[3].group == "S1"
    assert table.task.outputs == ("false", "true")
    assert table.labels[:4].tolist() == [1, 0, 0, 1]
    assert [row.label for row in table.rows[:2]] == ["true", "false"]


def test_a_made_split_keeps_groups_whole(tmp_path):
    table = read(mustard(tmp_path), COLUMNS, "classes", 0)
    homes = {(row.group, row.split) for row in table.rows}
    assert len(homes) == 20
    assert table.questions[0].counts == {"train": 28, "valid": 4, "test": 8}
    assert read(mustard(tmp_path), COLUMNS, "classes", 1).sha256 != table.sha256


def test_a_given_split_and_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("text,score,part\na,1.5,train\nb,-2,dev\nc,0,test\n,3,test\n")
    table = read(tmp_path / "t.csv", LabelColumns("text", "score", split="part"), "value", 0)
    assert table.labels.tolist() == [1.5, -2, 0]
    assert [row.split for row in table.rows] == ["train", "valid", "test"]
    assert table.notes == ("rows whose text is blank, left out: 1",)
    assert table.questions[0].labels["test"].tolist() == [0]
    assert table.questions[0].raw == ["0"]
    assert table.task.kind == "value"


def test_a_description_names_ten_classes_at_most(tmp_path):
    rows = [{"t": f"text {i}", "y": f"c{i % 12:02}"} for i in range(60)]
    task = read(write(tmp_path / "t.json", rows), TY, "classes", 0).task
    ten = ", ".join(f"c{i:02}" for i in range(10))
    assert task.definition == f"y: one of 12 classes ({ten} …)"


def test_a_label_column_called_as_one_of_moseis_tasks_stays_apart(tmp_path):
    rows = [{"t": f"text {i}", "sentiment": "ab"[i % 2]} for i in range(20)]
    path, columns = write(tmp_path / "t.json", rows), LabelColumns("t", "sentiment")
    assert read(path, columns, "classes", 0).task.name == "sentiment"
    table = read(path, columns, "classes", 0, reserved=TASK_NAMES)
    assert table.task.name == "sentiment (table)"


@pytest.mark.parametrize(
    ("rows", "columns", "kind", "told"),
    [
        ([{"t": "a"}], TY, "classes", "has no column y; it has t"),
        (
            [{"t": f"a{i}", "y": y} for i, y in enumerate((1, "inf"))],
            TY,
            "value",
            "no finite number, such as 'inf'",
        ),
        ([{"t": "a", "y": ""}], TY, "classes", "no row with both t and y"),
        ([{"t": "a", "y": 1}] * 9, TY, "classes", "9 rows .* all with the label '1'"),
        (
            [{"t": "a", "y": "x"}] * 9,
            TY,
            "value",
            "9 labels .* are no .* such as 'x'.*--kind classes",
        ),
        (
            [{"t": "a", "y": "nan"}] * 9,
            TY,
            "value",
            "no row with both t and y",
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
        read(write(tmp_path / "t.json", rows), columns, kind, 0)


def table_of(tmp_path, labels, kind="classes", **columns):
    rows = [{"t": f"text {i}", "y": label} for i, label in enumerate(labels)]
    return read(write(tmp_path / "t.json", rows), LabelColumns("t", "y", **columns), kind)


@pytest.mark.parametrize("kind", ["classes", "value"])
def test_what_is_not_known_is_no_class_and_no_value(tmp_path, kind):
    words = ["nan", "NaN", "None", "N/A", "null", "", "  ", None, float("nan")]
    table = table_of(tmp_path, [*range(20), *words], kind)
    assert len(table.rows) == 20
    names = tuple(sorted(map(str, range(20)))) if kind == "classes" else ("y",)
    assert table.task.outputs == names
    assert sum(int(n.rpartition(": ")[2]) for n in table.notes if "left out" in n) == len(words)
    assert "rows whose label is None, left out: 1" in table.notes
    assert "rows whose label is NaN, left out: 2" in table.notes
    assert "rows whose label is blank, left out: 3" in table.notes


def test_a_csv_of_pandas_with_gaps_has_the_classes_of_its_numbers(tmp_path):
    """Pandas writes whole numbers with `.0` as soon as one of a column is missing."""
    path, labels = tmp_path / "t.csv", ["1", "1.0", "0", "0.0", "nan"] * 5
    lines = [f"text {i},{label}\n" for i, label in enumerate(labels)]
    path.write_text("".join(["text,label\n", *lines]))
    table = read(path, LabelColumns("text", "label"), "classes")
    assert table.task.outputs == ("0", "1")
    assert table.labels.tolist() == [1, 1, 0, 0] * 5


def test_classes_that_differ_in_case_only_are_warned_of(tmp_path):
    table = table_of(tmp_path, ["Happy", "happy", "sad"] * 5)
    assert table.notes == (
        "WARNING: classes whose names differ in case or spaces only: Happy (5), happy (5)",
    )


@pytest.mark.parametrize("blank", ["", " ", "nan", None])
def test_a_blank_group_is_no_group(tmp_path, blank):
    rows = [{"t": f"text {i}", "y": i % 2, "g": blank} for i in range(60)]
    rows += [{"t": f"other {i}", "y": i % 2, "g": "me"} for i in range(3)]
    table = read(write(tmp_path / "t.json", rows), LabelColumns("t", "y", group="g"), "classes")
    counts = table.questions[0].counts
    assert sum(counts.values()) == 63
    assert abs(counts["train"] - 44) <= 3
    assert abs(counts["test"] - 13) <= 3
    assert len({row.group for row in table.rows}) == 61
    assert table.notes == ("rows without g, each by itself: 60",)


def test_groups_that_are_named_anew_in_each_file_are_several(tmp_path):
    paths = {}
    for split in ("train", "valid", "test"):
        rows = [{"t": f"{split} {i}", "y": i % 2, "g": f"{i // 2}"} for i in range(4)]
        paths[split] = write(tmp_path / f"{split}.json", rows)
    sources = [Source(path, split) for split, path in paths.items()]
    columns = LabelColumns("t", "y", group="g")
    with pytest.raises(SpeechkdError, match=r"g 0 is both in train and in valid.*--group-per-file"):
        read(sources, columns, "classes")
    table = read(sources, columns, "classes", groups_per_file=True)
    assert [row.group for row in table.rows[:3]] == ["train:0", "train:0", "train:1"]
    assert len({row.group for row in table.rows}) == 6


def test_one_group_cannot_be_split(tmp_path):
    rows = [{"t": f"text {i}", "y": i % 2, "g": "me"} for i in range(9)]
    with pytest.raises(SpeechkdError, match="all rows are of one g, and a made split keeps it"):
        read(write(tmp_path / "t.json", rows), LabelColumns("t", "y", group="g"), "classes")


def thrice(tmp_path):
    rows = [{"t": f"Text {i % 20}{'.' * (i // 20)}", "y": i % 20 % 2} for i in range(60)]
    return write(tmp_path / "t.json", rows)


def test_texts_that_stand_thrice_leave_one_and_no_leak(tmp_path):
    table = read(thrice(tmp_path), TY, "classes")
    texts = [row.text for row in table.rows]
    assert with_repetitions(table.questions, texts)[0].repeated > 8
    table = read(thrice(tmp_path), TY, "classes", drop_duplicates=True)
    assert len(table.rows) == 20
    assert table.notes == ("rows whose text stands elsewhere, left out: 40",)
    texts = [row.text for row in table.rows]
    assert with_repetitions(table.questions, texts)[0].repeated == 0


def test_equal_texts_with_different_labels_are_counted(tmp_path):
    rows = [{"t": f"text {i % 10}", "y": i // 10} for i in range(20)]
    table = read(
        write(tmp_path / "t.json", [*rows, {"t": "x", "y": 1}]), TY, "classes", drop_duplicates=True
    )
    assert "of their texts stand with different labels: 10" in table.notes


def test_several_files_are_one_table(tmp_path):
    for split, count in (("train", 10), ("dev", 4), ("test", 6)):
        lines = [f"{split} {i},{i % 2}" for i in range(count)]
        (tmp_path / f"{split}_emo.csv").write_text("t,y\n" + "\n".join(lines) + "\n")
    named = [Source.of(f"{s}={tmp_path / f'{s}_emo.csv'}") for s in ("train", "dev", "test")]
    table = read(named, TY, "classes")
    assert table.questions[0].counts == {"train": 10, "valid": 4, "test": 6}
    assert table.rows[10].id == "valid:1"
    assert table.notes == ()
    loose = read([tmp_path / f"{s}_emo.csv" for s in ("train", "dev", "test")], TY, "classes")
    assert loose.questions[0].counts == {"train": 14, "valid": 2, "test": 4}
    assert [note.partition(" seems")[0] for note in loose.notes] == [
        "WARNING: train_emo.csv", "WARNING: dev_emo.csv", "WARNING: test_emo.csv",
    ]  # fmt: skip
    with pytest.raises(SpeechkdError, match=r"dev_emo\.csv is not; give each a split, or none"):
        read([named[0], tmp_path / "dev_emo.csv"], TY, "classes")
    twice = read([named[0], named[2], named[2]], TY, "classes")
    assert len({row.id for row in twice.rows}) == 22


def test_a_file_may_be_called_like_a_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train=a.csv").touch()
    assert Source.of("train=a.csv") == Source(Path("train=a.csv"))
    assert Source.of("train=b.csv") == Source(Path("b.csv"), "train")
    assert Source.of("dir/lr=1.csv") == Source(Path("dir/lr=1.csv"))


def sessions(tmp_path, **changes):
    rows = [
        {"t": f"text {i}", "y": i % 2, "s": f"Ses{i % 5 + 1}", "who": f"{i % 5}{i % 2}", **changes}
        for i in range(50)
    ]
    return write(tmp_path / "t.json", rows)


def test_each_session_is_a_question(tmp_path):
    columns = LabelColumns("t", "y", group="who", fold="s")
    table = read(sessions(tmp_path), columns, "classes", validation="next")
    questions = table.questions
    assert [question.fold for question in questions] == [f"Ses{i}" for i in range(1, 6)]
    assert [q.title for q in questions[:2]] == ["y, fold Ses1", "y, fold Ses2"]
    for number, question in enumerate(questions):
        assert question.counts == {"train": 30, "valid": 10, "test": 10}
        assert {table.rows[i].part for i in question.places["test"]} == {f"Ses{number + 1}"}
        assert {table.rows[i].part for i in question.places["valid"]} == {
            f"Ses{(number + 1) % 5 + 1}"
        }
        assert question.labels["test"].tolist() == [i % 2 for i in question.places["test"]]
    tested = sorted(i for question in questions for i in question.places["test"])
    assert tested == list(range(50))


def test_folds_can_be_dealt_by_group(tmp_path):
    table = read(sessions(tmp_path), LabelColumns("t", "y", group="who"), "classes", folds=4)
    assert [question.fold for question in table.questions] == [f"{i} of 4" for i in range(1, 5)]
    homes = {(table.rows[i].group, q.fold) for q in table.questions for i in q.places["test"]}
    assert len(homes) == 10


def test_folds_that_cannot_be_are_told(tmp_path):
    fold = LabelColumns("t", "y", fold="s")
    with pytest.raises(SpeechkdError, match=r"s: 1 different value \(one\), but folds need 2"):
        read(sessions(tmp_path, s="one"), fold, "classes")
    with pytest.raises(SpeechkdError, match="who me is both in test and in train of fold Ses1"):
        read(sessions(tmp_path, who="me"), replace(fold, group="who"), "classes")
    with pytest.raises(SpeechkdError, match="--split-column and --fold-column or --folds divide"):
        read(sessions(tmp_path), replace(fold, split="who"), "classes")


def test_rows_without_a_session_are_left_out(tmp_path):
    rows = [{"t": f"text {i}", "y": i % 2, "s": i % 4 or None} for i in range(40)]
    table = read(write(tmp_path / "t.json", rows), LabelColumns("t", "y", fold="s"), "classes")
    assert table.notes[0] == "rows without s, left out: 10"
    assert [question.fold for question in table.questions] == ["1", "2", "3"]
