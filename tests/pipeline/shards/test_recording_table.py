"""Columns are recognised or named, and rows become entries or refusals."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.recording_table import RecordingColumns, choose_columns, table_entries
from pipeline.shards.refusals import Refusal


def entries(path, columns=None, **options):
    taken = choose_columns(path, columns or RecordingColumns())
    return list(table_entries(path, taken, path.parent, **options))


def table(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_usual_names_whatever_their_case(tmp_path):
    path = table(tmp_path, "Utt_ID,Audio,Speaker,Transcript\n7,a/b.wav,me,hello\n")
    (entry,) = entries(path)
    assert (entry.key, entry.path, entry.text) == ("7", tmp_path / "a/b.wav", "hello")
    assert (entry.speaker, entry.recording, entry.start_s) == ("me", "a/b", None)
    assert entry.where == f"{path}, line 2"


def test_named_columns_come_before_usual_ones(tmp_path):
    path = table(tmp_path, "path,other,text,raw\na.wav,b.wav,one,two\n")
    (entry,) = entries(path, RecordingColumns(path="other", text="raw"))
    assert (entry.path.name, entry.text, entry.key) == ("b.wav", "two", "b")


def test_a_column_that_is_missing_is_named_with_those_there_are(tmp_path):
    path = table(tmp_path, "file,words\na.wav,x\n")
    with pytest.raises(SpeechkdError, match=r"no column for the text .*'file', 'words'.*--text-c"):
        entries(path)
    with pytest.raises(SpeechkdError, match=r"no column 'nope' \(--text-column\).*'file', 'words'"):
        entries(path, RecordingColumns(text="nope"))


def test_a_channel_is_taken_only_from_the_column_that_is_named(tmp_path):
    path = table(tmp_path, "path,text,channel\na.wav,x,1\nb.wav,y,B\nc.wav,z,\n")
    assert [entry.channel for entry in entries(path)] == [None, None, None]
    assert [entry.channel for entry in entries(path, RecordingColumns(channel="channel"))] == [
        *(0, 1, None),
    ]


@pytest.mark.parametrize("cell", ["0", "-1", "AB", "é", "1.5", "123456"])
def test_a_channel_that_is_none_is_a_refusal(tmp_path, cell):
    path = table(tmp_path, f"path,text,side\na.wav,x,{cell}\n")
    (refusal,) = entries(path, RecordingColumns(channel="side"))
    assert isinstance(refusal, Refusal)
    assert "neither a number from 1 on nor a letter" in refusal.detail


def test_segments_have_keys_of_their_own(tmp_path):
    path = table(tmp_path, "path,text,start,end\na.b.wav,x,1,2.5\na.b.wav,y,2.5,\na.b.wav,z,,\n")
    one, two, whole = entries(path)
    assert [entry.key for entry in (one, two, whole)] == [
        "a.b_1.000_2.500",
        "a.b_2.500_end",
        "a.b",
    ]
    assert (one.start_s, one.end_s, two.end_s, whole.start_s) == (1.0, 2.5, None, None)
    assert {entry.recording for entry in (one, two, whole)} == {"a.b"}


def test_nemo_manifest(tmp_path):
    line = '{"audio_filepath": "a.wav", "text": "hi", "offset": 1.5, "duration": 2.0}\n'
    (entry,) = entries(table(tmp_path, line, "t.jsonl"))
    assert (entry.start_s, entry.end_s) == (1.5, 3.5)


def test_a_length_beside_no_start_is_not_a_segment(tmp_path):
    (entry,) = entries(table(tmp_path, "path,text,duration\na.wav,x,3\n"))
    assert (entry.start_s, entry.end_s) == (None, None)


@pytest.mark.parametrize("time", ["nan", "inf", "1:2:3:4:5", "one"])
def test_a_time_that_is_no_number_is_refused(tmp_path, time):
    (refusal,) = entries(table(tmp_path, f"path,text,start,end\na.wav,x,{time},2\n"))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "segment outside the recording"
    assert time in refusal.detail


def test_rows_without_a_path_or_of_the_wrong_width_are_refused(tmp_path):
    found = entries(table(tmp_path, "path,text\n,x\na.wav,b,c\na\0.wav,x\n"))
    assert [refusal.reason for refusal in found] == [
        "missing audio",
        "malformed row",
        "missing audio",
    ]
    assert [refusal.key for refusal in found] == ["line 2", "line 3", "line 4"]


def test_absolute_paths_and_paths_above_the_table_give_relative_keys(tmp_path):
    inside = tmp_path / "x" / "a.wav"
    path = table(tmp_path, f"path,text\n{inside},one\n/else/b.wav,two\n../c.wav,three\n")
    found = entries(path)
    assert [entry.key for entry in found] == ["x/a", "else/b", "c"]
    assert found[0].path == inside


def test_json_lines_have_the_columns_of_all_objects(tmp_path):
    """In NeMo's manifests an offset may be left out of any line."""
    lines = [
        '{"audio_filepath": "a.wav", "duration": 3.67, "text": "x"}',
        '{"audio_filepath": "b.wav", "offset": 0.5, "duration": 2.0, "text": "y"}',
    ]
    path = table(tmp_path, "\n".join(lines), "t.jsonl")
    first, second = entries(path)
    assert (first.start_s, first.end_s) == (None, 3.67)
    assert (second.start_s, second.end_s) == (0.5, 2.5)
    columns = RecordingColumns(start="offset", duration="duration")
    assert entries(path, columns) == [first, second]


@pytest.mark.parametrize(
    "content",
    [
        '{"audio_filepath": "a.wav", "duration": 3.67, "text": "x"}\n',
        '\n{"audio_filepath": "a.wav", "text": "x", "extra": [1]}',
        '[{"audio_filepath": "a.wav",\n "text": "x"}]',
    ],
)
def test_a_json_of_lines_or_of_one_list(tmp_path, content):
    (entry,) = entries(table(tmp_path, content, "train_manifest.json"))
    assert (entry.path.name, entry.text, entry.start_s) == ("a.wav", "x", None)


def test_a_json_that_is_no_table(tmp_path):
    for content in ('{"a": 1,\n "b": 2}', "[1, 2]", ""):
        with pytest.raises(SpeechkdError):
            entries(table(tmp_path, content, "t.json"))


def test_one_recording_on_many_rows_without_times_is_asked_about(tmp_path):
    path = table(tmp_path, "id,path,text\n1,a.wav,x\n2,b.wav,y\n3,a.wav,z\n")
    with pytest.raises(SpeechkdError, match=r"lines 2 and 4 both are the whole of .*a\.wav"):
        entries(path)
    assert [entry.key for entry in entries(path, repeats=True)] == ["1", "2", "3"]
    with pytest.raises(SpeechkdError, match="lines 2 and 3"):
        entries(table(tmp_path, "id,path,text,start,end\n1,a.wav,x,,\n2,a.wav,y,,\n"))
