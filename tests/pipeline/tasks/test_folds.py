"""Folds: each part is the test once, and nothing of it is trained on."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.folds import leave_out

PARTS = st.lists(st.sampled_from("abcdefg"), min_size=3, max_size=40)


def test_each_session_is_left_out_in_turn():
    folds = leave_out(["Ses2", "Ses10", "Ses1", "", "Ses2"])
    assert [fold.name for fold in folds] == ["Ses1", "Ses2", "Ses10"]
    assert folds[1].splits == ("test", "train", "train", "", "test")
    (first, *_), last = (
        leave_out(list("abc"), validation="next"),
        leave_out(list("abc"), validation="next")[-1],
    )
    assert first.splits == ("test", "valid", "train")
    assert last.splits == ("valid", "train", "test")


@given(PARTS, st.sampled_from(["none", "next"]), st.integers(0, 4), st.integers(0, 2))
def test_every_row_is_tested_once_and_parts_stay_whole(parts, validation, count, seed):
    try:
        folds = leave_out(parts, count=count, validation=validation, seed=seed)
    except SpeechkdError:
        assert len(set(parts)) < 3 or not 2 <= count <= len(set(parts)) or count == 2
        return
    for row in range(len(parts)):
        assert Counter(fold.splits[row] for fold in folds)["test"] == 1
    for fold in folds:
        assert len({(part, split) for part, split in zip(parts, fold.splits, strict=True)}) == len(
            set(parts)
        )
        assert {"train", "test"} <= set(fold.splits)
        assert ("valid" in fold.splits) == (validation == "next")
    assert len(folds) == (count or len(set(parts)))


def test_dealt_folds_have_about_as_many_rows():
    parts = [f"speaker {i % 50}" for i in range(1000)]
    sizes = [fold.splits.count("test") for fold in leave_out(parts, count=5)]
    assert sizes == [200] * 5
    assert leave_out(parts, count=5) == leave_out(parts, count=5)
    assert leave_out(parts, count=5) != leave_out(parts, count=5, seed=1)


@pytest.mark.parametrize(
    ("parts", "changes", "told"),
    [
        ("aaa", {}, r"session: 1 different value \(a\), but folds need 2"),
        ("ab", {"validation": "next"}, "folds need 3: .* or use --fold-validation none"),
        ("abc", {"count": 1}, "--folds 1: the rows have 3 values of session"),
        ("abc", {"count": 4}, "no more folds than values"),
        ("", {}, r"0 different values \(none\)"),
    ],
)
def test_too_few_parts_are_told(parts, changes, told):
    with pytest.raises(SpeechkdError, match=told):
        leave_out(list(parts), what="session", **changes)
