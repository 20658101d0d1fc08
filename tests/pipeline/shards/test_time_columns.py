"""Columns of times: recognised in their many forms, or refused with the flags that settle them."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.time_columns import choose_times, time_of


def chosen(columns, **named):
    roles = {role: named.get(role, "") for role in ("start", "end", "duration")}
    return choose_times("t.csv", columns.split(","), roles, {"path", "text"})


@pytest.mark.parametrize(
    ("columns", "start", "end"),
    [
        ("path,start,end,text", "start", "end"),
        ("path,start_s,end_s,text", "start_s", "end_s"),
        ("path,begin_time,end_time,text", "begin_time", "end_time"),
        ("path,StartTime,EndTime,text", "StartTime", "EndTime"),
        ("path,starttime,endtime,text", "starttime", "endtime"),
        ("path,segment_start,segment_end,text", "segment_start", "segment_end"),
        ("path,segment_start_time,segment_end_time,text", "segment_start_time", "segment_end_time"),
        ("path,Begin (ms),End (ms),text", "Begin (ms)", "End (ms)"),
        ("path,start_ms,stop_ms,text", "start_ms", "stop_ms"),
        ("path,startSec,endSec,text", "startSec", "endSec"),
        ("path,start_seconds,end_seconds,text,duration", "start_seconds", "end_seconds"),
        ("path,onset,offset,text", "onset", "offset"),
        ("path,onset,offset,duration,text", "onset", "offset"),
        ("path,tmin,tmax,text", "tmin", "tmax"),
        ("path,xmin,xmax,text", "xmin", "xmax"),
        ("path,t0,t1,text", "t0", "t1"),
        ("path,from,to,text", "from", "to"),
        ("path,utt_begin,utt_end,text,speaker,gender", "utt_begin", "utt_end"),
    ],
)
def test_a_start_and_an_end_by_their_many_names(columns, start, end):
    assert chosen(columns) == {"start": start, "end": end}


@pytest.mark.parametrize(
    ("columns", "start", "duration"),
    [
        ("path,offset,duration,text", "offset", "duration"),
        ("path,duration_ms,start_ms,text", "start_ms", "duration_ms"),
        ("path,Begin,Dur,text", "Begin", "Dur"),
    ],
)
def test_a_start_and_a_length(columns, start, duration):
    assert chosen(columns) == {"start": start, "duration": duration}


@pytest.mark.parametrize(
    "columns",
    [
        "path,text",
        "path,text,duration",
        "path,text,duration_ms,id,license",
        "path,text,from,speaker",  # where it is from
        "client_id,path,sentence,up_votes,age,gender,accents,locale,segment",
        "path,text,from_age,similarity_to_ref",
        "path,text,frontend,weekend,sometimes,startled,trend",
    ],
)
def test_a_whole_recording_per_row(columns):
    assert chosen(columns) == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("path,end_time,text", r"'end_time' is an end, .*--start-column none"),
        ("path,start,text", r"'start' is a start, .*--end-column none"),
        ("path,offset,text", r"'offset' is a start"),
        ("path,start,start_ms,end,text", r"'start' and 'start_ms' could each be the start"),
        ("path,start,end,end_time,text", r"'end' and 'end_time' could each be the end"),
        ("path,text,seg_start_frame", r"'seg_start_frame' looks like a time.*--start-column none"),
        ("path,text,timestamp", r"'timestamp' looks like a time"),
        ("path,text,start_pos,end_pos", r"'start_pos' looks like a time"),  # of letters, perhaps
        ("path,text,word_end", r"'word_end' looks like a time"),
        ("path,start,end,offset,text", r"'offset' looks like a time.*--start-column 'start'"),
    ],
)
def test_what_is_doubtful_is_refused_with_the_flags_that_settle_it(columns, message):
    with pytest.raises(SpeechkdError, match=message):
        chosen(columns)


def test_names_settle_every_doubt():
    assert chosen("path,end_time,text", start="none") == {}
    assert chosen("path,start,text", end="none") == {"start": "start"}
    assert chosen("path,start,end,text", start="none") == {}
    assert chosen("path,start,end,text", start="none", end="end") == {"end": "end"}
    assert chosen("path,text,timestamp", start="none") == {}
    assert chosen("path,start,start_ms,end,text", start="start") == {"start": "start", "end": "end"}
    assert chosen("path,a,b,text", start="a", end="b") == {"start": "a", "end": "b"}
    assert chosen("path,a,duration,text", start="a") == {"start": "a", "duration": "duration"}
    assert chosen("path,onset,b,offset", start="onset") == {"start": "onset", "end": "offset"}
    assert chosen("path,none,end,text", start="none") == {"start": "none", "end": "end"}
    with pytest.raises(SpeechkdError, match="'a' is a start"):
        chosen("path,a,text", start="a")


@pytest.mark.parametrize(
    ("cell", "column", "seconds"),
    [
        ("1.5", "start", 1.5),
        ("1,5", "start", 1.5),
        (" 1500 ", "start_ms", 1.5),
        ("1500", "Begin (ms)", 1.5),
        ("1500", "startMs", 1.5),
        ("2", "end_s", 2.0),
        ("1500 ms", "start", 1.5),
        ("1.5s", "start_ms", 1.5),
        ("00:01:02.500", "start", 62.5),
        ("01:02,5", "start_ms", 62.5),
        ("", "start", None),
        ("  ", "start", None),
    ],
)
def test_a_time_in_its_unit(cell, column, seconds):
    assert time_of(cell, column) == seconds


@pytest.mark.parametrize("cell", ["one", "nan", "inf", "1.2.3", "1:2:3:4:5", "-", "5 min"])
def test_what_is_no_time(cell):
    with pytest.raises(ValueError, match=r"time|finite"):
        time_of(cell, "start")
