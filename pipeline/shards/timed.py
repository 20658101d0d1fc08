"""Recordings with a file of times beside them, as entries of at most a clip's length."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from pipeline.foundation.units import CLIP_SECONDS, Seconds
from pipeline.shards.asked import JOIN, TIER
from pipeline.shards.recordings import CONVERTED_SUFFIXES, DECODED_SUFFIXES, Entry
from pipeline.shards.refusals import Reason, Refusal
from pipeline.shards.transcripts import nist
from pipeline.shards.transcripts.formats import Siblings, read_times
from pipeline.shards.transcripts.segment import Segment, TimedWord, Transcript, divided, joined

_NUMBERED_SPEAKER = re.compile(r"(?:speaker|spk)[_ -]?\d+", re.IGNORECASE)
OVERLAP = "segments that another speaker overlaps, so that both are heard"
TURN_LINES = "the .txt has {lines} lines, and the RTTM {turns} turns; a line per turn was expected"


@dataclass(frozen=True)
class Cutting:
    """How recordings with times become clips."""

    tiers: tuple[str, ...] = ()
    """Tiers of a TextGrid or of ELAN that hold speech."""
    join_s: Seconds | None = None
    """Longest silence between two segments that are put together; None to leave all as they are."""
    longest_s: Seconds = CLIP_SECONDS


@dataclass
class Notes:
    """What was met while reading, for the user to see. Each reading of a source counts anew."""

    formats: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    used: set[str] = field(default_factory=set)
    """Files that were read beside those that entries name."""
    heeded: set[str] = field(default_factory=set)
    """Flags that have had something to say, of those that not every corpus of a layout heeds."""

    def clear(self) -> None:
        """Begin to count from nothing."""
        self.formats.clear()
        self.others.clear()
        self.used.clear()
        self.heeded.clear()

    def lines(self) -> list[str]:
        """The counts, as lines for the user."""
        read = ", ".join(f"{count:,} of {name}" for name, count in self.formats.most_common())
        lines = [f"files of times: {read}"] if read else []
        return lines + [f"{what}: {count:,}" for what, count in self.others.most_common() if count]


class TimedFolder:
    """Finds and reads the files of times beside recordings."""

    def __init__(self, cutting: Cutting, notes: Notes) -> None:
        self._cutting, self._notes = cutting, notes
        self._folder: Path | None = None
        self._siblings = Siblings(())

    def entries(self, key: str, path: Path) -> Iterator[Entry | Refusal] | None:
        """The entries of one recording; None if no file beside it tells times."""
        siblings = self._siblings_of(path)
        for name, form in siblings.times_of(path.stem):
            file = path.with_name(name)
            try:
                transcript = Transcript(read_times(file), path.stem, self._cutting.tiers)
                segments = form.parse(transcript)
                found = None if segments is None else list(segments)
                if found is None:
                    continue
                found = self._with_turns(found, path, siblings)
            except ValueError as error:
                if name.lower().endswith(".txt"):
                    continue  # whoever reads it as a plain text says what is wrong with it
                detail = f"{form.name}: {error}"
                return iter([Refusal(Reason.UNUSABLE_TIMES, detail, key, where=str(file))])
            self._notes.formats[form.name] += 1
            if form.has_tiers:
                self._notes.heeded.add(TIER)
            return self._entries(key, path, found, file)
        return self._turns_and_lines(key, path, siblings)

    def exist_beside(self, path: Path) -> bool:
        """Whether a file beside a recording tells times, as far as its suffix and form say."""
        for name, form in self._siblings_of(path).times_of(path.stem):
            try:
                transcript = Transcript(read_times(path.with_name(name)), path.stem)
                if form.parse(transcript) is not None:
                    return True
            except ValueError:
                if not name.lower().endswith((".json", ".txt")):
                    return True
        return False

    def is_film_of(self, path: Path) -> bool:
        """Whether a film has its sound beside it, in a format that needs no ffmpeg."""
        if path.suffix.lower() not in CONVERTED_SUFFIXES:
            return False
        beside = self._siblings_of(path).beside
        return any(beside(path.stem, suffix) for suffix in DECODED_SUFFIXES)

    def _siblings_of(self, path: Path) -> Siblings:
        if path.parent != self._folder:
            self._folder = path.parent
            self._siblings = Siblings(entry.name for entry in path.parent.iterdir())
        return self._siblings

    def _with_turns(self, segments: list[Segment], path: Path, siblings: Siblings) -> list[Segment]:
        """Segments without speakers take them from an RTTM beside the recording."""
        name = siblings.beside(path.stem, ".rttm")
        if name is None or all(segment.speaker for segment in segments):
            return segments
        text = read_times(path.with_name(name))
        return nist.with_speakers(segments, nist.turns(Transcript(text, path.stem)))

    def _turns_and_lines(
        self, key: str, path: Path, siblings: Siblings
    ) -> Iterator[Entry | Refusal] | None:
        """An RTTM with a plain text that has one line per turn; a single line is the whole text."""
        name, plain = siblings.beside(path.stem, ".rttm"), siblings.beside(path.stem, ".txt")
        if name is None or plain is None:
            return None
        file = path.with_name(name)
        try:
            turns = nist.turns(Transcript(read_times(file), path.stem))
            lines = [line for line in read_times(path.with_name(plain)).split("\n") if line.strip()]
            if len(lines) == 1 and len(turns) > 1:
                return None  # the text of the whole recording
            if len(lines) != len(turns):
                raise ValueError(TURN_LINES.format(lines=len(lines), turns=len(turns)))
        except ValueError as error:
            return iter([Refusal(Reason.UNUSABLE_TIMES, f"RTTM: {error}", key, where=str(file))])
        self._notes.formats["RTTM with a text"] += 1
        segments = [
            Segment(turn.start_s, turn.end_s, line, turn.speaker)
            for turn, line in zip(turns, lines, strict=True)
        ]
        return self._entries(key, path, segments, file)

    def _entries(
        self, key: str, path: Path, segments: list[Segment], file: Path
    ) -> Iterator[Entry | Refusal]:
        own = [replace(segment, speaker=_own(segment.speaker, key)) for segment in segments]
        return entries_of(key, path, own, str(file), self._cutting, self._notes)


def entries_of(
    key: str,
    path: Path,
    segments: Iterable[Segment],
    where: str,
    cutting: Cutting,
    notes: Notes,
) -> Iterator[Entry | Refusal]:
    """The entries of one recording from its segments, in the order of their starts.

    Segments without text are left out. With `join_s` short neighbours are put together; segments
    over `longest_s` are divided between words, if they have words with times.

    Args:
        key: the recording's key, from which those of its entries are made.
        path: the recording.
        segments: in any order.
        where: the file they come from, for messages.
        cutting: how to join and divide.
        notes: counts what is worth knowing.
    """
    spoken = sorted(
        (segment for segment in segments if segment.text.strip()),
        key=lambda segment: (segment.start_s, segment.end_s),
    )
    if not spoken:
        return iter([Refusal(Reason.MISSING_TEXT, "no segment has a text", key, where=where)])
    overlapping = _overlapping(spoken)
    if overlapping:
        notes.others[OVERLAP] += overlapping
    parts: Iterator[Segment] = chain.from_iterable(
        divided(segment, cutting.longest_s) for segment in spoken
    )
    notes.heeded.add(JOIN)
    if cutting.join_s is not None:
        parts = joined(parts, cutting.join_s, cutting.longest_s)
    return _entries(key, path, list(parts), where)


def _entries(
    key: str, path: Path, segments: Sequence[Segment], where: str
) -> Iterator[Entry | Refusal]:
    keys: Counter[str] = Counter()
    for segment in segments:
        name = segment.key or f"{key}_{segment.start_s:.3f}_{segment.end_s:.3f}"
        keys[name] += 1
        if keys[name] > 1 and not segment.key:  # two speakers at the same time
            name = f"{name}_{keys[name]}"
        yield Entry(
            key=name,
            path=path,
            text=segment.text,
            speaker=segment.speaker,
            recording=key,
            where=f"{where}, {segment.start_s:.3f} s",
            start_s=segment.start_s,
            end_s=segment.end_s,
            words=tuple(_shifted(word, segment.start_s) for word in segment.words),
            channel=segment.channel,
        )


def _shifted(word: TimedWord, start_s: Seconds) -> TimedWord:
    if word.start_s is None or word.end_s is None:
        return word
    return TimedWord(word.text, round(word.start_s - start_s, 6), round(word.end_s - start_s, 6))


def _own(speaker: str | None, key: str) -> str | None:
    """A diarizer numbers the speakers of each recording anew, so the number alone is no name."""
    if speaker is not None and _NUMBERED_SPEAKER.fullmatch(speaker):
        return f"{key}/{speaker}"
    return speaker


def _overlapping(segments: Sequence[Segment]) -> int:
    """How many segments begin before another speaker's has ended, by more than a rounding."""
    count, latest = 0, dict[tuple[str | None, int | None], Seconds]()
    for segment in segments:
        voice = (segment.speaker, segment.channel)
        others = (end_s for other, end_s in latest.items() if other[0] != voice[0])
        count += max(others, default=0.0) - segment.start_s > 0.1
        latest[voice] = max(segment.end_s, latest.get(voice, 0.0))
    return count
