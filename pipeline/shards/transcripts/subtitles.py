"""Subtitles: SubRip (.srt) and WebVTT (.vtt, https://www.w3.org/TR/webvtt1/)."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.foundation.units import Seconds
from pipeline.shards.transcripts.numbers import clock
from pipeline.shards.transcripts.segment import Segment, TimedWord, Transcript

_TIMES = re.compile(r"\s*([\d:.,]+)\s*-->\s*([\d:.,]+)(?:\s.*)?")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}|</?[\d:.]+>")
_STAMP = re.compile(r"<([\d:.]+)>")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^<>]+)>")
TOUCHING_SECONDS: Seconds = 0.05


@dataclass
class _Cue:
    start_s: Seconds
    end_s: Seconds
    lines: list[str] = field(default_factory=list)


def parse_srt(transcript: Transcript) -> Iterator[Segment]:
    """The cues of SubRip; tags of style are left out. A blank line may stand within a text.

    Raises:
        ValueError: a time has another form, or there is no cue.
    """
    for cue in _cues(transcript.text, blank_ends=False):
        yield Segment(cue.start_s, cue.end_s, _plain(" ".join(cue.lines)))


def parse_vtt(transcript: Transcript) -> Iterator[Segment]:
    """The cues of WebVTT, with their voices as speakers.

    Automatic captions that roll (each cue repeats the line before it, and times stand within the
    text) give each line once, with the times of its words.

    Raises:
        ValueError: the first line is not WEBVTT, a time has another form, or there is no cue.
    """
    if not transcript.text.startswith("WEBVTT"):
        raise ValueError("its first line is not WEBVTT")
    cues = list(_cues(transcript.text, blank_ends=True))
    if any(_STAMP.search(line) for cue in cues for line in cue.lines):
        yield from _rolling(cues)
        return
    for cue in cues:
        text = "\n".join(cue.lines)
        voices = {html.unescape(name).strip() for name in _VOICE.findall(text)}
        speaker = voices.pop() if len(voices) == 1 else None
        yield Segment(cue.start_s, cue.end_s, html.unescape(_plain(text)), speaker)


def _cues(text: str, *, blank_ends: bool) -> Iterator[_Cue]:
    """The cues of a file; the line before a cue's times, after a blank one, is its name."""
    cue: _Cue | None = None
    name = ""  # a line that may turn out to be the name of the next cue
    after_blank, any_cue = True, False
    for line in text.split("\n"):
        is_blank = not (line if blank_ends else line.strip())  # in WebVTT a space is a line
        match = _TIMES.fullmatch(line)
        if match:
            if cue is not None:
                if not name and cue.lines and cue.lines[-1].strip().isdecimal():
                    cue.lines.pop()  # no blank line stands before the number
                yield cue
            cue, name, any_cue = _Cue(clock(match[1]), clock(match[2])), "", True
        elif "-->" in line:
            raise ValueError(f"the line {line.strip()!r:.60} has no times of the form 00:00:00,000")
        elif is_blank:
            if name and cue is not None:
                cue.lines.append(name)
            name = ""
            if blank_ends and cue is not None:
                yield cue
                cue = None
        elif after_blank and cue is not None:
            name = line
        elif cue is not None:
            if name:
                cue.lines.append(name)
                name = ""
            cue.lines.append(line)
        after_blank = is_blank
    if cue is not None:
        cue.lines += [name] if name else []
        yield cue
    if not any_cue:
        raise ValueError("it has no line of times (00:00:00,000 --> 00:00:00,000)")


def _rolling(cues: list[_Cue]) -> Iterator[Segment]:
    before: _Cue | None = None
    shown: list[str] = []
    for cue in cues:
        touches = before is not None and cue.start_s - before.end_s <= TOUCHING_SECONDS
        lines = [line for line in cue.lines if line.strip()]
        while touches and lines and html.unescape(_plain(lines[0])) in shown:
            lines.pop(0)
        shown = [html.unescape(_plain(line)) for line in cue.lines if line.strip()]
        before = cue
        text = html.unescape(_plain(" ".join(lines)))
        if text:
            yield Segment(cue.start_s, cue.end_s, text, None, _words(cue, " ".join(lines)))


def _words(cue: _Cue, text: str) -> tuple[TimedWord, ...]:
    """Words of a cue with times in its text; each runs up to the next one's start."""
    pieces = _STAMP.split(text)  # text, time, text, time, …
    if len(pieces) == 1:
        return ()
    starts = [cue.start_s, *map(clock, pieces[1::2])]
    words = []
    for start_s, stop_s, piece in zip(starts, [*starts[1:], cue.end_s], pieces[::2], strict=True):
        spoken = html.unescape(_plain(piece)).split()
        times = (start_s, stop_s) if len(spoken) == 1 else (None, None)
        words += [TimedWord(word, *times) for word in spoken]
    return tuple(words)


def _plain(text: str) -> str:
    return " ".join(_TAG.sub("", text).split())
