"""lhotse's manifests (https://lhotse.readthedocs.io): cuts, or recordings with supervisions.

They are JSON lines, mostly compressed. A source that is a command or an address is not read, and
neither is a cut that mixes or changes audio, because the audio would be another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.foundation.compressed import plain_suffix
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.tables import json_lines
from pipeline.foundation.units import Seconds
from pipeline.shards.layouts.layout import Layout, Request
from pipeline.shards.recordings import Entry
from pipeline.shards.refusals import Reason, Refusal, RefusedError
from pipeline.shards.timed import Notes, entries_of
from pipeline.shards.transcripts.numbers import seconds
from pipeline.shards.transcripts.segment import Segment, TimedWord

CUTS, RECORDINGS, SUPERVISIONS = "cuts", "recordings", "supervisions"


def is_at(source: Path) -> bool:
    """Whether a source is lhotse's, by the names that lhotse gives, or by its first line."""
    if source.is_file():
        try:
            return plain_suffix(source) == ".jsonl" and _kind(source) in (CUTS, SUPERVISIONS)
        except SpeechkdError:  # whoever reads it as a table says what is wrong with it
            return False
    return source.is_dir() and bool(_listed(source))


def read(request: Request, notes: Notes) -> Iterator[Entry | Refusal]:
    """The supervisions of a manifest, each an entry.

    Raises:
        SpeechkdError: several splits and none is named, or supervisions without recordings.
    """
    listing = request.source
    if listing.is_dir():
        listing = _chosen(listing, request.split)
    audio = request.audio_folder or listing.parent
    if _kind(listing) == CUTS:
        yield from _cuts(listing, audio, request, notes)
    else:
        yield from _supervisions(listing, audio, request, notes)


def _kind(path: Path) -> str:
    """What a file lists, by its first object."""
    first = next((record for _, record in json_lines(path)), None)
    if not isinstance(first, dict):
        return ""
    if "sources" in first and "sampling_rate" in first:
        return RECORDINGS
    if str(first.get("type", "")).endswith("Cut") or ("supervisions" in first and "start" in first):
        return CUTS
    return SUPERVISIONS if {"recording_id", "start", "duration"} <= set(first) else ""


def _listed(folder: Path) -> dict[str, Path]:
    """The listings of a folder by split: supervisions that have recordings, else cuts."""
    found: dict[str, Path] = {}
    names = {path.name: path for path in sorted(folder.iterdir()) if plain_suffix(path) == ".jsonl"}
    for kind in (CUTS, SUPERVISIONS):
        for name, path in names.items():
            stem = name.partition(".jsonl")[0]
            if kind in stem.split("_") and (
                kind == CUTS or name.replace(SUPERVISIONS, RECORDINGS) in names
            ):
                split = "_".join(part for part in stem.split("_") if part != kind)
                found[split] = path
    return found


def _chosen(folder: Path, split: str) -> Path:
    listed = _listed(folder)
    if not split and len(listed) == 1:
        return next(iter(listed.values()))
    chosen = [name for name in listed if split and split in (name, name.rpartition("_")[2])]
    if len(chosen) != 1:
        names = ", ".join(listed)
        raise SpeechkdError(f"{folder}: its splits are {names}. Name one with --split.")
    return listed[chosen[0]]


@dataclass(frozen=True)
class _Recording:
    path: Path
    channels: tuple[int, ...]

    def channel(self, wanted: Any) -> int | None:
        """The place of a channel in the file; None if the file has no other."""
        if isinstance(wanted, list):
            wanted = wanted[0] if len(wanted) == 1 else None
        if wanted is None or len(self.channels) < 2:
            return None
        if wanted not in self.channels:
            raise RefusedError(Reason.OUTSIDE, f"the recording has no channel {wanted!r}")
        return self.channels.index(wanted)


def _recording(record: Any, folder: Path) -> _Recording:
    """A recording whose audio lies in one file, as it is.

    Raises:
        RefusedError: it is another one.
    """
    sources = record.get("sources") if isinstance(record, dict) else None
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        count = len(sources) if isinstance(sources, list) else 0
        raise RefusedError(Reason.MISSING_AUDIO, f"the recording has {count} sources, not one file")
    kind, path = sources[0].get("type"), sources[0].get("source")
    if kind != "file" or not isinstance(path, str) or "\0" in path:
        detail = f"the recording's source is of the type {kind!r}; only files are read"
        raise RefusedError(Reason.MISSING_AUDIO, detail)
    if record.get("transforms"):
        detail = "the recording has transforms, which are not applied; save its audio first"
        raise RefusedError(Reason.MISSING_AUDIO, detail)
    channels = sources[0].get("channels")
    known = channels if isinstance(channels, list) else [0]
    return _Recording(folder / path, tuple(c for c in known if isinstance(c, int)))


