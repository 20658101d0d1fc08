"""Minimal pairs from files: BLiMP, and BabyLM's supplement, which never counts as a part of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.progress import say
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.tasks.blimp import SUPPLEMENT, field_of

ENDINGS = (".jsonl", ".json")
"""BLiMP and BabyLM since 2024 have one `.jsonl` per paradigm, BabyLM in 2023 one `.json` per field;
both hold JSON lines."""


@dataclass(frozen=True)
class Pair:
    """Two sentences, one of them grammatical.

    Attributes:
        paradigm: the kind of contrast (BLiMP's UID).
        category: the wider phenomenon (BLiMP's linguistics_term).
        good: the grammatical sentence.
        bad: the other.
    """

    paradigm: str
    category: str
    good: str
    bad: str

    @property
    def field(self) -> str:
        """The field that papers report it under."""
        return field_of(self.category)


def read_pairs(folder: Path, limit: int = 0) -> list[Pair]:
    """Read BLiMP: a folder with one file of JSON lines per paradigm or field, at any depth.

    Files of the supplement below the folder are left out, and that is said.

    Args:
        folder: the folder. Each line has `sentence_good` and `sentence_bad`; BLiMP's own lines also
            have `UID` and `linguistics_term`, for which the file's name stands where they lack.
        limit: how many pairs to read from each file; 0 for all.

    Raises:
        NotThere: there is no such folder, or no such file in it.
        Damaged: a line is not a pair.
    """
    files = _files(folder, "BLiMP's data")
    others = [file for file in files if _is_of_supplement(file, folder)]
    files = [file for file in files if file not in others]
    if not files:
        raise NotThere(
            f"{folder} holds only sets of BabyLM's supplement ({_names(others)}), which are no "
            "part of BLiMP. Name it with --supplement, beside the folder of BLiMP."
        )
    if others:
        say(
            f"{folder}: {len(others)} sets of BabyLM's supplement ({_names(others)}) are no part "
            "of BLiMP and left out of its figures; --supplement reads them"
        )
    return [pair for file in files for pair in _pairs(file, limit)]


def read_supplement(folder: Path, limit: int = 0) -> list[Pair]:
    """Read the sets of BabyLM's supplement: files named after `SUPPLEMENT`, at any depth.

    Args:
        folder: the folder; what else it holds is not read.
        limit: how many pairs to read from each file; 0 for all.

    Returns:
        The pairs; their paradigm and category are the name of the set.

    Raises:
        NotThere: there is no such folder, or none of the sets in it.
        Damaged: a line is not a pair.
        SpeechkdError: a set is there twice.
    """
    files = [f for f in _files(folder, "the supplement") if f.stem in SUPPLEMENT]
    if not files:
        raise NotThere(
            f"{folder} holds no set of BabyLM's supplement; wanted are files such as "
            f"{SUPPLEMENT[0]}.jsonl (sets: {', '.join(SUPPLEMENT)})."
        )
    names = [file.stem for file in files]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SpeechkdError(f"{folder} holds {twice} more than once; name the folder of one set.")
    pairs = [(file.stem, pair) for file in files for pair in _pairs(file, limit)]
    return [Pair(name, name, pair.good, pair.bad) for name, pair in pairs]


def _files(folder: Path, what: str) -> list[Path]:
    """Files of pairs below a folder; `.json` counts where there is no `.jsonl` beside it."""
    if not folder.is_dir():
        raise NotThere(f"{folder}: there is no such folder; name the folder of {what}.")
    files = sorted(f for f in folder.rglob("*") if f.suffix in ENDINGS and f.is_file())
    of_lines = {file.parent for file in files if file.suffix == ".jsonl"}
    files = [f for f in files if f.suffix == ".jsonl" or f.parent not in of_lines]
    if not files:
        raise NotThere(f"{folder} holds no .jsonl file, nor .json; name the folder of {what}.")
    return files


def _is_of_supplement(file: Path, folder: Path) -> bool:
    below = file.relative_to(folder).parts[:-1]
    return file.stem in SUPPLEMENT or any("supplement" in part.lower() for part in below)


def _names(files: Sequence[Path]) -> str:
    return ", ".join(sorted({file.stem for file in files}))


def _pairs(file: Path, limit: int) -> list[Pair]:
    pairs = []
    lines = [line for line in read_text_file(file).split("\n") if line.strip()]
    for number, line in enumerate(lines[: limit or None], start=1):
        try:
            row = parse_json(line)
            pairs.append(
                Pair(
                    str(row.get("UID", file.stem)),
                    str(row.get("linguistics_term", file.stem)),
                    str(row["sentence_good"]),
                    str(row["sentence_bad"]),
                )
            )
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise Damaged(
                f"{file}, line {number}: not a pair of sentence_good and sentence_bad ({error!r})."
            ) from None
    return pairs
