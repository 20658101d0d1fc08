"""Rows of a text table: CSV, TSV or JSON lines, UTF-8, with a line number each for messages."""

import codecs
import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.untrusted import check_size, parse_json

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
MAX_CELL_CHARACTERS = 1_000_000
MAX_LINE_CHARACTERS = 16 * MAX_CELL_CHARACTERS


@dataclass(frozen=True)
class Row:
    """One row of a table; where `fault` says what is wrong with it, it has no cells."""

    line: int
    cells: dict[str, str]
    fault: str = ""


def column_names(path: Path) -> list[str]:
    """Names of the table's columns; of JSON lines, the fields of the first object.

    Raises:
        SpeechkdError: the file is missing, empty, not UTF-8, or not a table of its kind.
    """
    if _is_json(path):
        for row in read_rows(path):
            if row.fault:
                raise SpeechkdError(f"{path}, line {row.line}: {row.fault}.")
            return list(row.cells)
        raise SpeechkdError(f"{path} is empty; each of its lines must be a JSON object.")
    for line in _lines(path):
        names = _split(line, _delimiter(path, line), path)
        return [name.strip() for name in names]
    raise SpeechkdError(f"{path} is empty; its first line must name the columns.")


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a table in order; blank lines are passed over.

    CSV follows RFC 4180, with a comma, semicolon, tab or bar as the header shows. TSV has no
    quoting, as in Common Voice, except that a cell which only a quoting writer can have made
    (in quotes, with every quote inside doubled) is unquoted. A JSON value that is not text is
    given as JSON text, null as an empty cell.

    Raises:
        SpeechkdError: the file is missing, not UTF-8, or its quoting cannot be followed.
    """
    if _is_json(path):
        yield from _json_rows(path)
    elif path.suffix.lower() == ".tsv":
        yield from _tsv_rows(path)
    else:
        yield from _csv_rows(path)


def read_text(path: Path) -> str:
    """Whole text of a UTF-8 file, a byte order mark left out.

    Raises:
        SpeechkdError: the file is missing, unreadable or not UTF-8.
    """
    if path.is_file():
        check_size(str(path), path.stat().st_size)
    return "".join(_lines(path))


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            while line := file.readline(MAX_LINE_CHARACTERS):
                if len(line) == MAX_LINE_CHARACTERS:
                    raise SpeechkdError(
                        f"{path} has a line of over {MAX_LINE_CHARACTERS:,} characters; is it a "
                        "table?"
                    )
                yield line
    except FileNotFoundError:
        raise SpeechkdError(f"{path}: there is no such file; check the path.") from None
    except UnicodeDecodeError as error:
        raise SpeechkdError(
            f"{path}, line {_first_bad_line(path)}: not UTF-8 text (byte "
            f"0x{error.object[error.start]:02x}); save the file as UTF-8, for instance "
            f"`iconv -f {_encoding(path)} -t UTF-8 {path.name} > utf8{path.suffix}`."
        ) from None
    except OSError as error:
        raise SpeechkdError(f"{path} cannot be read: {error.strerror}.") from None


def _encoding(path: Path) -> str:
    """What a file that is not UTF-8 most likely is."""
    with path.open("rb") as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "UTF-16" if marked else "WINDOWS-1252"


def _first_bad_line(path: Path) -> int:
    """Number of the first line that is not UTF-8; the reader, which takes blocks, cannot tell."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _is_json(path: Path) -> bool:
    return path.suffix.lower() in (".jsonl", ".ndjson", ".json")


def _delimiter(path: Path, header: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    return max(",;\t|", key=header.count)


def _split(line: str, delimiter: str, path: Path) -> list[str]:
    if path.suffix.lower() == ".tsv":
        return [_unquoted(cell) for cell in line.rstrip("\r\n").split("\t")]
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:
        raise SpeechkdError(f"{path}: its first line cannot be read ({error}).") from None


def _csv_rows(path: Path) -> Iterator[Row]:
    lines = _lines(path)
    header = next(lines, "")
    delimiter = _delimiter(path, header)
    names = _names(_split(header, delimiter, path), path)
    # strict: else a quote that is never closed swallows all rows after it without a word
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begin = 2
    try:
        for values in reader:
            if values:
                yield _row(begin, names, values)
            begin = reader.line_num + 2
    except csv.Error as error:
        raise SpeechkdError(
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
        return Row(line, {}, f"{len(values)} cells where the header has {len(names)}")
    return Row(line, dict(zip(names, values, strict=True)))


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
            yield Row(number, {name: _cell(value) for name, value in record.items()})
        else:
            yield Row(number, {}, "not a JSON object")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"'
    if quoted and '""' in inner and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell
