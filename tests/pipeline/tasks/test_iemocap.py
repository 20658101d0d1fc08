"""IEMOCAP's layout, read from a small copy of it."""

import csv

import pytest

from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.tasks.iemocap import COLUMNS, labels_of, read_iemocap, write_turns
from tests.helpers.iemocap import make_iemocap


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return make_iemocap(tmp_path_factory.mktemp("iemocap"))


@pytest.mark.parametrize(
    ("excited", "fourth", "happy", "left_out"),
    [("merge", "happy or excited", 4, 0), ("drop", "happy", 2, 20), ("only", "excited", 2, 20)],
)
def test_each_session_has_its_turns(release, excited, fourth, happy, left_out):
    turns, notes = read_iemocap(release, excited)
    assert sorted({turn.label for turn in turns}) == labels_of(excited)
    for session in "12345":
        mine = [turn.label for turn in turns if turn.session == session]
        # two actors in two dialogues; a sad turn of one of them has no words
        assert mine.count("angry") == mine.count("neutral") == 4
        assert mine.count(fourth) == 2 * happy
        assert mine.count("sad") == 2
    assert notes["turns without a text, left out"] == 10
    assert notes["turns labelled fru, left out"] == notes["turns labelled xxx, left out"] == 20
    code = {"merge": "", "drop": "exc", "only": "hap"}[excited]
    assert notes[f"turns labelled {code}, left out"] == left_out


def test_a_turn_is_what_the_files_say_of_it(release):
    turns, _ = read_iemocap(release.parent)
    turn = next(turn for turn in turns if turn.key == "Ses03F_script01_1_M002")
    assert (turn.label, turn.text) == ("happy or excited", "exc said.")
    assert (turn.session, turn.speaker, turn.act) == ("3", "3M", "scripted")
    assert turn.recording == "Ses03F_script01_1"
    assert (turn.valence, turn.activation, turn.dominance) == (2.5, 3.0, 3.5)
    assert (release / turn.path).is_file()
    assert len({turn.speaker for turn in turns}) == 10
    assert sum(turn.act == "improvised" for turn in turns) == len(turns) / 2


def test_the_table_has_a_row_per_turn(release, tmp_path):
    turns, _ = read_iemocap(release)
    write_turns(turns, tmp_path / "iemocap.csv")
    with (tmp_path / "iemocap.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["key"] for row in rows] == [turn.key for turn in turns]
    assert rows[0]["path"] == turns[0].path


def test_what_is_no_iemocap_is_refused(tmp_path):
    with pytest.raises(NotThere, match="has no folder Session1"):
        read_iemocap(tmp_path)
    (tmp_path / "Session1").mkdir()
    with pytest.raises(NotThere, match="transcriptions is missing"):
        read_iemocap(tmp_path)


def test_missing_waves_are_counted(tmp_path):
    release = make_iemocap(tmp_path, sessions=1)
    for wave in (release / "Session1/sentences/wav/Ses01F_impro01").glob("*_F00[01].wav"):
        wave.unlink()
    with pytest.raises(NotThere, match="waves of 2 of 18 labelled turns are missing"):
        read_iemocap(release)


@pytest.mark.parametrize(
    "line",
    [
        "[1.0 - 2.0]\tSes01F_impro01_F001\tneu",
        "[1.0 - 2.0]\tSes01F_impro01_F001\tjoy\t[2.5, 2.5, 2.5]",
        "[1.0 - 2.0]\tsomething\tneu\t[2.5, 2.5, 2.5]",
    ],
)
def test_a_label_of_another_form_is_refused(tmp_path, line):
    release = make_iemocap(tmp_path, sessions=1)
    file = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    file.write_text(f"% heading\n{line}\n")
    with pytest.raises(SpeechkdError, match=r"line 2: .* is no label of a turn"):
        read_iemocap(release)


def test_a_turn_that_is_labelled_twice_is_refused(tmp_path):
    release = make_iemocap(tmp_path, sessions=1)
    file = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    file.write_text(file.read_text() * 2)
    with pytest.raises(SpeechkdError, match="Ses01F_impro01_F000 is labelled twice"):
        read_iemocap(release)
