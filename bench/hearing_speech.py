"""Short recorded lines joined to clips of up to 15 s, and which word of a line is which of a clip.

A clip costs the teacher the same whatever its length, and lines of games take two seconds.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.corpus.word_spans import owners
from pipeline.foundation.atomic import write_json
from pipeline.foundation.tables import read_rows
from pipeline.foundation.units import SAMPLE_RATE_HZ

LONGEST_S = 14.8
SILENCE_S = 0.2
"""Between two lines of a clip."""


@dataclass(frozen=True)
class Line:
    """One recorded line of a manifest; `scene` is what must be the same for lines of one clip."""

    id: str
    audio: Path
    speaker: str
    seconds: float
    text: str
    scene: str


@dataclass(frozen=True)
class Corpus:
    """A folder with a manifest.tsv of lines, and what is taken of it."""

    folder: str
    scene_letters: int = 0
    """How many letters of the id name the scene; 0: none."""
    without: tuple[str, ...] = ()
    """Speakers that are left out."""
    only: tuple[str, ...] = ()
    """Speakers that are taken; none named: all."""
    split: str = ""
    """What the column `split` must say; empty for all lines."""


def lines_of(root: Path, corpus: Corpus) -> list[Line]:
    """The lines of a corpus by speaker and scene, in their order."""
    folder = root / corpus.folder
    _, placed = read_rows(folder / "manifest.tsv")
    rows = [row for _, row in placed]
    lines = [
        Line(
            row["utt_id"], folder / row["path"], row["speaker"], float(row["duration_s"]),
            row["text"], row["utt_id"][: corpus.scene_letters],
        )
        for row in rows
        if row["speaker"] not in corpus.without
        and (not corpus.only or row["speaker"] in corpus.only)
        and row["text"].strip()
        and corpus.split in ("", row.get("split"))
    ]  # fmt: skip
    return sorted(lines, key=lambda line: (line.speaker, line.scene))  # stable


def joined(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Neighbours of one speaker and scene, as many as one clip holds."""
    clip: list[Line] = []
    seconds = 0.0
    for line in lines:
        same = clip and (line.speaker, line.scene) == (clip[0].speaker, clip[0].scene)
        if not same or seconds + SILENCE_S + line.seconds > LONGEST_S:
            if clip:
                yield clip
            clip, seconds = [], -SILENCE_S
        clip.append(line)
        seconds += SILENCE_S + line.seconds
    if clip:
        yield clip


def write_clips(lines: Sequence[Line], out: Path, hours: float = 0.0) -> Path:
    """Write the clips as FLAC, and a table of them for `speechkd shard`.

    Args:
        lines: in order.
        out: the folder.
        hours: how much speech to take, evenly from all; 0 for all of it.

    Returns:
        The table; `lines.json` beside it says which lines each clip has.
    """
    out.mkdir(parents=True, exist_ok=True)
    clips = list(joined(lines))
    total_s = sum(line.seconds for clip in clips for line in clip)
    share = min(1.0, hours * 3600 / total_s) if hours else 1.0
    selection = [c for i, c in enumerate(clips) if int((i + 1) * share) > int(i * share)]
    names: dict[str, list[str]] = {}
    silence = np.zeros(round(SILENCE_S * SAMPLE_RATE_HZ), np.float32)
    table = out / "clips.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "key", "text", "speaker", "recording"])
        for number, clip in enumerate(selection):
            waves = []
            for line in clip:
                wave, rate = soundfile.read(line.audio, dtype="float32")
                if rate != SAMPLE_RATE_HZ or wave.ndim != 1:
                    raise SystemExit(f"{line.audio}: {rate} Hz, wanted is 16 kHz mono.")
                waves += [wave, silence]
            key = f"{number:05}-{clip[0].id}"
            names[key] = [line.id for line in clip]
            soundfile.write(out / f"{key}.flac", np.concatenate(waves[:-1]), SAMPLE_RATE_HZ)
            # small letters, so that neither student nor teacher sees which words are CAPITALS
            text = " ".join(" ".join(line.text for line in clip).split()).lower()
            speaker = clip[0].speaker or clip[0].scene
            writer.writerow([f"{key}.flac", key, text, speaker, clip[0].scene or speaker])
    write_json(out / "lines.json", names)
    return table


@dataclass(frozen=True)
class HeardWords:
    """The teacher's vectors of words, by line and place in it.

    Attributes:
        row_of: (id of the line, place of the word from 0) → its row, for trusted words.
        rows_NE: the vectors, float32.
    """

    row_of: dict[tuple[str, int], int]
    rows_NE: np.ndarray


def heard_words(folder: Path, root: Path, corpus: Corpus) -> HeardWords:
    """What the teacher heard of each word of each line.

    A line's words are those between its blanks; a clip's are those that its times name. Both are
    told apart by their letters.
    """
    reader = SequenceReader(TeacherCache.open(folder / "words", kinds=["words"]))
    clips = reader.clips
    text_of = {line.id: line.text.lower() for line in lines_of(root, corpus)}
    names = json.loads((folder / "lines.json").read_text())
    row_of: dict[tuple[str, int], int] = {}
    first = 0
    for place, key in enumerate(clips.key):
        blanks = [
            (line, n, word) for line in names[key] for n, word in enumerate(text_of[line].split())
        ]
        owner = owners(clips.text[place], [word["text"] for word in clips.words[place]])
        begin = 0
        if owner is not None:  # else the clip's words do not spell its text
            for line, number, word in blanks:
                mine = [o for o in owner[begin : begin + len(word)] if o >= 0]
                begin += len(word) + 1
                if mine and clips.words[place][mine[0]]["trusted"]:
                    row_of[line, number] = first + int(mine[0])
        first += int(clips.rows[place])
    return HeardWords(row_of, reader.values(range(len(clips))).float().numpy())
