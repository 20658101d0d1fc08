"""Which columns of a table are the times of segments, in which unit, and which only look so.

A start that is taken for an end gives wrong audio and no error. So whatever is doubtful is refused,
and the message names the flags that settle it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import Seconds
from pipeline.shards.transcripts.numbers import clock, seconds

Role: TypeAlias = Literal["start", "end", "duration"]
ROLES: tuple[Role, ...] = ("start", "end", "duration")
NONE = "none"
"""In place of a column's name: there is no such column, whatever its names look like."""

STARTS = {"start", "starts", "begin", "begins", "beginning", "onset", "tmin", "xmin", "t0", "from"}
ENDS = {"end", "ends", "ending", "stop", "stops", "finish", "tmax", "xmax", "t1", "to"}
DURATIONS = {"duration", "dur"}
EITHER = {"offset"}
"""NeMo's start; the end where there is an onset."""
PAIRS = {"from": "to", "to": "from"}
"""Words that are times only together."""
UNITS: dict[str, Seconds] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), 1e-3),
}
FILLERS = {
    *("time", "times", "timestamp", "stamp", "timecode", "at", "in", "of"),
    *("segment", "seg", "clip", "utt", "utterance", "audio", "speech", "sentence", "chunk", "wav"),
}
SUSPECTS = (STARTS | ENDS | EITHER | {"time", "times", "timestamp", "timestamps", "timecode"}) - {
    *PAIRS
}
RUN_TOGETHER = re.compile(
    r"(time|t)?(start|begin|onset|offset|end|stop|dur|duration)(time|timestamp)?"
    r"(s|sec|secs|seconds|ms|msec|millis)?"
)
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+[0-9]*|[0-9]+")
SPOKEN_UNITS = re.compile(r"(.*\d)\s*(s|sec|ms)", re.IGNORECASE)


@dataclass(frozen=True)
class _Name:
    """A column's name, as far as it speaks of times."""

    column: str
    word: str
    """The word that says which time it is; "" if none is certain."""
    is_suspect: bool

    def is_one_of(self, words: set[str]) -> bool:
        return self.word in words


def unit_of(column: str) -> Seconds:
    """Seconds of one unit of a column of times: those that its name says, or 1."""
    return next((UNITS[word] for word in _words(column) if word in UNITS), 1.0)


def time_of(cell: str, column: str) -> Seconds | None:
    """The time in a cell, in seconds; None for an empty one.

    It is a number in the column's unit (`unit_of`), with its own (`1500 ms`), or a clock's time
    (`00:01:02.5`). A decimal comma counts as a point.

    Raises:
        ValueError: it is none of these.
    """
    cell = cell.strip()
    if not cell:
        return None
    if ":" in cell:
        return clock(cell)
    unit, with_unit = unit_of(column), SPOKEN_UNITS.fullmatch(cell)
    if with_unit:
        cell, unit = with_unit[1], UNITS[with_unit[2].lower()]
    return seconds(cell, "the time") * unit


def choose_times(
    where: str, columns: Sequence[str], named: Mapping[Role, str], taken: set[str]
) -> dict[Role, str]:
    """The column of each time of a table.

    Args:
        where: the table, for messages.
        columns: all its columns.
        named: those that the user named, `none` among them; "" for those to be guessed.
        taken: columns that are something else.

    Returns:
        Columns by role; durations only where starts have no ends, because beside both they only
        repeat, and beside neither they are the length of the whole recording.

    Raises:
        SpeechkdError: what is found does not say where a segment begins and ends, or a column
            that looks like a time would not be used.
    """
    free = [_read(name) for name in columns if name not in taken and name not in named.values()]
    chosen: dict[Role, str] = {
        role: column
        for role, column in named.items()
        if column and (column != NONE or column in columns)
    }
    off = {role for role, column in named.items() if column == NONE and column not in columns}
    guessed = _guesses(where, free, chosen, off)
    chosen |= guessed
    if "end" in chosen and "start" not in chosen and "start" not in off:
        raise SpeechkdError(
            f"{where}: the column {chosen['end']!r} is an end, and no column is known for the "
            f"start of a segment{_among(columns)}. Name it with --start-column; or, if each row is "
            "a whole recording, say --start-column none."
        )
    if "start" in chosen and not {"end", "duration"} & {*chosen, *off}:
        raise SpeechkdError(
            f"{where}: the column {chosen['start']!r} is a start, and no column is known for the "
            f"end or the length of a segment{_among(columns)}. Name it with --end-column or "
            "--duration-column; say --end-column none if segments end where their recordings do, "
            "or --start-column none if each row is a whole recording."
        )
    if not any(named.values()):
        _refuse_unused(where, free, chosen)
    if not named.get("duration") and ("start" not in chosen or "end" in chosen):
        chosen.pop("duration", None)
    return chosen


