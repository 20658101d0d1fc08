"""A corpus of recordings and transcripts, in any of the usual layouts, as one stream of entries."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pipeline.errors import SpeechkdError
from pipeline.tables import SUFFIXES as TABLE_SUFFIXES
from pipeline.tables import Row, column_names, open_text, read_rows
from pipeline.units import Seconds

Layout = Literal["auto", "table", "folder", "librispeech", "ljspeech", "commonvoice"]

AUDIO_SUFFIXES = (
    ".flac .wav .mp3 .ogg .oga .opus .aiff .aif .aifc .au .caf .w64 .rf64 .m4a .aac .wma .webm"
).split()
MAX_TEXT_BYTES = 1_000_000
MAX_KEY_PART_BYTES = 240  # with a suffix still a legal file name, once a tar is unpacked

COLUMN_NAMES = {
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
class Entry:
    """One sample to be made: a recording, or a part of one, and what is said in it."""

    key: str
    """Name in the tar: the corpus' own id where it has one, else the path without its suffix."""
    path: Path
    text: str
    speaker: str | None
    recording: str
    where: str
    """File and line that the entry comes from, for messages."""
    start_s: Seconds | None = None
    end_s: Seconds | None = None


@dataclass(frozen=True)
class Refusal:
    """A sample that is left out, and why; `reason` is one of few, `detail` is for people."""

    key: str
    reason: str
    detail: str
    where: str


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns, as the user gave them; an empty one is looked for."""

    path: str = ""
    text: str = ""
    key: str = ""
    speaker: str = ""
    recording: str = ""
    start: str = ""
    end: str = ""
    duration: str = ""


@dataclass(frozen=True)
class Corpus:
    """A corpus that was found: its layout, a line that says so, and its entries in order."""

    root: Path
    layout: str
    description: str
    read: Callable[[], Iterator[Entry | Refusal]]
    """Start reading from the top; may be called again and gives the same each time."""


def open_corpus(
    source: Path,
    layout: Layout = "auto",
    columns: Columns | None = None,
    audio_folder: Path | None = None,
) -> Corpus:
    """Find out how a corpus is laid out.

    Args:
        source: a table (CSV, TSV, JSON lines) or a folder.
        layout: the layout, or `auto` to find it.
        columns: names of the columns of a table, where they are not usual ones.
        audio_folder: what relative paths in a table start from; by default the table's folder
            (for Common Voice the `clips` folder beside the table).

    Raises:
        SpeechkdError: no such source, nothing in it that is known, or a column that is missing.
    """
    if not source.exists():
        raise SpeechkdError(
            f"{source}: there is no such file or folder. Give a table (.csv, .tsv, .jsonl) of "
            "paths and texts, or a folder of recordings."
        )
    if layout == "auto":
        layout = _detect(source)
    reader = _READERS[layout]
    return reader(source, columns or Columns(), audio_folder)


def usable_key(key: str) -> str:
    """What forbids `key` as the name of a tar member, or "" when it is a safe relative name."""
    if not key:
        return "it is empty"
    if not is_unicode(key):
        return "it is not valid Unicode"
    parts = key.split("/")
    if any(not character.isprintable() for character in key) or "\\" in key:
        return "it has a control character, a line break or a backslash"
    if any(part in ("", ".", "..") or part != part.strip() for part in parts):
        return "it has an empty part, '.', '..' or blanks at the end of a part"
    if max(len(part.encode()) for part in parts) > MAX_KEY_PART_BYTES:
        return f"a part of it is longer than {MAX_KEY_PART_BYTES} bytes"
    return ""


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it holds no lone surrogate, as JSON may."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def key_of_path(path: str) -> str:
    """Key of a recording that has no id: its path without the suffix, made relative."""
    parts = [part for part in Path(path).parts if part not in ("/", ".", "..")]
    name = "/".join(parts)
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in AUDIO_SUFFIXES else name


def _detect(source: Path) -> Layout:
    if source.is_file():
        if source.suffix.lower() not in (*TABLE_SUFFIXES, ".json"):
            raise SpeechkdError(
                f"{source} is not a table that can be read; known ones end in "
                f"{', '.join(TABLE_SUFFIXES)}."
            )
        if source.name == "metadata.csv" and (source.parent / "wavs").is_dir():
            return "ljspeech"
        is_common_voice = source.suffix == ".tsv" and (source.parent / "clips").is_dir()
        return "commonvoice" if is_common_voice else "table"
    if (source / "metadata.csv").is_file() and (source / "wavs").is_dir():
        return "ljspeech"
    if (source / "clips").is_dir() and list(source.glob("*.tsv")):
        return "commonvoice"
    found_audio: Path | None = None
    for path in _walk(source):
        if path.name.endswith(".trans.txt"):
            return "librispeech"
        if path.suffix.lower() in AUDIO_SUFFIXES:
            found_audio = path
            if path.with_suffix(".txt").is_file():
                return "folder"
    if any(path.suffix.lower() in TABLE_SUFFIXES for path in source.iterdir()):
        return "table"
    if found_audio:
        raise SpeechkdError(
            f"{source}: recordings without transcripts (for instance {found_audio}). Put a .txt "
            "of the same name beside each, or give a table of paths and texts."
        )
    raise SpeechkdError(
        f"{source}: no recording found in this folder (looked for {' '.join(AUDIO_SUFFIXES)})."
    )


def _walk(folder: Path) -> Iterator[Path]:
    """All files below `folder`, sorted, so that every machine sees the same order."""

    def stop(error: OSError) -> None:
        raise SpeechkdError(f"{error.filename} cannot be read: {error.strerror}.")

    for parent, folders, files in os.walk(folder, onerror=stop):
        folders.sort()
        for name in sorted(files):
            yield Path(parent) / name


def _open_folder(source: Path, columns: Columns, audio_folder: Path | None) -> Corpus:
    def read() -> Iterator[Entry | Refusal]:
        for path in _walk(source):
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            key = key_of_path(path.relative_to(source).as_posix())
            transcript = path.with_suffix(".txt")
            where = str(transcript)
            try:
                with transcript.open("rb") as file:
                    content = file.read(MAX_TEXT_BYTES + 1)
                if len(content) > MAX_TEXT_BYTES:
                    yield Refusal(key, "unusable text", "over a million bytes", where)
                    continue
                text = content.decode("utf-8-sig")
            except FileNotFoundError:
                yield Refusal(key, "missing text", "no .txt of the same name beside it", str(path))
                continue
            except UnicodeDecodeError as error:
                yield Refusal(key, "unusable text", f"not UTF-8: {error.reason}", where)
                continue
            yield Entry(key, path, text, None, key, where)

    _need_folder(source, "folder")
    return Corpus(source, "folder", "a folder of recordings, a .txt beside each", read)


def _open_librispeech(source: Path, columns: Columns, audio_folder: Path | None) -> Corpus:
    def read() -> Iterator[Entry | Refusal]:
        for listing in _walk(source):
            if not listing.name.endswith(".trans.txt"):
                continue
            for number, line in enumerate(open_text(listing).splitlines(), start=1):
                key, _, text = line.strip().partition(" ")
                where = f"{listing}, line {number}"
                if key:
                    audio = _with_any_suffix(listing.parent / key, ".flac")
                    recording = key.rpartition("-")[0] or key
                    yield Entry(key, audio, text, key.split("-")[0], recording, where)

    _need_folder(source, "librispeech")
    return Corpus(source, "librispeech", "LibriSpeech's layout (*.trans.txt)", read)


def _open_ljspeech(source: Path, columns: Columns, audio_folder: Path | None) -> Corpus:
    listing = source if source.is_file() else source / "metadata.csv"
    wavs = audio_folder or listing.parent / "wavs"

    def read() -> Iterator[Entry | Refusal]:
        for number, line in enumerate(open_text(listing).splitlines(), start=1):
            cells = line.split("|")  # never quoted: a quotation mark is part of the text
            where = f"{listing}, line {number}"
            if len(cells) in (2, 3):
                key = cells[0].strip()
                audio = _with_any_suffix(wavs / key, ".wav")
                yield Entry(key, audio, cells[-1], None, key.rpartition("-")[0] or key, where)
            elif line.strip():
                fault = f"{len(cells)} cells; LJSpeech has id|text|normalized text"
                yield Refusal(f"line {number}", "malformed row", fault, where)

    if not listing.is_file():
        raise SpeechkdError(f"{listing}: no such file; the ljspeech layout has it beside wavs/.")
    return Corpus(listing.parent, "ljspeech", "LJSpeech's layout (metadata.csv, wavs/)", read)


def _open_commonvoice(source: Path, columns: Columns, audio_folder: Path | None) -> Corpus:
    table = source
    if source.is_dir():
        tables = sorted(source.glob("*.tsv"))
        preferred = [path for path in tables if path.name == "validated.tsv"]
        if not tables:
            raise SpeechkdError(
                f"{source}: no .tsv in it; the commonvoice layout has validated.tsv."
            )
        table = (preferred or tables)[0]
    usual = Columns(path="path", text="sentence", speaker="client_id")
    named = {name: getattr(columns, name) or getattr(usual, name) for name in COLUMN_NAMES}
    corpus = _open_table(table, Columns(**named), audio_folder or table.parent / "clips")
    return Corpus(
        corpus.root, "commonvoice", f"Common Voice's layout ({table.name}, clips/)", corpus.read
    )


def _open_table(source: Path, columns: Columns, audio_folder: Path | None) -> Corpus:
    table = source
    if source.is_dir():
        tables = [p for p in sorted(source.iterdir()) if p.suffix.lower() in TABLE_SUFFIXES]
        if len(tables) != 1:
            names = ", ".join(path.name for path in tables) or "none"
            raise SpeechkdError(f"{source}: tables in it: {names}. Name the one to use.")
        table = tables[0]
    taken = _choose_columns(table, columns)
    folder = audio_folder or table.parent

    def read() -> Iterator[Entry | Refusal]:
        for row in read_rows(table):
            yield _entry_of_row(row, taken, table, folder)

    shown = ", ".join(f"{name} from {column!r}" for name, column in taken.items())
    return Corpus(table.parent, "table", f"the table {table.name} ({shown})", read)


def _choose_columns(table: Path, columns: Columns) -> dict[str, str]:
    present = column_names(table)
    lower = {name.lower(): name for name in reversed(present)}
    taken = {}
    for name, usual in COLUMN_NAMES.items():
        given = getattr(columns, name)
        if given and given not in present:
            raise SpeechkdError(
                f"{table}: no column {given!r} (--{name}-column); its columns are "
                f"{', '.join(map(repr, present))}."
            )
        found = given or next((lower[n] for n in usual.split() if n in lower), "")
        if found:
            taken[name] = found
        elif name in ("path", "text"):
            raise SpeechkdError(
                f"{table}: no column for the {name} (looked for {', '.join(usual.split())}); its "
                f"columns are {', '.join(map(repr, present))}. Name one with --{name}-column."
            )
    if "start" not in taken or "end" in taken:
        taken.pop("duration", None)  # a plain length, not a way to write the end
    return taken


def _entry_of_row(row: Row, taken: dict[str, str], table: Path, folder: Path) -> Entry | Refusal:
    where = f"{table}, line {row.line}"
    if row.fault:
        return Refusal(f"line {row.line}", "malformed row", row.fault, where)
    cell = {name: row.cells.get(column, "").strip() for name, column in taken.items()}
    if not cell["path"] or "\0" in cell["path"]:
        detail = f"the cell {taken['path']!r} is empty or has a NUL"
        return Refusal(cell.get("key") or f"line {row.line}", "missing audio", detail, where)
    path = folder / cell["path"]
    name = cell["path"]
    if path.is_relative_to(folder):
        name = path.relative_to(folder).as_posix()
    stem = key_of_path(name)
    try:
        start_s, end_s = _seconds(cell.get("start")), _seconds(cell.get("end"))
        length_s = _seconds(cell.get("duration"))
    except ValueError as error:
        return Refusal(cell.get("key") or stem, "segment outside the recording", str(error), where)
    if length_s is not None:
        end_s = (start_s or 0.0) + length_s
    key = cell.get("key") or stem
    if not cell.get("key") and (start_s is not None or end_s is not None):
        end = "end" if end_s is None else f"{end_s:.3f}"
        key = f"{stem}_{start_s or 0.0:.3f}_{end}"
    return Entry(
        key=key,
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


def _with_any_suffix(stem: Path, usual: str) -> Path:
    """The recording `stem` plus its suffix: the layout's own, or any other that is there."""
    first = stem.with_name(stem.name + usual)
    if first.is_file():
        return first
    others = (stem.with_name(stem.name + suffix) for suffix in AUDIO_SUFFIXES)
    return next((path for path in others if path.is_file()), first)


def _need_folder(source: Path, layout: str) -> None:
    if not source.is_dir():
        raise SpeechkdError(f"{source} is not a folder, as the {layout} layout needs.")


_READERS: dict[str, Callable[[Path, Columns, Path | None], Corpus]] = {
    "table": _open_table,
    "folder": _open_folder,
    "librispeech": _open_librispeech,
    "ljspeech": _open_ljspeech,
    "commonvoice": _open_commonvoice,
}
assert set(_READERS) == set(get_args(Layout)) - {"auto"}  # noqa: S101
