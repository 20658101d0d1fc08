"""Praat's TextGrid, long and short form (Praat manual, "TextGrid file formats").

Only strings, numbers and flags count in either form, so one reader takes both.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.shards.transcripts.numbers import seconds
from pipeline.shards.transcripts.segment import Segment, Transcript
from pipeline.shards.transcripts.tiers import Tier, segments_of_tiers

_TOKEN = re.compile(r'"((?:[^"]|"")*+)"|(?<!\S)([-+]?\d[^\s"]*)(?!\S)|<(\w+)>')


def parse(transcript: Transcript) -> Iterator[Segment]:
    """The intervals with text of the tiers that hold speech (`tiers.segments_of_tiers`).

    Raises:
        ValueError: it is no TextGrid in text form, it ends too early, or nothing says which of
            its tiers are meant.
    """
    return segments_of_tiers(list(_tiers(transcript.text)), transcript.tiers)


@dataclass
class _Tokens:
    """The strings, numbers and flags of a file, one after the other."""

    matches: Iterator[re.Match[str]]

    def string(self) -> str:
        return self._next(1).replace('""', '"')

    def number(self) -> float:
        return seconds(self._next(2), "a number")

    def flag(self) -> str:
        return self._next(3)

    def _next(self, kind: int) -> str:
        for match in self.matches:
            if match[kind] is None:
                wanted = ("a text", "a number", "a flag")[kind - 1]
                raise ValueError(f"{match[0]!r:.40} stands where {wanted} was expected")
            return match[kind]
        raise ValueError("it ends too early")


def _tiers(text: str) -> Iterator[Tier]:
    if text.count('"') % 2:
        raise ValueError("a quotation mark is not closed")
    tokens = _Tokens(_TOKEN.finditer(text))
    if not tokens.string().startswith("ooTextFile") or tokens.string() != "TextGrid":
        raise ValueError('it does not begin with "ooTextFile" and "TextGrid"')
    tokens.number(), tokens.number()
    if tokens.flag() != "exists":
        return
    for _ in range(int(tokens.number())):
        kind, name = tokens.string(), tokens.string()
        tokens.number(), tokens.number()
        count = int(tokens.number())
        tier = Tier(name)
        for _ in range(count):
            start_s = tokens.number()
            if kind == "IntervalTier":
                interval = (start_s, tokens.number(), tokens.string())
                tier.intervals.append(interval)
            else:  # a tier of points has no lengths
                tokens.string()
        if kind == "IntervalTier":
            yield tier
