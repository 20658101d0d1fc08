"""What is allowed in a table of labels, and most likely wrong, is said."""

import json
from pathlib import Path

import pytest

from pipeline.tasks.labelled import Division, read_labelled
from pipeline.tasks.labelled_rows import LabelColumns, Source


def warnings_of(tmp_path: Path, rows, kind="classes", division=None, **columns) -> list[str]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = read_labelled(
        [Source(path)], LabelColumns("t", "y", **columns), kind, division or Division()
    )
    return [note for note in table.notes if note.startswith("WARNING")]


ROWS = [
    {"t": f"text {i}", "y": "ab"[i % 2], "Split": "train" if i < 30 else "test", "speaker": i % 10}
    for i in range(40)
]


def test_a_column_that_looks_like_a_split_is_named_where_another_split_is_made(tmp_path):
    (warning,) = [w for w in warnings_of(tmp_path, ROWS) if "column Split" in w]
    assert "--split-column Split takes the table's own split" in warning
    assert not warnings_of(tmp_path, ROWS, split="Split")


def test_rows_of_one_speaker_on_both_sides_are_warned_of_until_they_stay_together(tmp_path):
    rows = [{name: row[name] for name in ("t", "y", "speaker")} for row in ROWS]
    for division in (Division(), Division(folds=4)):
        (warning,) = warnings_of(tmp_path, rows, division=division)
        assert "--group-column speaker keeps them together" in warning
    assert not warnings_of(tmp_path, rows, group="speaker")
    assert not warnings_of(tmp_path, rows, fold="speaker")


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ("aaaa", "ab", "all training rows are 'a', so nothing can be learnt"),
        ("aabb", "abc", "no training row has the class c of the test"),
        ("aabb", "abdc", "no training row has the classes c, d of the test"),
        ("abcd", "ab", ""),
    ],
)
def test_classes_that_cannot_be_learnt_are_told(tmp_path, train, test, words):
    rows = [
        {"t": f"{split} {i}", "y": label, "s": split}
        for split, labels in (("train", train), ("test", test))
        for i, label in enumerate(labels)
    ]
    assert [w.removeprefix("WARNING: ") for w in warnings_of(tmp_path, rows, split="s")] == [
        words
    ] * bool(words)


def test_a_class_that_a_fold_does_not_train_on_is_told_with_the_fold(tmp_path):
    rows = [{"t": f"{part} {y}", "y": y, "part": part} for part in "pq" for y in "ab"]
    rows.append({"t": "alone", "y": "c", "part": "q"})
    assert warnings_of(tmp_path, rows, fold="part") == [
        "WARNING: fold q: no training row has the class c of the test"
    ]


def test_of_many_folds_the_first_are_told_and_the_others_counted(tmp_path):
    rows = [
        {"t": f"{part} {y}", "y": f"{part}{y}", "part": part} for part in range(9) for y in "ab"
    ]
    warnings = warnings_of(tmp_path, rows, fold="part")
    assert len(warnings) == 4
    assert warnings[-1] == "WARNING: so it is in 6 more folds"


def test_a_mark_for_each_word_taken_for_a_class_is_told(tmp_path):
    rows = [{"t": f"{i} one two", "y": f"{i % 2} 0 -", "s": "train"} for i in range(8)]
    rows += [{"t": "x one two", "y": "0 0 -", "s": "test"}]
    assert any("--kind words" in w for w in warnings_of(tmp_path, rows, split="s"))
    assert not any("--kind words" in w for w in warnings_of(tmp_path, ROWS, split="Split"))
