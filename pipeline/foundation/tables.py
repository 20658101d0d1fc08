"""Rows of a table: CSV, TSV, JSON lines, JSON or Parquet, each row with its place for messages."""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.foundation.compressed import opened_plain, plain_suffix
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError, Unreachable
from pipeline.foundation.guarded import guarded
from pipeline.foundation.progress import counted
from pipeline.foundation.untrusted import check_size, parse_json

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
MAX_CELL_CHARACTERS = 1_000_000
MAX_LINE_CHARACTERS = 16 * MAX_CELL_CHARACTERS
PARQUET_ROWS = 256  # read at once

Placed = tuple[str, Mapping[str, Any]]
"""A row and its place in the file, for messages."""


@dataclass(frozen=True)
class Row:
    """One row of a text table; a row with a `fault` (what is wrong with it) has no cells."""

    line: int
    cells: dict[str, str]
    fault: str = ""


def column_names(path: Path) -> list[str]:
    """Names of the table's columns; of JSON lines, the fields of all objects.

    Raises:
        SpeechkdError: the file is missing, empty, not UTF-8, or not a table of its kind.
    """
    if _is_json(path):
        names: dict[str, None] = {}
        fault = "it is empty; each of its lines must be a JSON object"
        for row in text_rows(path):
            names.update(dict.fromkeys(row.cells))
            if row.fault and not names:
                fault = f"line {row.line}: {row.fault}"
                break
        if names:
            return list(names)
        raise Damaged(f"{path}, {fault}.")
    _, header, delimiter, _ = _headed(path)
    if not header:
        raise Damaged(f"{path} is empty; its first line must name the columns.")
    return [name.strip() for name in _split(header, delimiter, path)]


def text_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a text table in order, broken ones with their fault; skip blank lines.

    CSV follows RFC 4180, with a comma, semicolon, tab or bar as the header shows, or as a
    spreadsheet's line `sep=;` before it says. TSV has no
    quoting, as in Common Voice, except that a cell which only a quoting writer can have made
    (in quotes, with every quote inside doubled) is unquoted. A JSON value that is not text is
    given as JSON text, null as an empty cell.

    Raises:
        SpeechkdError: the file is missing, not UTF-8, or its quoting cannot be followed.
    """
    if _is_json(path):
        yield from _json_rows(path)
    elif plain_suffix(path) == ".tsv":
        yield from _tsv_rows(path)
    else:
        yield from _csv_rows(path)


def read_rows(path: Path) -> tuple[list[str], Iterator[Placed]]:
    """Column names of a table, and its rows, each with its place in the file for messages.

    Args:
        path: CSV, TSV or JSON lines as `text_rows` reads them, Parquet, or JSON (a list of
            objects, or an object of objects, whose keys become the column `id`).

    Raises:
        SpeechkdError: the file is missing or is no such table, or a row is broken.
    """
    kind = plain_suffix(path)
    if path.is_file():
        check_size(str(path), path.stat().st_size)
    if kind == ".parquet":
        return _parquet_rows(path)
    if kind == ".json":
        return _json_object_rows(path)
    rows = [(f"line {row.line}", _sound(row, path)) for row in text_rows(path)]
    if kind in (".jsonl", ".ndjson"):  # a field that is unknown may be left out of an object
        return list(dict.fromkeys(name for _, row in rows for name in row)), iter(rows)
    return column_names(path), iter(rows)


def stream_rows(path: Path) -> tuple[list[str], Iterator[Placed]]:
    """The same as `read_rows`, of text tables row by row, for tables of any size.

    A row that is broken is told when it is reached.
    """
    if plain_suffix(path) not in SUFFIXES:
        return read_rows(path)
    names = column_names(path)
    return names, ((f"line {row.line}", _sound(row, path)) for row in text_rows(path))


def text_lines(path: Path) -> Iterator[Placed]:
    """The lines of a plain text file that are not blank, each as a row with the one column `text`.

    Raises:
        SpeechkdError: the file is missing, not UTF-8, or has a line of too many characters.
    """
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield f"line {number}", {"text": line.strip()}


def read_text(path: Path) -> str:
    """Whole text of a UTF-8 file, a byte order mark left out.

    Raises:
        SpeechkdError: the file is missing, unreadable or not UTF-8.
    """
    if path.is_file():
        check_size(str(path), path.stat().st_size)
    return "".join(_lines(path))


def pyarrow_for(path: Path) -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`, which only Parquet tables need.

    Args:
        path: the table, for the message.

    Raises:
        SpeechkdError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise SpeechkdError(
            f"{path}: Parquet needs pyarrow, which is not installed. `pip install pyarrow`, or "
            "use CSV or JSON lines."
        ) from None
    return pyarrow, parquet


def pyarrow_faults(arrow: Any) -> tuple[type[Exception], ...]:
    """What `pyarrow` raises of a broken file: its own kinds, and C++'s as Cython gives them."""
    of_cpp = (OSError, ValueError, TypeError, KeyError, IndexError, ArithmeticError, RuntimeError)
    return (arrow.ArrowException, *of_cpp)


def _lines(path: Path) -> Iterator[str]:
    try:
        with (
            opened_plain(path) as content,
            io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as file,
        ):
            while line := file.readline(MAX_LINE_CHARACTERS):
                if len(line) == MAX_LINE_CHARACTERS:
                    raise SpeechkdError(
                        f"{path} has a line of over {MAX_LINE_CHARACTERS:,} characters; is it a "
                        "table?"
                    )
                yield line
    except FileNotFoundError:
        raise NotThere(f"{path}: there is no such file; check the path.") from None
    except UnicodeDecodeError as error:
        raise Damaged(
            f"{path}, line {_first_bad_line(path)}: not UTF-8 text (byte "
            f"0x{error.object[error.start]:02x}); save the file as UTF-8, for instance "
            f"`iconv -f {_encoding(path)} -t UTF-8 {path.name} > utf8{path.suffix}`."
        ) from None
    except OSError as error:
        raise Unreachable(f"{path} cannot be read: {error.strerror}.") from None