def _supervisions(
    listing: Path, folder: Path, request: Request, notes: Notes
) -> Iterator[Entry | Refusal]:
    beside = listing.with_name(listing.name.replace(SUPERVISIONS, RECORDINGS))
    if beside == listing or not beside.is_file():
        raise SpeechkdError(
            f"{listing}: supervisions without recordings. Put the manifest of recordings beside "
            f"them ({listing.name} needs {beside.name}), or name cuts."
        )
    notes.used |= {str(beside), str(listing)}
    recordings: dict[str, _Recording | RefusedError] = {}
    for where, record in json_lines(beside):
        name = str(record.get("id")) if isinstance(record, dict) else where
        try:
            recordings[name] = _recording(record, folder)
        except RefusedError as refused:
            recordings[name] = refused
    segments: dict[str, list[Segment]] = {}
    for where, record in json_lines(listing):
        key = str(record.get("id")) if isinstance(record, dict) else where
        try:
            if not isinstance(record, dict):
                raise RefusedError(Reason.MALFORMED_ROW, "not a JSON object")
            name = str(record.get("recording_id"))
            recording = recordings.get(name)
            if recording is None:
                raise RefusedError(Reason.MISSING_AUDIO, f"no recording {name!r} in {beside.name}")
            if isinstance(recording, RefusedError):
                raise recording
            segment = _segment(record, 0.0, recording)
            segments.setdefault(name, []).append(segment)
        except RefusedError as refused:
            yield Refusal(refused.reason, refused.detail, key, where=where)
    for name, found in segments.items():
        recording = recordings[name]
        if isinstance(recording, _Recording):
            args = (name, recording.path, found, str(listing), request.cutting, notes)
            yield from entries_of(*args)


def _cuts(listing: Path, folder: Path, request: Request, notes: Notes) -> Iterator[Entry | Refusal]:
    for where, record in json_lines(listing):
        key = str(record.get("id")) if isinstance(record, dict) else where
        try:
            if not isinstance(record, dict):
                raise RefusedError(Reason.MALFORMED_ROW, "not a JSON object")
            kind = record.get("type", "MonoCut")
            if kind not in ("MonoCut", "MultiCut", "Cut"):
                detail = f"a {kind} is made of several recordings; save its audio first"
                raise RefusedError(Reason.MISSING_AUDIO, detail)
            recording = _recording(record.get("recording"), folder)
            name = str(record["recording"].get("id"))
            start_s = _time(record.get("start"), "start of the cut")
            spoken = record.get("supervisions")
            if not isinstance(spoken, list) or not spoken:
                raise RefusedError(Reason.MISSING_TEXT, "the cut has no supervision")
            segments = [_segment(one, start_s, recording) for one in spoken]
        except RefusedError as refused:
            yield Refusal(refused.reason, refused.detail, key, where=where)
            continue
        yield from entries_of(name, recording.path, segments, where, request.cutting, notes)


def _segment(record: Any, offset_s: Seconds, recording: _Recording) -> Segment:
    """A supervision as a segment; its times count from `offset_s` in the recording."""
    if not isinstance(record, dict):
        raise RefusedError(Reason.MALFORMED_ROW, "a supervision is no JSON object")
    text, speaker = record.get("text"), record.get("speaker")
    if not isinstance(text, str) or not text.strip():
        raise RefusedError(Reason.MISSING_TEXT, f"the text is {text!r:.40}")
    start_s = _time(record.get("start"), "start") + offset_s
    return Segment(
        start_s,
        start_s + _time(record.get("duration"), "duration"),
        text,
        str(speaker) if speaker else None,
        _words(record.get("alignment"), offset_s),
        recording.channel(record.get("channel")),
        str(record.get("id") or ""),
    )


def _words(alignment: Any, offset_s: Seconds) -> tuple[TimedWord, ...]:
    """Times of words, `[symbol, start, duration, score]` each."""
    items = alignment.get("word") if isinstance(alignment, Mapping) else None
    words = []
    for item in items if isinstance(items, list) else ():
        cells = list(item.values()) if isinstance(item, dict) else item
        if not isinstance(cells, list) or len(cells) < 3:
            raise RefusedError(Reason.UNUSABLE_TIMES, f"a word of the alignment is {item!r:.60}")
        start_s = _time(cells[1], "start of a word") + offset_s
        end_s = start_s + _time(cells[2], "duration of a word")
        if str(cells[0]).strip():
            words.append(TimedWord(str(cells[0]).strip(), start_s, end_s))
    return tuple(words)


def _time(value: Any, what: str) -> Seconds:
    try:
        return seconds(value, what)
    except ValueError as error:
        raise RefusedError(Reason.OUTSIDE, str(error)) from None


LHOTSE = Layout("lhotse's manifests (cuts, or recordings with supervisions)", is_at, read)
