"""NIST's line formats: STM (sentences), CTM (words) and RTTM (who speaks when).

Source: the documentation of sclite in SCTK (STM, CTM) and the RT-09 evaluation plan (RTTM). One
file may list several recordings.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from pipeline.shards.transcripts.numbers import seconds
from pipeline.shards.transcripts.segment import Segment, TimedWord, Transcript, utterances

_LABEL = re.compile(r"<[^<>\s]*>\s*")
NOT_SPEECH = {"ignore_time_segment_in_scoring", "inter_segment_gap", "excluded_region"}
NO_SPEAKER = {"", "<NA>", "<na>", "unknown", "UNKNOWN"}

Listed = tuple[str, Segment]
"""The name of a recording, and a segment of it."""


def listed_stm(text: str) -> Iterator[Listed]:
    """Lines `recording channel speaker start end [<labels>] text`; what is not scored is left out.

    Raises:
        ValueError: a line has too few fields, or a time is no number.
    """
    for number, line in _lines(text):
        cells = line.split(maxsplit=5)
        if len(cells) < 5:
            raise ValueError(f"line {number} has {len(cells)} fields; STM has at least 5")
        recording, channel, speaker, start, end = cells[:5]
        said = cells[5] if len(cells) > 5 else ""
        label = _LABEL.match(said)
        said = said[label.end() :] if label else said
        if said.strip().lower() not in NOT_SPEECH and speaker not in NOT_SPEECH:
            times = _times(number, start, end)
            yield recording, Segment(*times, said, _speaker(speaker), channel=_channel(channel))


def listed_ctm(text: str) -> Iterator[Listed]:
    """Lines `recording channel start duration word`, each a word; of alternatives the first.

    Raises:
        ValueError: as `listed_stm`.
    """
    is_other = False
    for number, line in _lines(text):
        cells = line.split()
        if len(cells) < 5:
            raise ValueError(f"line {number} has {len(cells)} fields; CTM has at least 5")
        recording, channel, start, length, word = cells[:5]
        if word.upper().startswith("<ALT"):
            is_other = word.upper() == "<ALT>"
            continue
        if not is_other and word not in ("<eps>", "@"):
            begin_s, length_s = _times(number, start, length)
            end_s = begin_s + length_s
            words = (TimedWord(word, begin_s, end_s),)
            yield recording, Segment(begin_s, end_s, word, None, words, _channel(channel))


def listed_rttm(text: str) -> Iterator[Listed]:
    """The turns of speakers (without text), and words (LEXEME lines) if there are any.

    Raises:
        ValueError: as `listed_stm`.
    """
    for number, line in _lines(text):
        cells = line.split()
        if cells[0] not in ("SPEAKER", "LEXEME"):
            continue
        if len(cells) < 8:
            raise ValueError(f"line {number} has {len(cells)} fields; RTTM has at least 8")
        begin_s, length_s = _times(number, cells[3], cells[4])
        word = "" if cells[0] == "SPEAKER" else cells[5]
        words = (TimedWord(word, begin_s, begin_s + length_s),) if word else ()
        speaker, channel = _speaker(cells[7]), _channel(cells[2])
        yield cells[1], Segment(begin_s, begin_s + length_s, word, speaker, words, channel)


def parse_stm(transcript: Transcript) -> Iterator[Segment]:
    """The sentences of one recording.

    Raises:
        ValueError: a line is broken, or none is of this recording.
    """
    return iter(_of(transcript, list(listed_stm(transcript.text))))


def parse_ctm(transcript: Transcript) -> Iterator[Segment]:
    """The words of one recording, put together up to a pause.

    Raises:
        ValueError: as `parse_stm`.
    """
    return utterances(_of(transcript, list(listed_ctm(transcript.text))))


def parse_rttm(transcript: Transcript) -> Iterator[Segment] | None:
    """The words of one recording, put together up to a pause; None if it tells no words.

    Raises:
        ValueError: as `parse_stm`.
    """
    words = [(name, segment) for name, segment in listed_rttm(transcript.text) if segment.text]
    return utterances(_of(transcript, words)) if words else None


def turns(transcript: Transcript) -> list[Segment]:
    """Who speaks when in one recording, according to an RTTM, in the order of the starts.

    Raises:
        ValueError: as `parse_stm`.
    """
    found = [(name, turn) for name, turn in listed_rttm(transcript.text) if not turn.text]
    return sorted(_of(transcript, found), key=lambda turn: turn.start_s)


def with_speakers(segments: list[Segment], turns: list[Segment]) -> list[Segment]:
    """Give each segment without a speaker the one whose turns cover most of it."""
    named = []
    for segment in segments:
        covered: dict[str, float] = {}
        for turn in turns:
            shared = min(turn.end_s, segment.end_s) - max(turn.start_s, segment.start_s)
            if shared > 0 and turn.speaker:
                covered[turn.speaker] = covered.get(turn.speaker, 0.0) + shared
        speaker = segment.speaker or (max(covered, key=covered.__getitem__) if covered else None)
        named.append(replace(segment, speaker=speaker))
    return named


def _of(transcript: Transcript, listed: list[Listed]) -> list[Segment]:
    """The segments of the recording that is meant."""
    own = [segment for name, segment in listed if name == transcript.recording]
    if listed and not own:
        raise ValueError(
            f"it lists the recording {listed[0][0]!r:.60} and not {transcript.recording!r:.60}"
        )
    return own


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.startswith((";;", "#")):
            yield number, line.strip()


def _times(number: int, *cells: str) -> tuple[float, float]:
    try:
        one, other = (seconds(cell, "a time") for cell in cells)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
    return one, other


def _speaker(name: str) -> str | None:
    return None if name in NO_SPEAKER else name


def _channel(name: str) -> int | None:
    """Channels are counted from 1 or named A and B; a recording of one channel is told as 1 or A.

    So the first channel says nothing of itself; the caller looks whether there is a second one.
    """
    name = name.upper()
    return "AB".index(name) if name in ("A", "B") else int(name) - 1 if name in ("1", "2") else None
