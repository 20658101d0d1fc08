"""Kaldi's data folders: wav.scp, text, segments, utt2spk (kaldi-asr.org/doc/data_prep.html).

A line of wav.scp that ends in a bar is a command. It is refused, never run.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.foundation.tables import read_text
from pipeline.shards.layouts.layout import Layout, Request, split_folders
from pipeline.shards.recordings import Entry
from pipeline.shards.refusals import Reason, Refusal
from pipeline.shards.timed import Notes, entries_of
from pipeline.shards.transcripts.numbers import seconds
from pipeline.shards.transcripts.segment import Segment

_OFFSET = re.compile(r"\.ark:\d+(?:\[.*\])?")


def is_at(source: Path) -> bool:
    """Whether a folder, or each of its sub-folders, holds wav.scp and text."""
    return source.is_dir() and (
        _is_data(source) or any(_is_data(path) for path in source.iterdir() if path.is_dir())
    )


def read(request: Request, notes: Notes) -> Iterator[Entry | Refusal]:
    """The utterances of a data folder; relative paths start at it, or at --audio-folder.

    Raises:
        SpeechkdError: wav.scp runs a command, points into an archive, or a line is broken.
    """
    for folder in split_folders(request.source, request.split, _is_data):
        audio = request.audio_folder or folder
        notes.used |= {str(folder / name) for name in ("wav.scp", "text", "segments", "utt2spk")}
        texts, speakers = _table(folder / "text"), _table(folder / "utt2spk")
        recordings = {
            name: audio / _path(folder, name, path)
            for name, path in _table(folder / "wav.scp").items()
        }
        if (folder / "segments").is_file():
            yield from _segments(request, folder, recordings, texts, speakers, notes)
            continue
        for name, path in recordings.items():
            where = f"{folder / 'wav.scp'}, {name}"
            yield Entry(name, path, texts.pop(name, ""), _speaker(name, speakers), name, where)
        yield from _without_audio(folder, texts)


def _segments(
    request: Request,
    folder: Path,
    recordings: dict[str, Path],
    texts: dict[str, str],
    speakers: dict[str, str],
    notes: Notes,
) -> Iterator[Entry | Refusal]:
    by_recording: dict[str, list[Segment]] = {}
    for name, cells in _table(folder / "segments").items():
        where = f"{folder / 'segments'}, {name}"
        parts = cells.split()
        if len(parts) != 3:
            detail = f"{len(parts) + 1} fields; segments has utterance, recording, start, end"
            yield Refusal(Reason.MALFORMED_ROW, detail, name, where=where)
            continue
        recording, *times = parts
        try:
            start_s, end_s = (seconds(time, "a time") for time in times)
        except ValueError as error:
            yield Refusal(Reason.OUTSIDE, str(error), name, where=where)
            continue
        text, speaker = texts.pop(name, ""), _speaker(name, speakers)
        if recording not in recordings:
            detail = f"wav.scp has no recording {recording!r}"
            yield Refusal(Reason.MISSING_AUDIO, detail, name, where=where)
        elif not text.strip():
            yield Refusal(Reason.MISSING_TEXT, "text has no line of it", name, where=where)
        elif end_s == -1:  # Kaldi's way to say: to the end
            path = recordings[recording]
            yield Entry(name, path, text, speaker, recording, where, start_s)
        else:
            segment = Segment(start_s, end_s, text, speaker, key=name)
            by_recording.setdefault(recording, []).append(segment)
    for recording, segments in by_recording.items():
        path, where = recordings[recording], str(folder / "segments")
        yield from entries_of(recording, path, segments, where, request.cutting, notes)
    yield from _without_audio(folder, texts)


def _without_audio(folder: Path, texts: dict[str, str]) -> Iterator[Refusal]:
    for name in texts:
        detail = "neither segments nor wav.scp has it"
        yield Refusal(Reason.MISSING_AUDIO, detail, name, where=f"{folder / 'text'}, {name}")


def _is_data(folder: Path) -> bool:
    return (folder / "wav.scp").is_file() and (folder / "text").is_file()


def _table(path: Path) -> dict[str, str]:
    """Lines of a name and the rest; none if there is no such file."""
    table: dict[str, str] = {}
    if not path.is_file():
        return table
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        name, _, rest = line.strip().replace("\t", " ", 1).partition(" ")
        if name in table:
            raise Damaged(f"{path}, line {number}: {name!r} stands there twice; remove one.")
        if name:
            table[name] = rest.strip()
    return table


def _path(folder: Path, name: str, path: str) -> str:
    if path.endswith("|") or path.startswith("|") or path == "-":
        raise SpeechkdError(
            f"{folder / 'wav.scp'}: the recording {name!r} is a command ({path[:80]!r}), which is "
            "not run. Write its output to files first, and name them there."
        )
    if _OFFSET.search(path):
        raise SpeechkdError(
            f"{folder / 'wav.scp'}: the recording {name!r} lies in an archive ({path[:80]!r}), "
            "which is not read. Copy it out with wav-copy first."
        )
    return path


def _speaker(name: str, speakers: dict[str, str]) -> str | None:
    """The speaker; where utt2spk repeats the utterance, Kaldi's way to say that none is known."""
    speaker = speakers.get(name)
    return None if speaker in ("", name) else speaker


KALDI = Layout("Kaldi's layout (wav.scp, text, segments, utt2spk)", is_at, read)
