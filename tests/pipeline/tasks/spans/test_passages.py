"""Passages from a table of clips: where each clip lies, and what cannot be."""

from collections import Counter

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.spans.passages import read_passages

SECONDS = {"a/1": 1.5, "a/2": 2.0, "b": 3.0}


def read(tmp_path, text, notes=None):
    (tmp_path / "passages.csv").write_text(text)
    return read_passages(tmp_path / "passages.csv", SECONDS, Counter() if notes is None else notes)


def test_clips_follow_each_other_in_the_order_of_the_rows(tmp_path):
    passages = read(tmp_path, "passage,clip\np,a/2\nq,b\np,a/1.wav\n")
    assert passages["p"].clips == ("a/2", "a/1")
    assert passages["p"].starts_s == (0.0, 2.0)
    assert passages["p"].end_s == 3.5
    assert passages["q"].end_s == 3.0


def test_a_table_may_tell_where_clips_begin(tmp_path):
    passages = read(tmp_path, "passage,clip,start_s\np,a/1,0.5\np,a/2,4\nq,b,\n")
    assert passages["p"].starts_s == (0.5, 4.0)
    assert passages["p"].end_s == 6.0
    assert passages["q"].starts_s == (0.0,)


def test_passages_that_lack_a_clip_are_counted_with_an_example(tmp_path):
    notes = Counter()
    passages = read(tmp_path, "passage,clip\np,a/1\np,gone\nq,b\nr,lost\n", notes)
    assert list(passages) == ["q"]
    assert dict(notes) == {
        "passages with a clip that the cache lacks, such as p (gone), left out": 2
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("passage,file\np,a\n", "has no column clip; it has passage, file"),
        ("passage,clip\np,\n", "line 2: passage or clip is empty"),
        ("passage,clip\np,a/1\np,a/1\n", "passage p has clip a/1 twice"),
        ("passage,clip,start_s\np,a/1,0\np,a/2,\n", "start_s for 1 of its 2 clips"),
        (
            "passage,clip,start_s\np,a/1,0\np,a/2,1.2\n",
            r"a/2 begins at 1.2 s, before .* ends \(1.5",
        ),
        ("passage,clip,start_s\np,a/1,-1\n", "begins at -1 s, before 0"),
        ("passage,clip,start_s\np,a/1,soon\n", "line 2, column start_s: 'soon' is not a time"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_where(tmp_path, text, wanted):
    with pytest.raises(SpeechkdError, match=wanted):
        read(tmp_path, text)
