"""Subtitles agree with independent readers, and the traps of both formats are stepped over."""

import datetime

import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.shards.transcripts.formats import decoded
from pipeline.shards.transcripts.segment import Segment, Transcript
from pipeline.shards.transcripts.subtitles import parse_srt, parse_vtt


def cues(parse, text):
    return [
        (round(s.start_s, 3), round(s.end_s, 3), s.text) for s in parse(Transcript(text, "talk"))
    ]


line = st.text(st.characters(categories=["L", "Zs", "Po"], exclude_characters="<>{}&"), min_size=1)
line = line.map(lambda text: " ".join(text.split())).filter(lambda t: t and "-->" not in t)
spans = st.lists(
    st.tuples(st.integers(0, 400_000_000), st.integers(1, 20_000), st.lists(line, min_size=1)),
    min_size=1,
)


@settings(max_examples=25)
@given(spans)
def test_srt_as_the_srt_package_writes_it(made):
    """Times beyond 99 hours too."""
    written = [
        srt.Subtitle(
            i,
            datetime.timedelta(milliseconds=start),
            datetime.timedelta(milliseconds=start + length),
            "\n".join(lines),
        )
        for i, (start, length, lines) in enumerate(made, 1)
    ]
    text = srt.compose(written, reindex=False)
    wanted = [
        (s.start.total_seconds(), s.end.total_seconds(), " ".join(s.content.split()))
        for s in srt.parse(text)
    ]
    assert cues(parse_srt, text) == wanted


@settings(max_examples=25)
@given(spans)
def test_vtt_as_webvtt_reads_it(made):
    made = [(start % 300_000_000, length, lines) for start, length, lines in made]

    def stamp(ms):
        return (
            f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
        )

    text = "WEBVTT - made up\n\n" + "\n\n".join(
        f"{stamp(start)} --> {stamp(start + length)} align:start\n" + "\n".join(lines)
        for start, length, lines in made
    )
    wanted = [(c.start, c.end, " ".join(c.text.split())) for c in webvtt.from_string(text)]
    found = [(start, end, text) for start, end, text in cues(parse_vtt, text)]
    assert [text for *_, text in found] == [text for *_, text in wanted]
    for (start, end, _), (begin, stop, _) in zip(found, wanted, strict=True):
        for seconds, clock in ((start, begin), (end, stop)):
            hours, minutes, rest = clock.split(":")
            assert seconds == pytest.approx(3600 * int(hours) + 60 * int(minutes) + float(rest))


def test_srt_of_a_windows_editor():
    text = (
        "\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>Hello</i>,\r\n{\\an8}there.\r\n"
        "2\r\n00:00:03.000 --> 00:00:04.5\r\n\r\nafter a blank line\r\n\r\n"
        "00:00:05,000-->00:00:06,000\r\n<font color='red'>3</font> < 4\r\n"
    )
    assert cues(parse_srt, decoded(text.encode())) == [
        (1, 2.5, "Hello, there."),
        (3, 4.5, "after a blank line"),
        (5, 6, "3 < 4"),
    ]


def test_a_number_that_is_said_is_no_index():
    text = (
        "1\n00:00:01,000 --> 00:00:02,000\nHow many?\n42\n\n2\n00:00:02,000 --> 00:00:03,000\n7\n"
    )
    assert cues(parse_srt, text) == [(1, 2, "How many? 42"), (2, 3, "7")]


def test_vtt_with_notes_styles_names_voices_and_entities():
    text = (
        "WEBVTT Kind: captions\nLanguage: en\n\nNOTE\nnot said\n\nSTYLE\n::cue { color: red }\n\n"
        "intro\n00:01.000 --> 00:02.000 line:0 position:20%\n<v Anna B.>Tom &amp; <b>I</b></v>\n\n"
        "NOTE nor this\n\n1\n00:02.000 --> 00:03.000\n<v.loud Ben>No</v>\n<v Anna B.>Yes</v>\n"
    )
    one, two = parse_vtt(Transcript(text, "talk"))
    assert one == Segment(1, 2, "Tom & I", "Anna B.")
    assert (two.text, two.speaker) == ("No Yes", None)


def test_rolling_captions_give_each_word_once_and_its_time():
    text = """WEBVTT

00:00:00.000 --> 00:00:02.000 align:start position:0%
\x20
hello<00:00:00.500><c> my</c><00:00:01.000><c> friends</c>

00:00:02.000 --> 00:00:02.010 align:start position:0%
hello my friends
\x20

00:00:02.010 --> 00:00:04.000 align:start position:0%
hello my friends
and<00:00:02.900><c> goodbye</c>

00:00:04.000 --> 00:00:04.010 align:start position:0%
and goodbye
\x20
"""
    one, two = parse_vtt(Transcript(text, "talk"))
    assert (one.text, two.text) == ("hello my friends", "and goodbye")
    assert one.words == (("hello", 0, 0.5), ("my", 0.5, 1.0), ("friends", 1.0, 2.0))
    assert two.words == (("and", 2.01, 2.9), ("goodbye", 2.9, 4.0))


@pytest.mark.parametrize(
    ("parse", "text", "word"),
    [
        (parse_srt, "", "no line of times"),
        (parse_srt, "hello\n", "no line of times"),
        (parse_srt, "1\n00:00:01,000 --> soon\nhello\n", "no times"),
        (parse_vtt, "1\n00:00:01,000 --> 00:00:02,000\nhello\n", "WEBVTT"),
        (parse_srt, "1\n1.5 --> 2.5\nhello\n", "no time of the form"),
    ],
)
def test_what_is_no_subtitle_is_told(parse, text, word):
    with pytest.raises(ValueError, match=word):
        list(parse(Transcript(text, "talk")))


def test_another_encoding_is_told():
    with pytest.raises(ValueError, match="not UTF-8"):
        decoded("1\n00:00:01,000 --> 00:00:02,000\ncafé\n".encode("latin-1"))
