"""A table of recordings: what its columns mean, and its rows as entries."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.tables import Row, column_names, text_rows
from pipeline.foundation.units import Seconds
from pipeline.shards.recordings import Entry, key_of_path
from pipeline.shards.refusals import Reason, Refusal

USUAL_NAMES = {
    "path": "path audio_filepath audio_path audio_file audio file_name filename filepath file wav",
    "text": "text sentence transcript transcription normalized_text normalized_transcript",
    "key": "key utt_id utterance_id id sample_id",
    "speaker": "speaker speaker_id client_id spk_id spk",
    "recording": "recording recording_id video_id audio_id session_id",
    "start": "start start_s start_time start_seconds offset begin",
    "end": "end end_s end_time end_seconds stop",
    "duration": "duration duration_s",
}


@dataclass(frozen=True)
class RecordingColumns:
    """Names of a table's columns as the user gave them; "" stands for the usual names."""

    path: str = ""
    text: str = ""
    key: str = ""
    speaker: str = ""
    recording: str = ""
    start: str = ""
    end: str = ""
    duration: str = ""


def choose_columns(table: Path, columns: RecordingColumns) -> dict[str, str]:
    """Find the column of `table` for each field of `RecordingColumns`.

    Durations count only if there are starts and no ends (as in NeMo's manifests: `offset`,
    `duration`). Otherwise such a column only repeats a recording's length.

    Returns:
        The name of the column by field, for the fields that have one.

    Raises:
        SpeechkdError: a named column is missing, or path or text has none.
    """
    present = column_names(table)
    listed = ", ".join(map(repr, present))
    lower = {name.lower(): name for name in reversed(present)}
    chosen = {}
    for name, wanted in asdict(columns).items():
        usual = USUAL_NAMES[name].split()
        if wanted and wanted not in present:
            raise SpeechkdError(
                f"{table}: no column {wanted!r} (--{name}-column); its columns are {listed}."
            )
        column = wanted or next((lower[n] for n in usual if n in lower), "")
        if column:
            chosen[name] = column
        elif name in ("path", "text"):
            raise SpeechkdError(
                f"{table}: no column for the {name} (looked for {', '.join(usual)}); its columns "
                f"are {listed}. Name one with --{name}-column."
            )
    if not columns.duration and ("start" not in chosen or "end" in chosen):
        chosen.pop("duration", None)
    return chosen


def table_entries(table: Path, chosen: dict[str, str], folder: Path) -> Iterator[Entry | Refusal]:
    """Yield an entry or a refusal for each row.

    Args:
        table: the table.
        chosen: its columns, from `choose_columns`.
        folder: what relative paths start from.

    Raises:
        SpeechkdError: the table cannot be read.
    """
    for row in text_rows(table):
        yield _entry(row, chosen, folder, f"{table}, line {row.line}")


def _entry(row: Row, chosen: dict[str, str], folder: Path, where: str) -> Entry | Refusal:
    if row.fault:
        return Refusal(Reason.MALFORMED_ROW, row.fault, f"line {row.line}", where=where)
    cell = {name: row.cells.get(column, "").strip() for name, column in chosen.items()}
    key = cell.get("key", "")
    if not cell["path"] or "\0" in cell["path"]:
        detail = f"the cell {chosen['path']!r} is empty or holds a NUL"
        return Refusal(Reason.MISSING_AUDIO, detail, key or f"line {row.line}", where=where)
    path = folder / cell["path"]
    inside = path.relative_to(folder) if path.is_relative_to(folder) else path
    stem = key_of_path(inside.as_posix())
    try:
        start_s, end_s = _seconds(cell.get("start")), _seconds(cell.get("end"))
        length_s = _seconds(cell.get("duration"))
    except ValueError as error:
        return Refusal(Reason.OUTSIDE, str(error), key or stem, where=where)
    if length_s is not None and end_s is None:
        end_s = (start_s or 0.0) + length_s
    if not key and (start_s is not None or end_s is not None):
        end = "end" if end_s is None else f"{end_s:.3f}"
        key = f"{stem}_{start_s or 0.0:.3f}_{end}"
    return Entry(
        key=key or stem,
        path=path,
        text=cell["text"],
        speaker=cell.get("speaker") or None,
        recording=cell.get("recording") or stem,
        where=where,
        start_s=start_s,
        end_s=end_s,
    )


def _seconds(cell: str | None) -> Seconds | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"the time {cell!r} is not a number of seconds") from None
    if not math.isfinite(value):
        raise ValueError(f"the time {cell!r} is not finite")
    return value
