"""Reading minimal pairs: both forms of files, and the supplement that never enters BLiMP."""

import json

import pytest

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.tasks.blimp import SUPPLEMENT
from pipeline.tasks.pair_files import Pair, read_pairs, read_supplement

ROW = {"sentence_good": "g", "sentence_bad": "b"}


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({**ROW, **row}) + "\n" for row in rows))


def test_pairs_are_read_and_limited(tmp_path):
    row = {"sentence_good": "g", "sentence_bad": "b"}
    lines = json.dumps({**row, "UID": "u", "linguistics_term": "t"}) + "\n" + json.dumps(row) + "\n"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.jsonl").write_text(lines)
    assert read_pairs(tmp_path) == [Pair("u", "t", "g", "b"), Pair("mine", "mine", "g", "b")]
    assert len(read_pairs(tmp_path, limit=1)) == 1


@pytest.mark.parametrize("line", ["{", "[]", '{"sentence_good": "x"}'])
def test_lines_that_are_no_pairs_are_named(tmp_path, line):
    (tmp_path / "x.jsonl").write_text(line)
    with pytest.raises(SpeechkdError, match=r"x\.jsonl, line 1: not a pair"):
        read_pairs(tmp_path)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(SpeechkdError, match="nowhere: there is no such folder"):
        read_pairs(tmp_path / "nowhere")


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(SpeechkdError, match=r"holds no \.jsonl"):
        read_pairs(tmp_path)


def test_the_files_of_2023_are_read(tmp_path):
    """One .json per field; rows of BLiMP keep their UID and term."""
    write(tmp_path / "filler_gap.json", {"UID": "wh_island", "linguistics_term": "x"}, {})
    read = read_pairs(tmp_path)
    assert [(p.paradigm, p.category) for p in read] == [
        ("wh_island", "x"),
        ("filler_gap", "filler_gap"),
    ]
    assert read[1].field == "filler_gap"


def test_json_beside_json_lines_is_something_else(tmp_path):
    write(tmp_path / "one.jsonl", {})
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert len(read_pairs(tmp_path)) == 1


@pytest.mark.parametrize("place", ["supplement_filtered/odd.jsonl", "deep/hypernym.jsonl"])
def test_sets_of_the_supplement_never_enter_blimp(tmp_path, place, capsys):
    write(tmp_path / "blimp_filtered" / "one.jsonl", {"UID": "one"})
    write(tmp_path / place, {})
    assert [pair.paradigm for pair in read_pairs(tmp_path)] == ["one"]
    assert "left out of its figures; --supplement reads them" in capsys.readouterr().err


def test_a_folder_of_the_supplement_is_no_blimp(tmp_path):
    write(tmp_path / "turn_taking.jsonl", {})
    with pytest.raises(NotThere, match="Name it with --supplement"):
        read_pairs(tmp_path)


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_the_supplement_is_read_by_its_names(tmp_path, ending):
    for name in SUPPLEMENT:
        write(tmp_path / f"{name}.{ending}", {"row": 0, "sentence_good": "A: Who?\nB: I."}, {})
    write(tmp_path / "blimp" / f"one.{ending}", {})
    read = read_supplement(tmp_path)
    assert [pair.field for pair in read] == [name for name in sorted(SUPPLEMENT) for _ in "ab"]
    assert read[0] == Pair("hypernym", "hypernym", "A: Who?\nB: I.", "b")
    assert len(read_supplement(tmp_path, limit=1)) == 5


def test_a_folder_without_the_supplement_is_told(tmp_path):
    write(tmp_path / "one.jsonl", {})
    with pytest.raises(NotThere, match="holds no set of BabyLM's supplement"):
        read_supplement(tmp_path)
    with pytest.raises(NotThere, match="no such folder"):
        read_supplement(tmp_path / "nowhere")


def test_a_set_that_is_there_twice_is_refused(tmp_path):
    for folder in ("2024", "2025"):
        write(tmp_path / folder / "hypernym.jsonl", {})
    with pytest.raises(SpeechkdError, match="holds hypernym more than once"):
        read_supplement(tmp_path)


def test_a_line_of_the_supplement_that_is_no_pair_is_named(tmp_path):
    (tmp_path / "hypernym.jsonl").write_text('{"row": 1}')
    with pytest.raises(Damaged, match=r"hypernym\.jsonl, line 1"):
        read_supplement(tmp_path)
