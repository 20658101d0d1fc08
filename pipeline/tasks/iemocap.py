"""IEMOCAP (Busso et al. 2008) as its authors hand it out: labels, transcriptions and waves → rows.

The speaker of a turn is the letter in the last part of its name; the letter in the first part is
who wore the markers. Texts lose what stands in brackets, such as [LAUGHTER], which nobody said.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pipeline.foundation.atomic import write_text
from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.foundation.untrusted import read_text_file

Excited: TypeAlias = Literal["merge", "drop", "only"]
LABELS = {"ang": "angry", "neu": "neutral", "sad": "sad"}
"""Three of the four emotions that most papers judge, by their codes."""
HAPPY, EXCITED = "hap", "exc"
FOURTH = {"merge": "happy or excited", "drop": "happy", "only": "excited"}
"""What the fourth is called, so that every table says what became of excited turns."""
CODES = (*LABELS, HAPPY, EXCITED, "fru", "fea", "sur", "dis", "oth", "xxx")
COLUMNS = (
    *("key", "path", "text", "label", "session", "speaker", "recording", "act"),
    *("valence", "activation", "dominance"),
)
_LABELLED = re.compile(
    r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t(?P<turn>\S+)\t(?P<code>\w+)\t"
    r"\[(?P<v>[\d.]+), (?P<a>[\d.]+), (?P<d>[\d.]+)\]"
)
_SPOKEN = re.compile(r"(?P<turn>Ses\S+) \[[\d.]+ ?- ?[\d.]+\]: ?(?P<text>.*)")
_TURN = re.compile(r"Ses(?P<session>\d\d)[FM]_(?P<act>impro|script)\w*_(?P<speaker>[FM])\w*")
_TAG = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True)
class Turn:
    """A turn of a dialogue with one of the labels; fields as the columns of the table."""

    key: str
    path: str
    text: str
    label: str
    session: str
    speaker: str
    recording: str
    act: str
    valence: float
    activation: float
    dominance: float


def read_iemocap(root: Path, excited: Excited = "merge") -> tuple[list[Turn], Counter[str]]:
    """Read the turns that have one of the four labels, a text and a wave.

    Args:
        root: `IEMOCAP_full_release`, or the folder that holds it.
        excited: what becomes of turns labelled excited: they are of one class with happy ones
            (`merge`), are left out (`drop`), or happy ones are (`only`).

    Returns:
        The turns in the order of sessions and names, and what was left out, counted.

    Raises:
        NotThere: there is no session, or waves are missing.
        SpeechkdError: a line of labels has another form, or a turn is labelled twice.
    """
    root = root / "IEMOCAP_full_release" if (root / "IEMOCAP_full_release").is_dir() else root
    sessions = sorted(path for path in root.glob("Session[0-9]") if path.is_dir())
    if not sessions:
        raise NotThere(
            f"{root} has no folder Session1. Name IEMOCAP_full_release, as the archive unpacks it."
        )
    notes: Counter[str] = Counter()
    turns: dict[str, Turn] = {}
    for session in sessions:
        texts = dict(_spoken(session))
        for file in _files(session / "dialog" / "EmoEvaluation"):
            for turn in _labelled(file, session, root, texts, excited, notes):
                if turn.key in turns:
                    raise SpeechkdError(f"{file}: turn {turn.key} is labelled twice.")
                turns[turn.key] = turn
    missing = [turn for turn in turns.values() if not (root / turn.path).is_file()]
    if missing:
        raise NotThere(
            f"{root}: the waves of {len(missing):,} of {len(turns):,} labelled turns are missing, "
            f"the first is {missing[0].path}. Unpack sentences/wav of every session."
        )
    return [turns[key] for key in sorted(turns)], notes


def write_turns(turns: Sequence[Turn], path: Path) -> None:
    """Write turns as CSV, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(turn, column) for column in COLUMNS] for turn in turns)
    write_text(path, text.getvalue())


def _files(folder: Path) -> list[Path]:
    """Its text files, without those that macOS leaves beside them (`._*`)."""
    if not folder.is_dir():
        raise NotThere(f"{folder} is missing; unpack the archive whole.")
    return sorted(file for file in folder.glob("*.txt") if not file.name.startswith("."))


def _spoken(session: Path) -> Iterator[tuple[str, str]]:
    for file in _files(session / "dialog" / "transcriptions"):
        for line in read_text_file(file, "latin-1").splitlines():
            if spoken := _SPOKEN.fullmatch(line.strip()):
                yield spoken["turn"], " ".join(_TAG.sub(" ", spoken["text"]).split())


def _labelled(
    file: Path,
    session: Path,
    root: Path,
    texts: dict[str, str],
    excited: Excited,
    notes: Counter[str],
) -> Iterator[Turn]:
    for number, line in enumerate(read_text_file(file, "latin-1").splitlines(), start=1):
        if not line.startswith("["):  # the heading, and what each rater said
            continue
        labelled = _LABELLED.fullmatch(line.strip())
        named = _TURN.fullmatch(labelled["turn"]) if labelled else None
        if labelled is None or named is None or labelled["code"] not in CODES:
            raise SpeechkdError(
                f"{file}, line {number}: {line[:80]!r} is no label of a turn, as "
                "`[start - end]⇥turn⇥neu⇥[2.5, 2.5, 2.5]` is."
            )
        code, turn = labelled["code"], labelled["turn"]
        label = _label(code, excited)
        if not label:
            notes[f"turns labelled {code}, left out"] += 1
            continue
        if not texts.get(turn):
            notes["turns without a text, left out"] += 1
            continue
        dialogue = turn.rpartition("_")[0]
        path = session / "sentences" / "wav" / dialogue / f"{turn}.wav"
        number_of = int(named["session"])
        yield Turn(
            key=turn,
            path=path.relative_to(root).as_posix(),
            text=texts[turn],
            label=label,
            session=str(number_of),
            speaker=f"{number_of}{named['speaker']}",
            recording=dialogue,
            act="improvised" if named["act"] == "impro" else "scripted",
            valence=float(labelled["v"]),
            activation=float(labelled["a"]),
            dominance=float(labelled["d"]),
        )


def labels_of(excited: Excited) -> list[str]:
    """The four labels, in the order of their names."""
    return sorted([*LABELS.values(), FOURTH[excited]])


def _label(code: str, excited: Excited) -> str:
    """The label of a code; empty if such turns are left out."""
    left_out = {"merge": "", "drop": EXCITED, "only": HAPPY}[excited]
    if code in (HAPPY, EXCITED):
        return FOURTH[excited] if code != left_out else ""
    return LABELS.get(code, "")
