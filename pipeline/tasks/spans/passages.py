"""Spoken passages: clips of a cache in their order, and where each of them lies in its passage."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.missing import is_missing
from pipeline.foundation.tables import cell_text, read_rows
from pipeline.foundation.units import Seconds
from pipeline.shards.recordings import key_of_path

TOLERANCE: Seconds = 0.02
"""By how much times may miss each other because they were rounded."""


@dataclass(frozen=True)
class Passage:
    """A spoken passage.

    Attributes:
        name: as questions name it.
        clips: keys of its clips, in the order in which they are heard.
        starts_s: where each begins in the passage.
        seconds: of each clip.
    """

    name: str
    clips: tuple[str, ...]
    starts_s: tuple[Seconds, ...]
    seconds: tuple[Seconds, ...]

    @property
    def end_s(self) -> Seconds:
        """Where the passage ends."""
        return self.starts_s[-1] + self.seconds[-1]


def joined(name: str, clips: Iterable[str], seconds_of: Mapping[str, Seconds]) -> Passage:
    """A passage whose clips follow each other without a gap."""
    keys = tuple(clips)
    starts, at = [], 0.0
    for key in keys:
        starts.append(at)
        at += seconds_of[key]
    return Passage(name, keys, tuple(starts), tuple(seconds_of[key] for key in keys))


def read_passages(
    path: Path, seconds_of: Mapping[str, Seconds], notes: Counter[str]
) -> dict[str, Passage]:
    """Read which clips each passage is made of.

    Args:
        path: a table with columns `passage` and `clip`, a row per clip in the order in which clips
            are heard, and perhaps `start_s`, where a clip begins in its passage. Without it each
            begins where the one before it ends. A clip is a key of the cache, or the path that
            `speechkd shard` made the key of.
        seconds_of: length of each clip of the cache, by its key.
        notes: counts passages that are left out, because where their later clips begin, or what is
            said in them, is not known without a clip that the cache lacks.

    Raises:
        SpeechkdError: a column is missing, a passage has a clip twice, or its clips overlap.
    """
    names, rows = read_rows(path)
    if missing := [column for column in ("passage", "clip") if column not in names]:
        raise SpeechkdError(
            f"{path} has no column {' and no column '.join(missing)}; it has {', '.join(names)}. "
            "Wanted is a row per clip, with passage and clip, in the order in which they are heard."
        )
    clips_of: dict[str, list[tuple[str, str, str]]] = {}
    for place, cells in rows:
        name, clip = (cell_text(cells.get(column)).strip() for column in ("passage", "clip"))
        if is_missing(name) or is_missing(clip):
            raise SpeechkdError(f"{path}, {place}: passage or clip is empty; each row has both.")
        key = clip if clip in seconds_of else key_of_path(clip)
        start = cell_text(cells.get("start_s")).strip()
        clips_of.setdefault(name, []).append((key, start, f"{path}, {place}"))
    passages, without = {}, []
    for name, clips in clips_of.items():
        twice = [key for key, count in Counter(key for key, _, _ in clips).items() if count > 1]
        if twice:
            raise SpeechkdError(f"{path}: passage {name} has clip {twice[0]} twice.")
        lacking = [key for key, _, _ in clips if key not in seconds_of]
        if lacking:
            without.append((name, lacking[0]))
            continue
        passages[name] = _passage(path, name, clips, seconds_of)
    if without:
        name, key = without[0]
        what = f"passages with a clip that the cache lacks, such as {name} ({key}), left out"
        notes[what] = len(without)
    return passages


def _passage(
    path: Path,
    name: str,
    clips: list[tuple[str, str, str]],
    seconds_of: Mapping[str, Seconds],
) -> Passage:
    passage = joined(name, (key for key, _, _ in clips), seconds_of)
    times = [start for _, start, _ in clips if not is_missing(start)]
    if not times:
        return passage
    if len(times) < len(clips):
        raise SpeechkdError(
            f"{path}: passage {name} has start_s for {len(times)} of its {len(clips)} clips; give "
            "it for all, or for none if they follow each other without a gap."
        )
    starts = tuple(seconds_in(start, f"{where}, column start_s") for _, start, where in clips)
    ends = [start + own for start, own in zip(starts, passage.seconds, strict=True)]
    for key, start, before in zip(passage.clips[1:], starts[1:], ends, strict=False):
        if start < before - TOLERANCE:
            raise SpeechkdError(
                f"{path}: passage {name}: clip {key} begins at {start:g} s, before the clip in "
                f"front of it ends ({before:g} s). Clips stand in the order in which they are "
                "heard, and do not overlap."
            )
    if starts[0] < 0:
        raise SpeechkdError(f"{path}: passage {name} begins at {starts[0]:g} s, before 0.")
    return Passage(name, passage.clips, starts, passage.seconds)


def seconds_in(cell: str, where: str) -> Seconds:
    """A time in seconds as a table writes it.

    Raises:
        SpeechkdError: it is no finite number.
    """
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SpeechkdError(f"{where}: {cell!r} is not a time in seconds, such as 12.34.")
    return value
