"""The entries of a corpus of recordings: told apart from another's, checked, and made samples."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import SAMPLE_RATE_HZ, Seconds
from pipeline.shards.asked import UNLESS, heeded_by, refuse_what_it_did_not_use
from pipeline.shards.decoding import clip_seconds, encode_flac, read_sound
from pipeline.shards.recordings import Entry, key_fault
from pipeline.shards.refusals import Reason, Refusal, RefusedError
from pipeline.shards.source import Source
from pipeline.shards.writing import Sample, description


def survey(source: Source, used: set[str] | None = None) -> tuple[int, str]:
    """Number of entries, and a digest of everything they say.

    Args:
        source: the corpus.
        used: gets the paths of all files that entries name or come from.

    Raises:
        SpeechkdError: there is no entry, or a flag has changed nothing.
    """
    digest, count = hashlib.sha256(), 0
    idle = set(source.asked & UNLESS.keys())
    for entry in source.read():
        count += 1
        if idle and isinstance(entry, Entry):
            idle -= heeded_by(entry, source.audio_folder)
        if used is not None:
            where = entry.where or ""
            used |= {where, where.rpartition(", ")[0]}
            if isinstance(entry, Entry):
                used.add(str(entry.path))
        fields = dict(vars(entry)) if isinstance(entry, Entry) else entry.record()
        for name in ("words", "channel"):  # a folder begun before they were known is taken
            if not fields.get(name) and fields.get(name) != 0:
                fields.pop(name, None)
        fields = {**fields, "where": ""}  # the corpus may be moved between two runs
        if isinstance(entry, Entry):
            fields["path"] = str(entry.path).removeprefix(str(source.root))
        digest.update(json.dumps(fields).encode())
    if not count:
        raise SpeechkdError(f"{source.description} lists no recording.")
    refuse_what_it_did_not_use(idle - source.notes.heeded, source.name)
    return count, digest.hexdigest()


def checked(source: Source) -> Iterator[Entry | Refusal]:
    """The entries of a source, a refusal in place of each whose key or text cannot be used."""
    keys: set[str] = set()
    for entry in source.read():
        if isinstance(entry, Refusal):
            yield entry
            continue
        text = " ".join(entry.text.split())
        fault = key_fault(entry.key, as_path=True)
        if fault:
            yield Refusal(Reason.UNUSABLE_KEY, fault, entry.key, where=entry.where)
        elif entry.key in keys:
            detail = "an earlier entry has this key; name a column of ids with --key-column"
            yield Refusal(Reason.DUPLICATE_KEY, detail, entry.key, where=entry.where)
        elif not text:
            yield Refusal(Reason.MISSING_TEXT, "no transcript", entry.key, where=entry.where)
        else:
            yield replace(entry, text=text)
        keys.add(entry.key)


def make_sample(entry: Entry | Refusal, limit_s: int, channel: int | None) -> Sample | Refusal:
    """Decode, cut, resample and encode one entry. Runs in the workers."""
    if isinstance(entry, Refusal):
        return entry
    try:
        sound = read_sound(*_place(entry), limit_s, _channel_of(entry, channel))
        seconds = len(sound.wave_S) / SAMPLE_RATE_HZ
        content = encode_flac(sound.wave_S), description(entry, seconds)
        return Sample(entry.key, *content, seconds, sound.remarks)
    except RefusedError as refused:
        return _refusal(entry, refused)


def measure(entry: Entry | Refusal, limit_s: int, channel: int | None) -> float | Refusal:
    """Seconds of the clip that an entry would give, from the header of its file."""
    if isinstance(entry, Refusal):
        return entry
    try:
        seconds = clip_seconds(*_place(entry), limit_s, _channel_of(entry, channel))
        description(entry, seconds)
    except RefusedError as refused:
        return _refusal(entry, refused)
    return seconds


def _place(entry: Entry) -> tuple[Path, Seconds | None, Seconds | None]:
    return entry.path, entry.start_s, entry.end_s


def _channel_of(entry: Entry, channel: int | None) -> int | None:
    return channel if entry.channel is None else entry.channel


def _refusal(entry: Entry, refused: RefusedError) -> Refusal:
    detail = f"{entry.path}: {refused.detail.rstrip('.')}"
    return Refusal(refused.reason, detail, entry.key, where=entry.where)


def decoder_died(entry: Entry | Refusal) -> Refusal:
    """The refusal of an entry that ends its decoder."""
    detail = "the process that decoded it died, twice"
    return Refusal(Reason.UNDECODABLE_AUDIO, detail, entry.key, where=entry.where)
