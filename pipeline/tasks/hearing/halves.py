"""Two halves of the judged clips, and folds within each: whole speakers, or whole recordings.

Shapes: C clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import derive
from pipeline.tasks.hearing.clips import Clip

FOLDS = 4
FEWEST_SPEAKERS = 4
"""Speakers from which on halves share none: two for each half."""
FEWEST_RECORDINGS = 4
"""Two for each half, because the penalty is chosen by leaving one out."""
UNKNOWN = -1

By = Literal["speaker", "recording"]


@dataclass(frozen=True)
class Halves:
    """How clips are divided.

    Attributes:
        by: what no two halves share.
        half_C: 0 or 1.
        fold_C: fold within the half, from 0.
        recording_C: number of each clip's recording; a clip of unknown recording has its own.
        speaker_C: number of each clip's speaker, or of its recording where no speaker is known;
            `UNKNOWN` where neither is.
        speakers: how many speakers are known.
        recordings: how many recordings there are.
    """

    by: By
    half_C: Array
    fold_C: Array
    recording_C: Array
    speaker_C: Array
    speakers: int
    recordings: int


def halve(clips: Sequence[Clip], by: Literal["auto"] | By, seed: int) -> Halves:
    """Divide clips into two halves of about the same size.

    Args:
        clips: the clips.
        by: what no two halves share; `auto` is speakers, if all are known and they are at least
            `FEWEST_SPEAKERS`, else recordings.
        seed: decides which half is which, and among those of one size.

    Raises:
        SpeechkdError: there are too few recordings, or too few speakers for halves by speaker.
    """
    recording_C = numbers([clip.recording for clip in clips], own=True)
    known_C = numbers([clip.speaker for clip in clips])
    recordings, speakers = len(np.unique(recording_C)), len(set(known_C.tolist()) - {UNKNOWN})
    if recordings < FEWEST_RECORDINGS:
        raise SpeechkdError(
            f"the {len(clips):,} clips to judge are of {recordings} recordings; at least "
            f"{FEWEST_RECORDINGS} are needed, two for each half. Probe a cache of more recordings, "
            "or name the recordings in the table that `speechkd shard` reads."
        )
    all_known = bool((known_C != UNKNOWN).all())
    if by == "speaker" and not (all_known and speakers >= 2):
        raise SpeechkdError(
            f"--halves speaker: {speakers} speakers are known"
            f"{'' if all_known else ', and some clips have none'}. Use --halves recording."
        )
    if by == "auto":
        by = "speaker" if all_known and speakers >= FEWEST_SPEAKERS else "recording"
    unit_C = known_C if by == "speaker" else recording_C
    half_C = dealt(unit_C, 2, derive(seed, "halves"))
    fold_C = np.zeros(len(clips), np.int64)
    for half in (0, 1):
        mine = np.flatnonzero(half_C == half)
        inner_c = unit_C[mine]
        if len(np.unique(inner_c)) < FOLDS:
            inner_c = recording_C[mine]
        if len(np.unique(inner_c)) < 2:
            raise SpeechkdError(
                f"one half of the {len(clips):,} clips to judge is a single recording, so no "
                "penalty can be chosen by leaving one out. Use --halves recording, or probe a "
                "cache of more recordings."
            )
        fold_C[mine] = dealt(inner_c, FOLDS, derive(seed, "folds", half))
    together = numbers(
        [
            clip.speaker if clip.speaker is not None else _recording_as_speaker(clip.recording)
            for clip in clips
        ]
    )
    return Halves(by, half_C, fold_C, recording_C, together, speakers, recordings)


def _recording_as_speaker(recording: str | None) -> tuple[str, str] | None:
    return None if recording is None else ("recording", recording)


def numbers(names: Sequence[object], *, own: bool = False) -> Array:
    """Numbers from 0 for names, in the order of their first appearance.

    None gets `UNKNOWN`, or a number of its own each time with `own`.
    """
    number_of: dict[object, int] = {}
    return np.array(
        [
            number_of.setdefault(place if name is None else ("name", name), len(number_of))
            if own or name is not None
            else UNKNOWN
            for place, name in enumerate(names)
        ],
        np.int64,
    )


def dealt(unit_C: Array, parts: int, seed: int) -> Array:
    """Deal whole units to parts of about the same size: the largest first, to the smallest part.

    Args:
        unit_C: number of each clip's unit.
        parts: how many parts; some are empty if there are fewer units.
        seed: decides among units, and among parts, of one size.
    """
    units, unit_of_C, sizes = np.unique(unit_C, return_inverse=True, return_counts=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(units))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled, part_of = np.zeros(parts), np.empty(len(units), np.int64)
    names = rng.permutation(parts)
    for unit in order.tolist():
        part = int(filled.argmin())
        part_of[unit] = names[part]
        filled[part] += sizes[unit]
    return np.asarray(part_of[unit_of_C], np.int64)
