"""A corpus of tables that hold audio: its files are parts, whose rows become entries."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.foundation.column_names import USUAL_NAMES
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.storage import local_path
from pipeline.foundation.units import SAMPLE_RATE_HZ, Seconds
from pipeline.shards.arrow import ArrowFile, Shape, rows_of, shape_of
from pipeline.shards.decoding import encode_flac, read_sound
from pipeline.shards.recording_table import RecordingColumns
from pipeline.shards.recordings import Entry, key_fault, key_of_path
from pipeline.shards.refusals import Reason, Refusal, RefusedError
from pipeline.shards.tar import MAX_MEMBER_BYTES
from pipeline.shards.writing import Sample, description

NOT_CUT = ("start", "end", "duration", "channel")
"""Fields whose columns count only if they are named: embedded audio is mostly cut already, and
such columns tell where it once lay."""
ID_COLUMNS = ("segment_id", "audio_id")


@dataclass(frozen=True)
class Part:
    """One file, with what the survey found in it."""

    number: int
    file: ArrowFile
    rows: int
    audio_bytes: int
    held_bytes: int
    """How much of its audio a reader must hold at once."""
    digest: str
    """SHA-256 of the texts and names of all rows."""
    repeated: tuple[int, ...] = ()
    """Rows whose key an earlier row of the corpus has."""


@dataclass(frozen=True)
class Plan:
    """All that decides how a part becomes tars."""

    columns: Mapping[str, str]
    """The column of each field."""
    samples_per_shard: int
    limit_s: int
    recording_pattern: str = ""
    """A regular expression whose first group finds the recording in a key."""
    channel: int | None = None
    """The one channel to take, from 0; None for the mean of all."""


def choose_columns(file: ArrowFile, wanted: RecordingColumns) -> dict[str, str]:
    """The column of each field in a corpus of files like this one.

    Args:
        file: its first file.
        wanted: names that the user gave; "" stands for the usual ones.

    Returns:
        The column by field; at least `path` (the audio) and `text`.

    Raises:
        SpeechkdError: a named column is missing, or there is none, or more than one, for the audio
            or none for the text.
    """
    shape = shape_of(file)
    listed = ", ".join(repr(name) for name in shape.columns)
    lower = {name.lower(): name for name in reversed(list(shape.columns))}
    chosen: dict[str, str] = {}
    for name, given in asdict(wanted).items():
        if given == "none" and name not in ("path", "text"):
            continue
        if given and given not in shape.columns:
            raise SpeechkdError(
                f"{file.location}: no column {given!r} (--{name}-column); its columns are {listed}."
            )
        if name == "path":
            guess = _audio_column(file, shape)
        elif name in NOT_CUT:
            guess = ""
        else:
            usual = (*USUAL_NAMES[name].split(), *(ID_COLUMNS if name == "key" else ()))
            guess = next((lower[n] for n in usual if n in lower), "")
        column = given or guess
        if column and column not in chosen.values():
            chosen[name] = column
        elif name in ("path", "text"):
            kind = "audio" if name == "path" else "text"
            raise SpeechkdError(
                f"{file.location}: no column for the {kind}; its columns are {listed}. Name one "
                f"with --{name}-column."
            )
    return chosen


def _audio_column(file: ArrowFile, shape: Shape) -> str:
    for kinds in (("audio",), ("bytes",)):
        columns = [name for name, kind in shape.columns.items() if kind in kinds]
        if len(columns) > 1 and "audio" in columns:
            return "audio"
        if len(columns) > 1:
            raise SpeechkdError(
                f"{file.location}: several columns of audio ({', '.join(columns)}). Name one with "
                "--path-column."
            )
        if columns:
            return columns[0]
    usual = USUAL_NAMES["path"].split()
    return next((name for name in shape.columns if name.lower() in usual), "")


Clip = tuple[Entry, bytes | None]
"""An entry, and its audio if the table holds it."""


def key_of_row(file: ArrowFile, row: int, cell: Any) -> str:
    """A row's key: its own id, without a suffix of audio, or else its file and number.

    Args:
        file: the row's file.
        row: its number, from 0.
        cell: its id as the table has it; None if there is no column of ids.
    """
    name = _named(cell)
    return f"{file.name}/{row:06d}" if name is None else key_of_path(name)


def entries_of(
    part: Part, plan: Plan, skip: int, most: int | None = None
) -> Iterator[Clip | Refusal]:
    """The rows of a part as entries with their audio, one at a time.

    A row whose key or text cannot be used comes as a refusal.

    Args:
        part: the part.
        plan: says what its columns mean.
        skip: the first row.
        most: rows to read; None for all the others.
    """
    repeated = frozenset(part.repeated)
    with closing(rows_of(part.file, list(plan.columns.values()), skip, most)) as rows:
        for row, cells in rows:
            fields = {name: cells[column] for name, column in plan.columns.items()}
            yield _entry(part, plan, row, fields, is_repeated=row in repeated)


def _entry(
    part: Part, plan: Plan, row: int, fields: dict[str, Any], *, is_repeated: bool
) -> Clip | Refusal:
    key = key_of_row(part.file, row, fields.get("key"))
    where = f"{part.file.location}, row {row + 1}"
    text = fields["text"]
    fault = key_fault(key, as_path=True)
    if fault:
        return Refusal(Reason.UNUSABLE_KEY, fault, key, where=where)
    if is_repeated:
        detail = "an earlier row has this key; name a column of ids with --key-column"
        return Refusal(Reason.DUPLICATE_KEY, detail, key, where=where)
    if text is not None and not isinstance(text, str):
        detail = f"the text is of the kind {type(text).__name__}"
        return Refusal(Reason.UNUSABLE_TEXT, detail, key, where=where)
    text = " ".join((text or "").split())
    if not text:
        return Refusal(Reason.MISSING_TEXT, "no transcript", key, where=where)
    try:
        start_s, end_s = _seconds(fields.get("start")), _seconds(fields.get("end"))
        length_s = _seconds(fields.get("duration"))
        if length_s is not None and end_s is None:
            end_s = (start_s or 0.0) + length_s
        content, path = _audio(part, fields["path"])
    except RefusedError as refused:
        return Refusal(refused.reason, refused.detail, key, where=where)
    recording = _named(fields.get("recording")) or _recording(key, plan.recording_pattern)
    speaker = _named(fields.get("speaker"))
    return Entry(key, path, text, speaker, recording, where, start_s, end_s), content


def _recording(key: str, pattern: str) -> str:
    match = re.search(pattern, key) if pattern else None
    return (match[1] or key) if match else key


def _named(value: Any) -> str | None:
    """A name, whatever kind of value the column has; a blank one and NaN are unknown."""
    if value is None or value != value:
        return None
    return str(value).strip() or None


def _seconds(value: Any) -> Seconds | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise RefusedError(Reason.OUTSIDE, f"the time {value!r} is not a number of seconds")
    return float(value)


def _audio(part: Part, cell: Any) -> tuple[bytes | None, Path]:
    """The audio of a row: bytes, or a path beside the table; and a name for messages."""
    if isinstance(cell, Mapping):
        content, name = cell.get("bytes"), cell.get("path")
    else:
        content, name = (cell, None) if isinstance(cell, bytes) else (None, cell)
    if isinstance(content, bytes):
        if len(content) > MAX_MEMBER_BYTES:
            raise RefusedError(Reason.MEMBER_TOO_LARGE, f"{len(content):,} bytes of audio")
        return content, Path(str(name or "audio"))
    folder = local_path(part.file.location)
    if not isinstance(name, str) or not name or "\0" in name:
        raise RefusedError(Reason.MISSING_AUDIO, "the row has neither bytes nor a path")
    if folder is None:
        raise RefusedError(Reason.MISSING_AUDIO, f"only the path {name!r:.200}, and no bytes")
    return None, folder.parent / name


@dataclass(frozen=True)
class Make:
    """Makes the sample of a row; it can be sent to a worker."""

    limit_s: int
    channel: int | None = None

    def __call__(self, clip: Clip | Refusal) -> Sample | Refusal:
        """Decode, resample and encode one clip."""
        if isinstance(clip, Refusal):
            return clip
        entry, content = clip
        source = entry.path if content is None else content
        try:
            sound = read_sound(source, entry.start_s, entry.end_s, self.limit_s, self.channel)
            seconds = len(sound.wave_S) / SAMPLE_RATE_HZ
            members = encode_flac(sound.wave_S), description(entry, seconds)
            return Sample(entry.key, *members, seconds, sound.remarks)
        except RefusedError as refused:
            detail = refused.detail.rstrip(".")
            return Refusal(refused.reason, detail, entry.key, where=entry.where)


def lost_clip(clip: Clip | Refusal) -> Sample | Refusal:
    """The refusal of a clip that ends its decoder."""
    entry = clip if isinstance(clip, Refusal) else clip[0]
    detail = "the process that decoded it died, twice"
    return Refusal(Reason.UNDECODABLE_AUDIO, detail, entry.key, where=entry.where)