def _guesses(
    where: str, free: Sequence[_Name], chosen: dict[Role, str], off: set[Role]
) -> dict[Role, str]:
    words = {name.word for name in free}
    paired = [name for name in free if PAIRS.get(name.word, name.word) in words]
    guessed: dict[Role, str] = {}
    starts = [name for name in paired if name.is_one_of(STARTS)]
    ends = [name for name in paired if name.is_one_of(ENDS)]
    offsets = [name for name in free if name.is_one_of(EITHER)]
    durations = [name for name in free if name.is_one_of(DURATIONS)]
    if any(name.word == "onset" for name in starts) or (
        "start" in chosen and _read(chosen["start"]).word == "onset"
    ):
        ends += offsets
    elif not starts and "start" not in {*chosen, *off}:
        starts = offsets
    for role, candidates in zip(ROLES, (starts, ends, durations), strict=True):
        if role in chosen or role in off or "start" in off or not candidates:
            continue  # without a start, nothing but a name makes another column a time
        if len(candidates) > 1 and role != "duration":
            several = " and ".join(repr(name.column) for name in candidates)
            raise SpeechkdError(
                f"{where}: {several} could each be the {role} of a segment. Say which, with "
                f"--{role}-column."
            )
        guessed[role] = candidates[0].column
    return guessed


def _refuse_unused(where: str, free: Sequence[_Name], chosen: dict[Role, str]) -> None:
    """Refuse a column that looks like a time, if nothing uses it and the user named none."""
    used = set(chosen.values())
    rest = [name for name in free if name.column not in used]
    if "start" in chosen:
        doubtful = [name for name in rest if name.word and not name.is_one_of(DURATIONS)]
    else:
        doubtful = [name for name in rest if name.is_suspect]
    doubtful = [name for name in doubtful if name.word not in PAIRS]
    if not doubtful:
        return
    times = ", ".join(f"{role} from {column!r}" for role, column in chosen.items())
    settled = " ".join(f"--{role}-column {column!r}" for role, column in chosen.items())
    raise SpeechkdError(
        f"{where}: the column {doubtful[0].column!r} looks like a time, and nothing would use it "
        f"({times or 'each row would be a whole recording'}). Name the times with --start-column "
        "and --end-column (or --duration-column); or, if it is none, say "
        f"{settled if 'start' in chosen else '--start-column none'}."
    )


def _read(column: str) -> _Name:
    words = _words(column)
    rest = [word for word in words if word not in FILLERS and word not in UNITS]
    word = rest[0] if len(rest) == 1 else ""
    known = STARTS | ENDS | DURATIONS | EITHER
    return _Name(column, word if word in known else "", bool(SUSPECTS & set(words)))


def _words(column: str) -> list[str]:
    """Words of a name, in lower case: of `segment_start`, `StartTime`, `endtime`, `Begin (ms)`."""
    words = []
    for word in WORDS.findall(column):
        together = RUN_TOGETHER.fullmatch(word.lower())
        words += [part for part in together.groups() if part] if together else [word.lower()]
    return words


def _among(columns: Sequence[str]) -> str:
    return f" (columns: {', '.join(map(repr, columns))})"
