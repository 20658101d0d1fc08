"""TIMIT (Garofolo et al. 1993): sentences with the times of their words, in samples at 16 kHz."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.foundation.units import SAMPLE_RATE_HZ
from pipeline.shards.layouts.layout import Layout, Request, split_folders
from pipeline.shards.recordings import Entry
from pipeline.shards.refusals import Reason, Refusal
from pipeline.shards.timed import Notes
from pipeline.shards.transcripts.formats import Siblings, read_times
from pipeline.shards.transcripts.segment import TimedWord


def _is_region(path: Path) -> bool:
    return path.is_dir() and path.name.upper().startswith("DR")


def _is_part(folder: Path) -> bool:
    """Whether a folder holds dialect regions with phones: DR1/SPEAKER/SENTENCE.PHN."""
    return any(
        path.suffix.upper() == ".PHN"
        for region in folder.iterdir()
        if _is_region(region)
        for path in region.glob("*/*")
    )


def is_at(source: Path) -> bool:
    """Whether a folder is TIMIT's, or a part (TRAIN, TEST) of it."""
    return source.is_dir() and (
        _is_part(source) or any(_is_part(path) for path in source.iterdir() if path.is_dir())
    )


def read(request: Request, notes: Notes) -> Iterator[Entry | Refusal]:  # noqa: ARG001
    """The sentences of the parts that are asked for, in the order of their names."""
    for part in split_folders(request.source, request.split, _is_part):
        for folder in sorted(
            path
            for region in part.iterdir()
            if _is_region(region)
            for path in region.iterdir()
            if path.is_dir()
        ):
            siblings = Siblings(path.name for path in folder.iterdir())
            for path in sorted(folder.iterdir()):
                if path.suffix.upper() == ".TXT":
                    yield _sentence(part, path, siblings)


def _sentence(part: Path, path: Path, siblings: Siblings) -> Entry | Refusal:
    key = f"{part.name}/{path.with_suffix('').relative_to(part).as_posix()}"
    audio = siblings.beside(path.stem, ".wav") or siblings.beside(path.stem, ".flac")
    try:
        cells = read_times(path).split(maxsplit=2)
        if len(cells) != 3 or not (cells[0].isdecimal() and cells[1].isdecimal()):
            raise ValueError("TIMIT has two numbers of samples and the text")
        words = _words(path, siblings)
    except ValueError as error:
        return Refusal(Reason.UNUSABLE_TIMES, str(error), key, where=str(path))
    clip = path.with_name(audio or f"{path.stem}.WAV")
    return Entry(key, clip, cells[2], path.parent.name, key, str(path), words=words)


def _words(path: Path, siblings: Siblings) -> tuple[TimedWord, ...]:
    name = siblings.beside(path.stem, ".wrd")
    words = []
    for line in read_times(path.with_name(name)).split("\n") if name else ():
        cells = line.split()
        if len(cells) == 3 and cells[0].isdecimal() and cells[1].isdecimal():
            begin, end = int(cells[0]), int(cells[1])
            words.append(TimedWord(cells[2], begin / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ))
        elif cells:
            raise ValueError(f"{name}: {line!r:.60} is not a word with two numbers of samples")
    return tuple(words)


TIMIT = Layout("TIMIT's layout (DR1/SPEAKER/SENTENCE.TXT, .WRD)", is_at, read)
