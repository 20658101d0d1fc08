"""Speakers as a question: who is trained on, who is asked about, and which pairs."""

import csv

import numpy as np
import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.labelled_rows import LabelColumns, Source
from pipeline.tasks.speakers import judge, read_speakers
from pipeline.tasks.verification import pairs, verify

PARTS = ("train", "train", "valid", "valid", "test", "test")
COLUMNS = LabelColumns("text", "who", id="key", group="take", split="part")


@pytest.fixture
def table(tmp_path):
    def write(rows):
        path = tmp_path / "speakers.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["key", "text", "who", "take", "part"])
            writer.writerows(rows)
        return [Source(path)]

    return write


def rows(parts=PARTS, clips=3):
    return [
        (f"{who}-{clip}", f"text {clip}", f"w{who}", f"t{who}{clip % 2}", part)
        for who, part in enumerate(parts)
        for clip in range(clips)
    ]


def read(sources, **changes):
    return read_speakers(sources, **{"columns": COLUMNS, "seed": 0, "kind": "all", **changes})


def test_those_who_are_trained_on_are_classes_and_others_are_pairs(table):
    speakers = read(table(rows()))
    question = speakers.question
    assert question.task.outputs == ("w0", "w1")
    assert question.labels["train"].tolist() == [0] * 3 + [1] * 3
    assert question.labels["test"].tolist() == [[4, 8], [4, 9], [4, 8], [5, 10], [5, 11], [5, 10]]
    assert question.raw == ["w4"] * 3 + ["w5"] * 3
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    metrics = question.task.score(question.labels["test"], vectors)
    expected = verify(vectors, question.raw, pairs(question.raw, question.raw))
    assert {**expected, "trials": "all"} == metrics
    across = judge(question.labels["test"], vectors, kind="other-recording", listed=None)
    assert across["pairs"] == metrics["pairs"] - 2


def test_a_made_split_parts_whole_speakers(table):
    made = read(
        table(rows(parts=["any"] * 30)),
        columns=LabelColumns("text", "who", id="key", group="take"),
    )
    places = made.question.places
    of = {split: {made.rows[i].label for i in some} for split, some in places.items()}
    assert sum(map(len, of.values())) == 30 == len(set.union(*of.values()))
    assert 5 <= len(of["test"]) <= 7


@pytest.mark.parametrize(
    ("parts", "clips", "kind"),
    [
        (("train", "train", "valid", "test", "test"), 3, "all"),
        (("train", "train", "valid", "valid", "test", "test"), 1, "other-recording"),
    ],
)
def test_clips_that_make_no_pairs_validate_nothing_and_that_is_said(table, parts, clips, kind):
    made = [row for row in rows(parts) if row[4] != "valid" or int(row[0][-1]) < clips]
    speakers = read(table(made), kind=kind)
    (note,) = speakers.notes
    assert note.startswith("clips that would validate and make no pairs")
    assert speakers.question.counts["valid"] == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([*rows(), ("x", "text", "w0", "t9", "test")], "who w0 is both in train and in test"),
        (rows(["train", "test", "test"]), "1 speaker to train on"),
        (rows(["train", "train"]), "0 clips to test"),
        (rows(["train", "train", "test", "test"], clips=1), "no pair of one speaker"),
        (rows(["train", "train", "test"]), "no pair of two speakers"),
        ([*rows(), rows()[0]], "0-0 stands there twice"),
        ([], "has no row"),
    ],
)
def test_tables_that_cannot_be_asked_are_refused(table, given, message):
    with pytest.raises(SpeechkdError, match=message):
        read(table(given))


def test_recordings_must_be_named_for_pairs_across_them(table):
    columns = LabelColumns("text", "who", id="key", split="part")
    with pytest.raises(SpeechkdError, match="--group-column"):
        read(table(rows()), columns=columns, kind="other-recording")


def test_the_digest_is_of_what_is_asked(table, tmp_path):
    one = read(table(rows())).sha256
    assert read(table(rows())).sha256 == one
    assert read(table(rows()), kind="other-recording").sha256 != one
    trials = tmp_path / "trials.txt"
    trials.write_text("1 4-0 4-1\n0 4-0 5-0\n")
    assert read(table(rows()), trials=trials).sha256 != one


def test_a_list_asks_the_test_alone_even_if_as_many_clips_validate(table, tmp_path):
    trials = tmp_path / "trials.txt"
    trials.write_text("1 4-0 4-1\n0 4-0 5-0\n")
    question = read(table(rows()), trials=trials).question
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    assert len(question.labels["valid"]) == len(question.labels["test"]) == 6
    told = {s: question.task.score(question.labels[s], vectors) for s in ("valid", "test")}
    assert (told["test"]["trials"], told["test"]["pairs"]) == ("list", 2)
    assert (told["valid"]["trials"], told["valid"]["pairs"]) == ("all", 15)


def test_a_list_that_contradicts_the_table_is_refused(table, tmp_path):
    trials = tmp_path / "trials.txt"
    trials.write_text("1 4-0 4-1\n0 4-0 5-0\n1 4-1 5-1\n")
    with pytest.raises(SpeechkdError, match=r"1 of 3 pairs contradict.*'w4' and 'w5' in the table"):
        read(table(rows()), trials=trials)


def test_a_list_names_clips_by_their_keys_in_a_table_of_several_files(table, tmp_path):
    trials = tmp_path / "trials.txt"
    trials.write_text("1 4-0 4-1\n0 4-0 5-0\n")
    (first,) = table(rows()[:12])
    one = tmp_path / "one.csv"
    first.path.rename(one)
    (other,) = table(rows()[12:])
    assert read([Source(one), other], trials=trials).question.counts["test"] == 6


def test_recordings_that_each_file_names_anew_are_others(table, tmp_path):
    once = rows(["train", "train", "test", "test"], clips=1)
    (first,) = table(once)
    one = tmp_path / "one.csv"
    first.path.rename(one)
    sources = [Source(one), *table(once)]
    with pytest.raises(SpeechkdError, match="no pair of one speaker"):
        read(sources, kind="other-recording")
    question = read(sources, kind="other-recording", groups_per_file=True).question
    vectors = np.random.default_rng(0).normal(size=(4, 4))
    assert question.task.score(question.labels["test"], vectors)["same_pairs"] == 2
