"""A table of recordings: what its columns mean, and its rows as entries."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.foundation.column_names import USUAL_NAMES, usual_column
from pipeline.foundation.compressed import plain_suffix
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.tables import Row, cell_text, column_names, read_rows, text_rows
from pipeline.shards.recordings import Entry, key_of_path
from pipeline.shards.refusals import Reason, Refusal
from pipeline.shards.time_columns import NONE, ROLES, choose_times, time_of


@dataclass(frozen=True)
class RecordingColumns:
    """Names of a table's columns as the user gave them.

    "" stands for the usual names, and `none` for no column.
    """

    path: str = ""
    text: str = ""
    key: str = ""
    speaker: str = ""
    recording: str = ""
    start: str = ""
    end: str = ""
    duration: str = ""
    channel: str = ""
    """Of the channel of each row; it is never guessed."""


def choose_columns(table: Path, columns: RecordingColumns) -> dict[str, str]:
    """Find the column of `table` for each field of `RecordingColumns`.

    Returns:
        The name of the column by field, for the fields that have one.

    Raises:
        SpeechkdError: a named column is missing, path or text has none, or it is not certain
            which columns are times (`choose_times`).
    """
    present = recording_columns(table)
    listed = ", ".join(map(repr, present))
    named = asdict(columns)
    for name, wanted in named.items():
        if wanted and wanted != NONE and wanted not in present:
            raise SpeechkdError(
                f"{table}: no column {wanted!r} (--{name}-column); its columns are {listed}."
            )
    chosen: dict[str, str] = {}
    for name, usual in USUAL_NAMES.items():
        wanted = named[name]
        if wanted == NONE and NONE not in present:
            column = ""
        else:
            column = wanted or usual_column(name, present)
        if column:
            chosen[name] = column
        elif name in ("path", "text"):
            looked = ", ".join(usual.split())
            raise SpeechkdError(
                f"{table}: no column for the {name} (looked for {looked}); its columns "
                f"are {listed}. Name one with --{name}-column."
            )
    if columns.channel and columns.channel != NONE:
        chosen["channel"] = columns.channel
    times = choose_times(
        str(table), present, {role: named[role] for role in ROLES}, set(chosen.values())
    )
    return chosen | {str(role): column for role, column in times.items()}


def recording_columns(table: Path) -> list[str]:
    """Names of a table's columns; a `.json` may hold JSON lines, as NeMo's manifests do."""
    if _is_whole_json(table):
        return read_rows(table)[0]
    return column_names(table)


def recording_rows(table: Path) -> Iterator[Row]:
    """The rows of a table of recordings."""
    if not _is_whole_json(table):
        yield from text_rows(table)
        return
    for number, (_, row) in enumerate(read_rows(table)[1], start=1):
        yield Row(number, {name: cell_text(value) for name, value in row.items()})


def _is_whole_json(table: Path) -> bool:
    """Whether a `.json` is one value, not a line per row."""
    if plain_suffix(table) != ".json":
        return False
    first = next(text_rows(table), None)
    return first is None or bool(first.fault)


def table_entries(
    table: Path, chosen: dict[str, str], folder: Path, *, repeats: bool = False
) -> Iterator[Entry | Refusal]:
    """Yield an entry or a refusal for each row.

    Args:
        table: the table.
        chosen: its columns, from `choose_columns`.
        folder: what relative paths start from.
        repeats: whether several rows may have one recording and no times.

    Raises:
        SpeechkdError: the table cannot be read, or several rows have one recording, no times, and
            no leave to.
    """
    first_rows: dict[Path, int] = {}
    for row in recording_rows(table):
        entry = _entry(row, chosen, folder, f"{table}, line {row.line}")
        if isinstance(entry, Entry) and entry.start_s is None and entry.end_s is None:
            first = first_rows.setdefault(entry.path, row.line)
            if first != row.line and not repeats:
                raise SpeechkdError(
                    f"{table}: lines {first} and {row.line} both are the whole of {entry.path}, "
                    "because they have no times. Name the columns of times (--start-column, "
                    "--end-column or --duration-column); or, if each text is that of the whole "
                    "recording, say --start-column none."
                )
        yield entry


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
        start_s, end_s, length_s = (
            time_of(cell[role], chosen[role]) if role in cell else None for role in ROLES
        )
    except ValueError as error:
        return Refusal(Reason.OUTSIDE, str(error), key or stem, where=where)
    try:
        channel = channel_of(cell.get("channel", ""))
    except ValueError as error:
        return Refusal(Reason.MALFORMED_ROW, str(error), key or stem, where=where)
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
        channel=channel,
    )


def channel_of(cell: str) -> int | None:
    """The channel that a cell means, from 0; None for the mean of all.

    Args:
        cell: a number from 1 on, or a letter from A on; empty for none.

    Raises:
        ValueError: it is neither.
    """
    cell = cell.strip()
    if not cell:
        return None
    if cell.isdecimal() and len(cell) < 5 and int(cell) > 0:
        return int(cell) - 1
    if len(cell) == 1 and cell.isascii() and cell.isalpha():
        return ord(cell.upper()) - ord("A")
    raise ValueError(f"the channel {cell[:20]!r} is neither a number from 1 on nor a letter")
