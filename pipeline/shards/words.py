"""The words of a clip and when each is said: what a sample's `.json` may tell under `words`.

    "words": [{"text": "hello", "start_s": 0.12, "end_s": 0.48}, …]

Times are seconds from the start of the clip. Both are null where whoever made them could not tell.
Words stand in the order of the text, and together they spell it: letters and digits are the same,
while case, blanks and punctuation may differ. More members in an entry are passed over.
"""

import math
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.foundation.progress import counted
from pipeline.foundation.units import SAMPLE_RATE_HZ, SAMPLES_PER_ENCODER_FRAME, Seconds
from pipeline.foundation.untrusted import is_unicode
from pipeline.shards.refusals import Reason, RefusedError

TOLERANCE: Seconds = SAMPLES_PER_ENCODER_FRAME / SAMPLE_RATE_HZ
"""So far, one position of the encoder, a time may lie outside the audio, as rounding makes it."""
SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Word:
    """A word as it is written, and when it is said."""

    text: str
    start_s: Seconds
    end_s: Seconds
    trusted: bool = True
    """Whether the time can be right. Words of others are left out of what is learnt."""

    def record(self) -> dict[str, Any]:
        """The word as a cache and its exports keep it."""
        return asdict(self)


def spelling(text: str) -> str:
    """Letters, marks and digits of a text, without case: what a text and its words share."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")


def words_of(record: Mapping[str, Any], text: str, duration_s: Seconds) -> tuple[Word, ...]:
    """Read the words that a sample's `.json` tells, and judge each one's time.

    A word is not trusted if its time is null, if it ends where it starts or before, if it lies
    more than `TOLERANCE` outside the audio, or if it runs backwards: it is not among the largest
    number of words whose starts do not fall. A null time becomes the gap between the neighbours.

    Args:
        record: the parsed `.json`.
        text: the transcript.
        duration_s: length of the clip.

    Returns:
        The words in the order of the text; none if the record tells none.

    Raises:
        RefusedError: `words` is not of this form, spells another text, or has no word whose time
            can be trusted.
    """
    told = record.get("words")
    if told is None:
        return ()
    if not isinstance(told, list):
        raise _unusable(f"words is {_shown(told)}, not a list")
    parsed = [_parsed(entry, number) for number, entry in enumerate(told, 1)]
    _check_text([name for name, _, _ in parsed], text)
    words = _judged(parsed, duration_s)
    if words and not any(word.trusted for word in words):
        first = told[0]
        raise _unusable(
            f"no time of its {counted(len(words), 'word')} can be right in {duration_s:.2f} s of "
            "audio; the "
            f"first runs from {_shown(first['start_s'])} to {_shown(first['end_s'])}"
        )
    return tuple(words)


def _parsed(entry: Any, number: int) -> tuple[str, Seconds | None, Seconds | None]:
    if not isinstance(entry, dict):
        raise _unusable(f"word {number} is {_shown(entry)}, not an object")
    missing = [name for name in ("text", "start_s", "end_s") if name not in entry]
    if missing:
        raise _unusable(f"word {number} has no {missing[0]}")
    text = entry["text"]
    if not isinstance(text, str) or not text.strip() or not is_unicode(text):
        raise _unusable(f"the text of word {number} is {_shown(text)}")
    start, end = (_seconds(entry[name], name, number) for name in ("start_s", "end_s"))
    if (start is None) != (end is None):
        raise _unusable(f"word {number} has one time; it needs both, or null for both")
    return text.strip(), start, end


def _seconds(value: Any, name: str, number: int) -> Seconds | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _unusable(f"{name} of word {number} is {_shown(value)}, not a number")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise _unusable(f"{name} of word {number} is not finite")
    return seconds


def _check_text(words: Sequence[str], text: str) -> None:
    """Refuse words that spell another text, with the first difference in the message."""
    if spelling("".join(words)) == spelling(text):
        return
    written = text.split()
    if len(written) != len(words):
        raise _unusable(f"the text has {counted(len(written), 'word')}, words has {len(words)}")
    pairs = zip(written, words, strict=True)
    place, (one, other) = next(
        (place, pair)
        for place, pair in enumerate(pairs, 1)
        if spelling(pair[0]) != spelling(pair[1])
    )
    raise _unusable(f"word {place} of the text is {_shown(one)}, of words {_shown(other)}")


def _judged(
    parsed: Sequence[tuple[str, Seconds | None, Seconds | None]], duration_s: Seconds
) -> list[Word]:
    words: list[Word | None] = [None] * len(parsed)
    for place, (text, start, end) in enumerate(parsed):
        if start is not None and end is not None:
            inside = start >= -TOLERANCE and end <= duration_s + TOLERANCE
            words[place] = Word(text, start, end, inside and start < end)
    places = [i for i, word in enumerate(words) if word is not None and word.trusted]
    in_order = {places[i] for i in _rising([parsed[i][1] or 0.0 for i in places])}
    before = 0.0
    for place, word in enumerate(words):
        if word is not None and word.trusted:
            within = replace(
                word, start_s=max(word.start_s, 0.0), end_s=min(word.end_s, duration_s)
            )
            fits = place in in_order and within.start_s < within.end_s
            words[place] = within if fits else replace(word, trusted=False)
            before = within.end_s if fits else before
        elif word is None:
            later = (w.start_s for i, w in enumerate(words[place:], place) if w and i in in_order)
            after = max(next(later, duration_s), before)
            words[place] = Word(parsed[place][0], before, after, trusted=False)
    return [word for word in words if word is not None]


def _rising(starts: Sequence[Seconds]) -> list[int]:
    """Places of a longest subsequence that never falls (patience sorting; Fredman 1975)."""
    tails: list[Seconds] = []
    tail_places: list[int] = []
    previous: list[int] = []
    for place, start in enumerate(starts):
        pile = bisect_right(tails, start)
        previous.append(tail_places[pile - 1] if pile else -1)
        tails[pile : pile + 1] = [start]
        tail_places[pile : pile + 1] = [place]
    places = []
    place = tail_places[-1] if tail_places else -1
    while place >= 0:
        places.append(place)
        place = previous[place]
    return places[::-1]


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "…"


def _unusable(detail: str) -> RefusedError:
    return RefusedError(Reason.UNUSABLE_WORDS, detail)
