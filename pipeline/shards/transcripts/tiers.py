"""Tiers of an annotation: which hold speech, which words, which something else."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pipeline.foundation.units import Seconds
from pipeline.shards.transcripts.segment import (
    Segment,
    TimedWord,
    utterances,
)

_WORDS = re.compile(r"(?:(.+?)[\s_-]+)?(?:words?|ort|mau[-_ ]?ort)", re.IGNORECASE)
_SOUNDS = re.compile(
    r"(?:.+?[\s_-]+)?(?:phones?|phonemes?|segments?|syllables?|mau|kan)", re.IGNORECASE
)
SILENCES = {"", "sil", "sp", "spn", "<eps>", "<sil>", "<p:>", "<usb>", "<nib>", "sil_b", "#"}
"""What forced aligners write in a tier of words where there is none."""


@dataclass
class Tier:
    """One layer of an annotation: its name, the speaker if one is told, and its intervals."""

    name: str
    intervals: list[tuple[Seconds, Seconds, str]] = field(default_factory=list)
    speaker: str | None = None


def segments_of_tiers(tiers: Sequence[Tier], names: Sequence[str]) -> Iterator[Segment]:
    """The segments of an annotation's tiers.

    Tiers called `words` and `phones` (or `anna - words`), as forced aligners call them, are known.
    Words are put beside the utterances that they lie in, or, if there are no utterances, put
    together up to a pause. Of the others one is taken; of several, those that are named.

    Args:
        tiers: the tiers with intervals.
        names: the tiers to read, of which each is a speaker's, or `all`; none, to find out.

    Raises:
        ValueError: there is no such tier, or several and none is named.
    """
    listed = ", ".join(repr(tier.name) for tier in tiers) or "none"
    words = [tier for tier in tiers if _WORDS.fullmatch(tier.name.strip())]
    sounds = [tier for tier in tiers if _SOUNDS.fullmatch(tier.name.strip())]
    speech = [tier for tier in tiers if tier not in words and tier not in sounds]
    if list(names) != ["all"] and names:
        absent = [name for name in names if name not in {tier.name for tier in tiers}]
        if len(absent) == len(names):
            raise ValueError(f"no tier {absent[0]!r}; its tiers are {listed}")
        speech = [tier for tier in tiers if tier.name in names and tier not in words]
        words = words if speech else [tier for tier in words if tier.name in names]
    elif not names and len(speech) > 1 and not _all_speakers(speech):
        raise ValueError(f"several tiers ({listed}); name those of speech with --tier, or all")
    if not speech and not words:
        raise ValueError(f"no tier of speech; its tiers are {listed}")
    spoken = [word for tier in words for word in _words(tier)]
    if not speech:
        yield from utterances(spoken)
        return
    spoken.sort(key=_middle)
    for tier in speech:
        speaker = tier.speaker or (tier.name if len(speech) > 1 else None)
        for start_s, end_s, text in tier.intervals:
            if text.strip():
                segment = Segment(start_s, end_s, " ".join(text.split()), speaker)
                yield replace(segment, words=_within(segment, spoken, several=len(speech) > 1))


def _all_speakers(tiers: Sequence[Tier]) -> bool:
    """Whether each tier is told to be another speaker's."""
    speakers = {tier.speaker for tier in tiers}
    return None not in speakers and len(speakers) == len(tiers)


def _words(tier: Tier) -> Iterator[Segment]:
    match = _WORDS.fullmatch(tier.name.strip())
    speaker = tier.speaker or (match[1] if match else None)
    for start_s, end_s, text in tier.intervals:
        word = text.strip()
        if word.lower() not in SILENCES:
            yield Segment(start_s, end_s, word, speaker, (TimedWord(word, start_s, end_s),))


def _within(segment: Segment, words: Sequence[Segment], *, several: bool) -> tuple[TimedWord, ...]:
    """The words whose middles lie in a segment, of its own speaker if there are several.

    `words` are in the order of their middles.
    """
    first = bisect_left(words, segment.start_s, key=_middle)
    stop = bisect_left(words, segment.end_s, key=_middle)
    return tuple(
        timed
        for word in words[first:stop]
        if not several or word.speaker == segment.speaker
        for timed in word.words
    )


def _middle(segment: Segment) -> Seconds:
    return (segment.start_s + segment.end_s) / 2
