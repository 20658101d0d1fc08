"""Recordings by conversation and side, lists of splits, and what is left out of the table."""

import csv
from collections import Counter

import pytest

from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.tasks.switchboard.acts import (
    Recordings,
    Said,
    audible_acts,
    divided,
    read_lists,
    write_acts,
)


def said(number="2005", side="A", **changes):
    fields = {"name": "da1", "start": 1.0, "end": 2.0, "text": "well", "act": "sd", "speaker": "7"}
    return Said(**{"number": number, "side": side, **fields, **changes})


@pytest.mark.parametrize(
    ("name", "side", "wanted"),
    [
        ("sw02005.sph", "A", ("sw02005.sph", "1")),
        ("d1/data/sw2005.wav", "B", ("d1/data/sw2005.wav", "2")),
        ("SW02005.WAV", "B", ("SW02005.WAV", "2")),
        ("sw2005A.wav", "A", ("sw2005A.wav", "")),
        ("sw02005-b.wav", "B", ("sw02005-b.wav", "")),
        ("sw2005A.wav", "B", None),
    ],
)
def test_a_recording_is_known_by_its_name(tmp_path, name, side, wanted):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    for file in (name, "sw2005.txt", "other.wav", "xsw2005.wav"):
        (tmp_path / file).touch()
    assert Recordings.below(tmp_path).of("2005", side) == wanted


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_without_a_recording_it_is_said_what_is_wanted(tmp_path, folder):
    with pytest.raises(NotThere, match=r"no recording of Switchboard .* sw02005\.sph"):
        Recordings.below(tmp_path / folder)


def test_what_cannot_be_cut_is_counted_by_its_reason():
    recordings = Recordings({"2005": "sw2005.sph", "2099": "sw2099.sph"}, {("2010", "B"): "b.wav"})
    notes = Counter()
    acts = [
        said(), said(name="da2", text=""), said(name="da3", start=None, end=None),
        said(name="da4", end=1.0), said(number="2010"), said(number="2010", side="B"),
    ]  # fmt: skip
    rows = list(audible_acts(acts, recordings, notes))
    assert [(row.key, row.path, row.channel) for row in rows] == [
        ("sw2005A-da1", "sw2005.sph", "1"), ("sw2010B-da1", "b.wav", ""),
    ]  # fmt: skip
    assert notes == {
        "acts without a word, left out": 1,
        "acts whose words have no times, left out": 1,
        "acts of no length, left out": 1,
        "acts of conversations without a recording, left out": 1,
        "recordings of conversations without acts, not used": 1,
    }


def test_lists_divide_conversations(tmp_path):
    (tmp_path / "a").write_text("sw2005\n\n02006\n")
    (tmp_path / "b").write_text("sw02007\n")
    split_of = read_lists([f"train={tmp_path / 'a'}", f"test={tmp_path / 'b'}"])
    assert split_of == {"2005": "train", "2006": "train", "2007": "test"}
    recordings = Recordings({n: f"{n}.sph" for n in ("2005", "2007", "2008")}, {})
    notes = Counter()
    rows = audible_acts([said(number=n) for n in ("2005", "2007", "2008")], recordings, notes)
    assert [row.split for row in divided(rows, split_of, notes)] == ["train", "test"]
    assert notes["acts of conversations in no list, left out"] == 1


@pytest.mark.parametrize(
    ("written", "text", "message"),
    [
        ("train", "sw2005\n", "write train=FILE"),
        ("dev={}", "sw2005\n", "write train=FILE"),
        ("train={}", "sw2005\nsw20055\n", "line 2: 'sw20055' is no conversation"),
    ],
)
def test_a_list_that_is_none_is_an_error(tmp_path, written, text, message):
    (tmp_path / "list").write_text(text)
    with pytest.raises(SpeechkdError, match=message):
        read_lists([written.format(tmp_path / "list")])


def test_a_conversation_in_two_splits_is_an_error(tmp_path):
    (tmp_path / "list").write_text("sw2005\n")
    with pytest.raises(SpeechkdError, match="sw2005 is in train as well"):
        read_lists([f"train={tmp_path / 'list'}", f"test={tmp_path / 'list'}"])


@pytest.mark.parametrize("split", ["", "train"])
def test_the_table_has_a_column_of_splits_where_there_are_any(tmp_path, split):
    recordings = Recordings({"2005": "sw2005.sph"}, {})
    write_acts(audible_acts([said(split=split)], recordings, Counter()), tmp_path / "acts.csv")
    (row,) = csv.DictReader((tmp_path / "acts.csv").open())
    assert ("split" in row) == bool(split)
    assert (row["key"], row["start"], row["channel"]) == ("sw2005A-da1", "1.0", "1")