def _encoding(path: Path) -> str:
    """What a file that is not UTF-8 most likely is."""
    with opened_plain(path) as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "UTF-16" if marked else "WINDOWS-1252"


def _first_bad_line(path: Path) -> int:
    """Number of the first line that is not UTF-8; the reader, which takes blocks, cannot tell."""
    with opened_plain(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _is_json(path: Path) -> bool:
    return plain_suffix(path) in (".jsonl", ".ndjson", ".json")


def _headed(path: Path) -> tuple[Iterator[str], str, str, int]:
    """The lines after the header, the header, the delimiter, and the header's line number."""
    lines = _lines(path)
    header, number = next(lines, ""), 1
    named = _SEPARATOR.fullmatch(header)
    if named and plain_suffix(path) != ".tsv":
        return lines, next(lines, ""), named[1], number + 1
    return lines, header, _delimiter(path, header), number


def _delimiter(path: Path, header: str) -> str:
    if plain_suffix(path) == ".tsv":
        return "\t"
    return max(",;\t|", key=header.count)


def _split(line: str, delimiter: str, path: Path) -> list[str]:
    if plain_suffix(path) == ".tsv":
        return [_unquoted(cell) for cell in line.rstrip("\r\n").split("\t")]
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:
        raise Damaged(f"{path}: its first line cannot be read ({error}).") from None


def _csv_rows(path: Path) -> Iterator[Row]:
    lines, header, delimiter, before = _headed(path)
    names = _names(_split(header, delimiter, path), path)
    # strict: else a quote that is never closed swallows all rows after it without a word
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begin = before + 1
    try:
        for values in reader:
            if values:
                yield _row(begin, names, values)
            begin = reader.line_num + before + 1
    except csv.Error as error:
        raise Damaged(
            f"{path}: the row that begins on line {begin} cannot be read ({error}). Close its "
            'quotes, and write a quote inside quotes twice ("").'
        ) from None


def _tsv_rows(path: Path) -> Iterator[Row]:
    names: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        values = _split(line, "\t", path)
        if not names:
            names = _names(values, path)
        elif values != [""]:
            yield _row(number, names, values)


def _names(values: list[str], path: Path) -> list[str]:
    names = [value.strip() for value in values]
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise SpeechkdError(f"{path} has two columns called {twice[0]}; rename one.")
    return names


def _row(line: int, names: list[str], values: list[str]) -> Row:
    if len(values) != len(names):
        return Row(line, {}, f"{counted(len(values), 'cell')} where the header has {len(names)}")
    return Row(line, dict(zip(names, values, strict=True)))


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The values of a file of JSON lines, each with its place for messages.

    Raises:
        SpeechkdError: the file is missing, not UTF-8, or a line is not JSON.
    """
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            try:
                yield f"{path}, line {number}", parse_json(line)
            except ValueError as error:
                raise Damaged(f"{path}, line {number}: not JSON ({error}).") from None


def _json_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError as error:
            yield Row(number, {}, f"not JSON ({getattr(error, 'msg', error)})")
            continue
        if isinstance(record, dict):
            yield Row(number, {name: cell_text(value) for name, value in record.items()})
        else:
            yield Row(number, {}, "not a JSON object")


def cell_text(value: Any) -> str:
    """A value as the text of a cell: null is an empty one, and what is no text is JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"'
    if quoted and '""' in inner and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _sound(row: Row, path: Path) -> dict[str, str]:
    if row.fault:
        raise Damaged(
            f"{path}, line {row.line}: {row.fault}. A text with a comma or a line break needs "
            "quotes in a CSV."
        )
    return row.cells


def _json_object_rows(path: Path) -> tuple[list[str], Iterator[Placed]]:
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        raise Damaged(f"{path}: not JSON ({error}).") from None
    if isinstance(content, dict):
        content = [
            {"id": key, **row} if isinstance(row, dict) else row for key, row in content.items()
        ]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise Damaged(f"{path}: expected a list of objects, or an object of objects.")
    columns = dict.fromkeys(key for row in content for key in row)
    return list(columns), _numbered(content)


def _parquet_rows(path: Path) -> tuple[list[str], Iterator[Placed]]:
    batches = guarded(str(path), _parquet_batches, path)
    names = [str(name) for name in next(batches)]
    return names, _numbered([row for batch in batches for row in batch])


def _parquet_batches(path: Path) -> Iterator[Sequence[Any]]:
    """The names of the columns, then batches of rows."""
    arrow, parquet = pyarrow_for(path)
    try:
        size = 0
        with parquet.ParquetFile(path) as file:
            yield list(file.schema_arrow.names)
            for batch in file.iter_batches(PARQUET_ROWS):
                for column in batch.columns:  # a small file can unfold to any size
                    if isinstance(column, arrow.DictionaryArray):
                        check_size(str(path), PARQUET_ROWS * column.dictionary.nbytes)
                        column = column.dictionary_decode()
                    size += column.nbytes
                check_size(str(path), size)
                yield batch.to_pylist()
    except pyarrow_faults(arrow) as error:
        raise Damaged(f"{path} cannot be read as Parquet: {str(error)[:200]}") from None


def _numbered(rows: Iterable[Mapping[str, Any]]) -> Iterator[Placed]:
    return ((f"row {number}", row) for number, row in enumerate(rows, start=1))
