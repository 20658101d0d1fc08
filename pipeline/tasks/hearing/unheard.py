"""Which clips no student was trained on: of other recordings, and of other speakers if known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.tasks.hearing.clips import Clip
from pipeline.tasks.hearing.trainings import Training, Trainings

What = Literal["auto", "recording", "speaker"]

FEWEST_CLIPS = 20
"""Clips under which nothing is fitted on one half and judged on the other."""
ENOUGH_CLIPS = 100
"""Clips of unheard speakers from which on those of heard ones are left out by themselves."""


@dataclass(frozen=True)
class Unheard:
    """Clips of recordings that no student was trained on.

    Attributes:
        places: of these clips.
        speakers: whether their speakers were heard in training: `unheard`, some `heard`, or
            `unknown` where the cache or the trainings do not name them.
        notes: what was left out and why, in words.
    """

    places: list[int]
    speakers: Literal["unheard", "heard", "unknown"]
    notes: list[str]


def unheard(clips: Sequence[Clip], trainings: Trainings, what: What, location: str) -> Unheard:
    """The clips that can be judged.

    A clip was trained on if a training has its key and text. Where a training shares clips with
    this cache, recordings of one name are the same, too; otherwise they are taken for others,
    which is said. Speakers of one name are always taken for the same.

    Args:
        clips: those of the cache.
        trainings: of the students.
        what: what must be new: the `recording`, or the `speaker` as well; `auto` asks for new
            speakers if there are enough clips of them.
        location: of the cache, for messages.

    Raises:
        SpeechkdError: fewer than `FEWEST_CLIPS` remain.
    """
    notes: list[str] = []
    distinct = {id(one): one for several in trainings.of.values() for one in several}
    here = list(range(len(clips)))
    for training in distinct.values():
        here = _others(clips, here, training, notes)
    for label, why in trainings.unchecked.items():
        notes.append(
            f"WARNING: which clips {label} was trained on could not be told, and none is left out "
            f"for it: {why}"
        )
    fewer = len(clips) - len(here)
    if fewer:
        notes.append(f"{counted(fewer, 'clip')} left out, because a student was trained on them")
    if len(here) < FEWEST_CLIPS:
        raise SpeechkdError(
            f"{location}: {counted(len(here), 'clip')} of {len(clips):,} are of recordings that no "
            f"checkpoint was trained on; at least {FEWEST_CLIPS} are needed. Probe a cache of "
            "other recordings, or train with a larger --held-out."
        )
    speakers = frozenset().union(*(training.speakers for training in distinct.values()))
    return _by_speaker(clips, here, speakers, what, notes, location)


def _others(
    clips: Sequence[Clip], places: list[int], training: Training, notes: list[str]
) -> list[int]:
    same = any(clip.said in training.known for clip in clips)
    if same:
        return [
            place
            for place in places
            if clips[place].said not in training.read
            and clips[place].recording not in training.recordings
        ]
    namesakes = sum(clips[place].recording in training.names for place in places)
    if namesakes:
        notes.append(
            f"{counted(namesakes, 'clip')} are of recordings whose names {training.location} has, "
            "too; since it has none of the clips, they are taken for other recordings"
        )
    return places


def _by_speaker(
    clips: Sequence[Clip],
    places: list[int],
    heard: frozenset[str],
    what: What,
    notes: list[str],
    location: str,
) -> Unheard:
    known = [place for place in places if clips[place].speaker is not None]
    new = [place for place in known if clips[place].speaker not in heard]
    if not known or not heard:
        if what == "speaker":
            raise SpeechkdError(
                f"--unheard speaker: {location} names no speaker, or no training does, so who was "
                "heard cannot be told. Use --unheard recording."
            )
        return Unheard(places, "unknown", notes)
    if what == "speaker" and len(new) < FEWEST_CLIPS:
        raise SpeechkdError(
            f"--unheard speaker: {counted(len(new), 'clip')} of {location} are of speakers that no "
            f"checkpoint was trained on; at least {FEWEST_CLIPS} are needed. Probe a cache of "
            "other speakers, or use --unheard recording."
        )
    if what == "speaker" or (what == "auto" and len(new) >= ENOUGH_CLIPS):
        if len(new) < len(places):
            notes.append(
                f"{counted(len(places) - len(new), 'clip')} more left out, because a student was "
                "trained on their speakers, or it is not known who they are"
            )
        return Unheard(new, "unheard", notes)
    if len(new) == len(places):
        return Unheard(places, "unheard", notes)
    notes.append(
        f"WARNING: a student was trained on other recordings of the speakers of "
        f"{counted(len(places) - len(new), 'clip')} of {len(places):,}: what is told of them may "
        "be their voices, so look at the figures within speaker"
    )
    return Unheard(places, "heard", notes)
