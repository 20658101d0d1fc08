"""Segments: what is said, by whom, from when to when; joined where short, divided where long."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from pipeline.foundation.units import Seconds

PAUSE_SECONDS: Seconds = 0.5
"""Words without sentences are put together up to a pause of this length."""
ROUNDING_SECONDS: Seconds = 1e-6
MOST_WORDS = 2000
"""Of one clip; none that can be understood has so many."""
OVERLAP_SECONDS: Seconds = 0.1
"""Neighbours of one speaker may overlap by so much and still be joined: times are rounded."""


class TimedWord(NamedTuple):
    """A word and when it is said; both times are None where the file does not tell them."""

    text: str
    start_s: Seconds | None
    end_s: Seconds | None


@dataclass(frozen=True)
class Segment:
    """A part of a recording and what is said in it. Times count from the recording's start."""

    start_s: Seconds
    end_s: Seconds
    text: str
    speaker: str | None = None
    words: tuple[TimedWord, ...] = ()
    """Its words in order, if the file has them."""
    channel: int | None = None
    """The recording's channel it is said on, from 0; None if the file does not say."""
    key: str = ""
    """The file's own id of the segment, if it has one."""


@dataclass(frozen=True)
class Transcript:
    """The content of a file of times, and what is asked of it."""

    text: str
    recording: str
    """Name of the recording that is meant, without suffix; some formats list several."""
    tiers: tuple[str, ...] = ()
    """The tiers to read, of a format that has any; empty if the file is to decide."""


def utterances(words: Iterable[Segment], pause_s: Seconds = PAUSE_SECONDS) -> Iterator[Segment]:
    """Put the words of each speaker together, up to a pause; each word comes as a segment."""
    by_voice: dict[tuple[str | None, int | None], list[Segment]] = {}
    for word in words:
        by_voice.setdefault((word.speaker, word.channel), []).append(word)
    for spoken in by_voice.values():
        spoken.sort(key=lambda word: word.start_s)
        first = 0
        for place, (one, other) in enumerate(pairwise(spoken), start=1):
            if other.start_s - one.end_s > pause_s:
                yield _together(spoken[first:place])
                first = place
        yield _together(spoken[first:])


def joined(segments: Iterable[Segment], gap_s: Seconds, longest_s: Seconds) -> Iterator[Segment]:
    """Put neighbours of one speaker together, as long as they fit.

    Args:
        segments: in the order of their starts; another speaker's between two keeps them apart.
        gap_s: longest silence between two.
        longest_s: most that they may cover together.
    """
    group: list[Segment] = []
    for segment in segments:
        if group and not _fits(group, segment, gap_s, longest_s):
            yield _together(group)
            group = []
        group.append(segment)
    if group:
        yield _together(group)


def divided(segment: Segment, longest_s: Seconds) -> Iterator[Segment]:
    """Cut a segment that is too long between its words, where the pause is longest.

    It stays whole if it fits, or if no words with times tell where its text would have to be cut.
    """
    words = segment.words
    spans = _spans(segment)
    first, begin_s = 0, segment.start_s
    while segment.end_s - begin_s > longest_s + ROUNDING_SECONDS:
        cut = _cut(words, first, begin_s, longest_s)
        if cut is None:
            break
        text, part = _text_of(segment, spans, first, cut), words[first:cut]
        yield replace(segment, start_s=begin_s, end_s=_end(part[-1]), text=text, words=part, key="")
        first, begin_s = cut, _start(words[cut])
    if first == 0:
        yield segment
    else:
        text = _text_of(segment, spans, first, len(words))
        yield replace(segment, start_s=begin_s, text=text, words=words[first:], key="")


def _cut(
    words: Sequence[TimedWord], first: int, begin_s: Seconds, longest_s: Seconds
) -> int | None:
    """The word before which to cut: after the longest pause in the second half of what fits."""
    within, late = [], []
    for place in range(first + 1, min(len(words), first + MOST_WORDS)):
        before, after = words[place - 1], words[place]
        if before.end_s is None:
            continue
        length_s = before.end_s - begin_s
        if length_s > longest_s:
            break
        if after.start_s is not None and length_s > 0:
            within.append(place)
            if length_s >= longest_s / 2:
                late.append(place)
    candidates = late or within[-1:]
    return max(
        candidates, key=lambda place: _start(words[place]) - _end(words[place - 1]), default=None
    )


def _fits(group: Sequence[Segment], segment: Segment, gap_s: Seconds, longest_s: Seconds) -> bool:
    last = group[-1]
    silence_s = segment.start_s - last.end_s
    return (
        (last.speaker, last.channel) == (segment.speaker, segment.channel)
        and -OVERLAP_SECONDS <= silence_s <= gap_s + ROUNDING_SECONDS
        and segment.end_s - group[0].start_s <= longest_s + ROUNDING_SECONDS
    )


def _together(group: Sequence[Segment]) -> Segment:
    if len(group) == 1:
        return group[0]
    has_words = all(segment.words for segment in group)
    return replace(
        group[0],
        end_s=max(segment.end_s for segment in group),
        text=" ".join(segment.text.strip() for segment in group),
        words=tuple(word for segment in group for word in segment.words) if has_words else (),
        key="",
    )


def _spans(segment: Segment) -> list[tuple[int, int]] | None:
    """Where the words stand in the segment's text; None if they do not stand there in order."""
    spans, end = [], 0
    for word in segment.words:
        begin = segment.text.find(word.text, end)
        if begin < 0:
            return None
        end = begin + len(word.text)
        spans.append((begin, end))
    return spans


def _text_of(
    segment: Segment, spans: Sequence[tuple[int, int]] | None, first: int, stop: int
) -> str:
    """The text of some of a segment's words: a part of its text if they stand there in order."""
    if spans is None:
        return " ".join(word.text for word in segment.words[first:stop])
    begin = spans[first][0] if first else 0
    end = spans[stop - 1][1] if stop < len(spans) else len(segment.text)
    return segment.text[begin:end]


def _start(word: TimedWord) -> Seconds:
    return 0.0 if word.start_s is None else word.start_s


def _end(word: TimedWord) -> Seconds:
    return 0.0 if word.end_s is None else word.end_s
