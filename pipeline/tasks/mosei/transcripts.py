"""Texts for the labelled segments of recordings, from timed words or timed transcripts.

CMU-MOSEI has labels and texts in separate files: the label file names a video, a start and an
end. Timed words are cut by the SDK's rule: a word belongs to each segment that it overlaps by more
than 1e-5 s. Rows of a transcript are matched by start and end, never by their running number,
because the two files number them differently.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.untrusted import check_size
from pipeline.tasks.mosei.clips import MoseiClip

OVERLAP_SECONDS = 1e-5
SAME_TIME_SECONDS = 2e-3
PAUSE = "sp"


@dataclass(frozen=True)
class Timed:
    """A word, or a row of a transcript, with its time in the recording."""

    start_s: float
    end_s: float
    text: str


Transcript: TypeAlias = Sequence[Timed]


def cut_words(words: Transcript, start_s: float, end_s: float) -> str:
    """The words of a segment in order of time, without pauses."""
    inside = (
        word
        for word in words
        if min(word.end_s, end_s) - max(word.start_s, start_s) > OVERLAP_SECONDS
    )
    return " ".join(w.text for w in sorted(inside, key=lambda w: w.start_s) if w.text != PAUSE)


def find_row(rows: Transcript, start_s: float, end_s: float) -> str:
    """The text of the row with this start and end; empty if there is none."""
    for row in rows:
        if (
            abs(row.start_s - start_s) <= SAME_TIME_SECONDS
            and abs(row.end_s - end_s) <= SAME_TIME_SECONDS
        ):
            return row.text
    return ""


@dataclass(frozen=True)
class Texts:
    """Where the texts of a label file come from.

    Attributes:
        of_video: gives the timed words or rows of a video; None if it has none.
        find: finds the text of a segment among them.
        source: where they come from, for messages.
    """

    of_video: Callable[[str], Transcript | None]
    find: Callable[[Transcript, float, float], str]
    source: str


def with_texts(segments: Iterable[MoseiClip], texts: Texts, notes: Counter[str]) -> list[MoseiClip]:
    """Give each labelled segment its text; leave out and count segments without one."""
    clips: list[MoseiClip] = []
    for segment in segments:
        transcript = texts.of_video(segment.video_id)
        if transcript is None:
            notes["segments of videos without transcript, left out"] += 1
            continue
        text = texts.find(transcript, segment.start_s, segment.end_s)
        if not text.strip():
            notes["segments that no text matches, left out"] += 1
            continue
        clips.append(replace(segment, text=text))
    return clips


def timed_rows(clips: Iterable[MoseiClip]) -> dict[str, list[Timed]]:
    """Texts of the clips with known times, by video."""
    rows: dict[str, list[Timed]] = {}
    for clip in clips:
        if not (math.isnan(clip.start_s) or math.isnan(clip.end_s)):
            timed = Timed(clip.start_s, clip.end_s, clip.text)
            rows.setdefault(clip.video_id, []).append(timed)
    return rows


def transcript_folder(path: Path) -> Path | None:
    """The folder of raw transcripts at `path` or below it, by the SDK's layout."""
    for below in ("", "Combined", "Segmented/Combined", "Transcript/Segmented/Combined"):
        for top in (path, path / "Raw"):
            if next((top / below).glob("*.txt"), None):
                return top / below
    return None


def read_transcript(path: Path, notes: Counter[str]) -> list[Timed]:
    """Read a raw transcript: lines `video___number___start___end___text`.

    Video ids may contain underscores and texts may contain `___`; the real files have both.

    Raises:
        SpeechkdError: a line does not have that form.
    """
    rows = []
    check_size(str(path), path.stat().st_size)
    content = path.read_bytes().decode("utf-8", "replace")
    if "\ufffd" in content:
        notes["transcripts that are not UTF-8, odd characters replaced"] += 1
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        parts = line.removeprefix(f"{path.stem}___").split("___", 3)
        try:
            _, start, end, text = parts
            rows.append(Timed(float(start), float(end), text.strip()))
        except ValueError:
            raise SpeechkdError(
                f"{path}, line {number}: {line[:80]!r} is not video___number___start___end___text."
            ) from None
    return rows
