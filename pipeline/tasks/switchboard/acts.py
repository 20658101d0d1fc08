"""Dialogue acts of Switchboard as rows of one table: where each is heard, what it says, what it is.

A conversation is a recording of two channels: A is the first, B the second (LDC97S62). Some people
have a file per side instead.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, TypeAlias

from pipeline.foundation.atomic import write_text
from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.foundation.tables import read_text
from pipeline.foundation.units import Seconds
from pipeline.shards.recordings import AUDIO_SUFFIXES
from pipeline.shards.walking import files_below

Side: TypeAlias = Literal["A", "B"]
SIDES: tuple[Side, Side] = ("A", "B")
SPLITS = ("train", "valid", "test")
_RECORDING = re.compile(r"sw0?(\d{4})(?:[-_.]?([ab]))?")
_CONVERSATION = re.compile(r"(?:sw)?0?(\d{4})")


def side_of(letter: str) -> Side | None:
    """The side that a letter means, if it means one."""
    return next((side for side in SIDES if side == letter), None)


@dataclass(frozen=True)
class Act:
    """One act with its place in time; the fields are the columns of the table.

    Attributes:
        key: unique name.
        path: of the recording, below the folder of recordings.
        channel: that it is said on, from 1; empty if the recording is of one side alone.
        start: of its first timed word, in seconds.
        end: of its last one.
        text: what is said.
        act: its label.
        recording: the conversation, such as sw2005.
        speaker: who says it.
        split: train, valid or test; empty where none is given.
    """

    key: str
    path: str
    channel: str
    start: Seconds
    end: Seconds
    text: str
    act: str
    recording: str
    speaker: str
    split: str = ""


@dataclass(frozen=True)
class Recordings:
    """The recordings of conversations below a folder.

    Attributes:
        whole: of both sides, by the number of the conversation.
        sides: of one side, by number and side.
    """

    whole: Mapping[str, str]
    sides: Mapping[tuple[str, str], str]

    @classmethod
    def below(cls, folder: Path) -> "Recordings":
        """Look for `sw02005.sph`, `sw2005.wav`, `sw2005A.wav` and the like, at any depth.

        Raises:
            NotThere: there is none.
        """
        whole: dict[str, str] = {}
        sides: dict[tuple[str, str], str] = {}
        for path in files_below(folder) if folder.is_dir() else ():
            name = _RECORDING.fullmatch(path.stem.lower())
            if name is None or path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            place = path.relative_to(folder).as_posix()
            if name[2]:
                sides.setdefault((name[1], name[2].upper()), place)
            else:
                whole.setdefault(name[1], place)
        if not whole and not sides:
            raise NotThere(
                f"{folder}: no recording of Switchboard is below it (such as sw02005.sph, "
                "sw2005.wav or sw2005A.wav). Name the folder of LDC97S62's audio."
            )
        return cls(whole, sides)

    def of(self, number: str, side: Side) -> tuple[str, str] | None:
        """Path and channel of a side of a conversation; None if there is no recording of it."""
        if number in self.whole:
            return self.whole[number], str(SIDES.index(side) + 1)
        alone = self.sides.get((number, side))
        return None if alone is None else (alone, "")

    def without(self, numbers: Collection[str]) -> int:
        """How many conversations have a recording and are not among these."""
        return len(({*self.whole} | {number for number, _ in self.sides}) - {*numbers})


@dataclass(frozen=True)
class Said:
    """An act before its recording is known.

    Attributes:
        number: of the conversation.
        side: that says it.
        name: of the act within the conversation and side.
        start: None if none of its words has a time.
        end: likewise.
        text: what is said.
        act: its label.
        speaker: who says it.
        split: that the source gives it; empty for none.
    """

    number: str
    side: Side
    name: str
    start: Seconds | None
    end: Seconds | None
    text: str
    act: str
    speaker: str
    split: str = ""


def audible_acts(
    acts: Iterable[Said], recordings: Recordings, notes: Counter[str]
) -> Iterator[Act]:
    """The acts that can be cut out of a recording.

    Args:
        acts: of all conversations.
        recordings: that there are.
        notes: gets the number of acts that are left out, by the reason.
    """
    numbers: set[str] = set()
    for said in acts:
        numbers.add(said.number)
        place = recordings.of(said.number, said.side)
        if place is None:
            notes["acts of conversations without a recording, left out"] += 1
        elif not said.text:
            notes["acts without a word, left out"] += 1
        elif said.start is None or said.end is None:
            notes["acts whose words have no times, left out"] += 1
        elif said.end <= said.start:
            notes["acts of no length, left out"] += 1
        else:
            yield Act(
                key=f"sw{said.number}{said.side}-{said.name}",
                path=place[0],
                channel=place[1],
                start=said.start,
                end=said.end,
                text=said.text,
                act=said.act,
                recording=f"sw{said.number}",
                speaker=said.speaker,
                split=said.split,
            )
    if without := recordings.without(numbers):
        notes["recordings of conversations without acts, not used"] = without


def read_lists(written: Iterable[str]) -> dict[str, str]:
    """The split of each conversation, by its number.

    Args:
        written: `train=FILE`, `valid=FILE`, `test=FILE`; each line of a file names a conversation
            (sw2005, sw02005 or 2005).

    Raises:
        SpeechkdError: a split or a line is none, or a conversation is in two splits.
    """
    split_of: dict[str, str] = {}
    for text in written:
        split, equals, file = text.partition("=")
        if not equals or split not in SPLITS:
            raise SpeechkdError(f"--split-list is {text!r}; write train=FILE, valid=… or test=….")
        for number, line in enumerate(read_text(Path(file)).splitlines(), start=1):
            if not line.strip():
                continue
            name = _CONVERSATION.fullmatch(line.strip().lower())
            if name is None:
                raise SpeechkdError(
                    f"{file}, line {number}: {line.strip()[:40]!r} is no conversation, such as "
                    "sw2005."
                )
            if split_of.setdefault(name[1], split) != split:
                raise SpeechkdError(
                    f"{file}, line {number}: sw{name[1]} is in {split_of[name[1]]} as well."
                )
    return split_of


def divided(acts: Iterable[Act], split_of: Mapping[str, str], notes: Counter[str]) -> Iterator[Act]:
    """The acts with the splits of lists; those of conversations in no list are left out."""
    for act in acts:
        split = split_of.get(act.recording.removeprefix("sw"))
        if split is None:
            notes["acts of conversations in no list, left out"] += 1
        else:
            yield replace(act, split=split)


def write_acts(acts: Iterable[Act], path: Path) -> None:
    """Write the table; the column of splits only if there are any."""
    rows = list(acts)
    names = [f.name for f in fields(Act)]
    if not any(row.split for row in rows):
        names.remove("split")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    write_text(path, file.getvalue())
