"""The Switchboard-Corpus layout of SwDA: texts with acts, timed by MS-State's words.

`swda_data/{train,val,test}/2121.txt` has a line per act: `A|Okay, uh,|sd`. It tells no times. The
word transcripts of MS-State (`swb_ms98_transcriptions/21/2121/sw2121A-ms98-a-word.text`, a line
`sw2121A-ms98-a-0001 0.977625 1.250000 okay` per word) do. Both have the same words but for
corrections, so the words of a side are aligned in order. An act gets times only if its first and
last word, and at least half of all, stand in both.
"""

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation.errors import Damaged, NotThere
from pipeline.foundation.tables import read_text
from pipeline.foundation.units import Seconds
from pipeline.tasks.switchboard.acts import SIDES, Said, Side, side_of

FOLDERS = {"train": "train", "val": "valid", "test": "test"}
LEAST_SHARE = 0.5
_FILE = re.compile(r"(\d{4})\.txt")
_REMARK = re.compile(r"<[^>]*>|\{[A-Z]\b")  # {F uh, }: a filler, which is said
_SAID = re.compile(r"\[laughter-([^\]]+)\]|\[([^\]/]+)/[^\]]*\]")  # laughing; in place of a word
_NOT_SAID = re.compile(r"\[[^\]]*\]|<[^>]*>|_\d+")  # noise, the rest of a word, a variant
_LETTERS = re.compile(r"[^a-z']+")


@dataclass(frozen=True)
class SpokenWord:
    """A word with its times, as it is compared."""

    word: str
    start: Seconds
    end: Seconds


def folder_of(root: Path) -> Path | None:
    """The folder that holds the splits, if one is there."""
    for place in (root, root / "swda_data"):
        if (place / "train").is_dir() and (place / "test").is_dir():
            return place
    return None


def read_swda(folder: Path, words: Path) -> Iterator[Said]:
    """The acts of all conversations with the times of their words.

    Args:
        folder: of the splits.
        words: folder of MS-State's transcripts, at any depth.

    Raises:
        NotThere: there is no conversation, or no transcript of words.
        Damaged: a line of either is broken.
    """
    files = [
        (split, file, name[1])
        for part, split in FOLDERS.items()
        for file in sorted((folder / part).glob("*.txt"))
        if (name := _FILE.fullmatch(file.name))
    ]
    if not files:
        raise NotThere(f"{folder} has no conversation, such as train/2005.txt.")
    timed = {path.name: path for path in sorted(words.rglob("sw*-ms98-a-word.text"))}
    if not timed:
        raise NotThere(
            f"{words}: no transcript of words is below it, such as sw2005A-ms98-a-word.text. Name "
            "the folder swb_ms98_transcriptions."
        )
    for split, file, number in files:
        by_side = _read(file)
        for side in SIDES:
            path = timed.get(f"sw{number}{side}-ms98-a-word.text")
            spoken = _spoken(path) if path else []
            yield from _timed(by_side[side], spoken, number, side, split)


def written_words(text: str) -> list[str]:
    """The words of an act's text, as they are compared: letters and apostrophes alone."""
    return _compared(_REMARK.sub(" ", text))


def spoken_words(text: str) -> list[str]:
    """The words of an entry of MS-State's transcript, as they are compared."""
    return _compared(_NOT_SAID.sub("", _SAID.sub(r"\1\2", text)))


def _compared(text: str) -> list[str]:
    words = (_LETTERS.sub("", part) for part in re.split(r"[\s-]+", text.lower()))
    return [word for word in words if word.strip("'")]


def _read(file: Path) -> dict[Side, list[tuple[str, str, str]]]:
    """Name, text and act of each line, by side."""
    lines: dict[Side, list[tuple[str, str, str]]] = {side: [] for side in SIDES}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        letter, _, rest = line.partition("|")
        text, bar, act = rest.rpartition("|")
        side = side_of(letter.strip())
        if side is None or not bar or not act.strip():
            raise Damaged(f"{file}, line {number}: {line[:60]!r} is not `A|text|act`.")
        lines[side].append((f"{number:04d}", text.strip(), act.strip()))
    return lines


def _spoken(file: Path) -> list[SpokenWord]:
    """The words of a side that are comparable, in the order of time."""
    words = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        cells = line.split(maxsplit=3)
        if not cells:
            continue
        try:
            start, end = float(cells[1]), float(cells[2])
            text = cells[3]
        except (IndexError, ValueError):
            start = end = math.nan
            text = ""
        if not (text and start <= end and math.isfinite(end)):
            raise Damaged(f"{file}, line {number}: {line[:60]!r} is no word with two times.")
        words += [SpokenWord(word, start, end) for word in spoken_words(text)]
    return words


def _timed(
    lines: Sequence[tuple[str, str, str]],
    spoken: Sequence[SpokenWord],
    number: str,
    side: Side,
    split: str,
) -> Iterator[Said]:
    """The acts of a side, with times where their words are found among the spoken ones."""
    words_of = [written_words(text) for _, text, _ in lines]
    written = [word for words in words_of for word in words]
    matcher = difflib.SequenceMatcher(None, written, [w.word for w in spoken], autojunk=False)
    place_of: dict[int, int] = {}
    for block in matcher.get_matching_blocks():
        place_of.update((block.a + i, block.b + i) for i in range(block.size))
    begin = 0
    for (name, text, act), words in zip(lines, words_of, strict=True):
        places = [place_of.get(begin + i) for i in range(len(words))]
        begin += len(words)
        start, end = _span([None if p is None else spoken[p] for p in places])
        yield Said(
            number=number,
            side=side,
            name=name,
            start=start,
            end=end,
            text=text if words else "",
            act=act,
            speaker=f"sw{number}{side}",
            split=split,
        )


def _span(words: Sequence[SpokenWord | None]) -> tuple[Seconds | None, Seconds | None]:
    """Start and end of an act from its words; None where they do not tell."""
    matched = [word for word in words if word is not None]
    first, last = (words[0], words[-1]) if words else (None, None)
    if first is None or last is None or len(matched) < LEAST_SHARE * len(words):
        return None, None
    return first.start, last.end
