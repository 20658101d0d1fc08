"""Layouts in which recordings and transcripts lie on a disk, and how to read each."""

from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from pipeline.foundation.column_names import USUAL_NAMES
from pipeline.foundation.compressed import plain_suffix
from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.tables import SUFFIXES as TABLE_SUFFIXES
from pipeline.foundation.tables import read_text
from pipeline.shards.asked import given, refuse_what_it_cannot_use
from pipeline.shards.layouts.layout import Request, with_any_suffix
from pipeline.shards.layouts.registry import LAYOUTS
from pipeline.shards.recording_table import (
    RecordingColumns,
    choose_columns,
    table_entries,
)
from pipeline.shards.recordings import (
    AUDIO_SUFFIXES,
    MAX_TEXT_BYTES,
    Entry,
    key_of_path,
)
from pipeline.shards.refusals import Reason, Refusal
from pipeline.shards.source import Source
from pipeline.shards.timed import Cutting, Notes, TimedFolder
from pipeline.shards.transcripts.formats import FORMATS
from pipeline.shards.walking import files_below, passed_over

FORMAT_NAMES = ", ".join(form.name for form in FORMATS.values())

Layout = Literal[
    "auto",
    "parquet",
    "table",
    "folder",
    "librispeech",
    "ljspeech",
    "commonvoice",
    "kaldi",
    "lhotse",
    "libritts",
    "mls",
    "vctk",
    "timit",
    "listing",
    "audiofolder",
]

OF_FOLDERS = ("kaldi", "libritts", "mls", "vctk", "timit")


def open_source(
    source: Path,
    layout: Layout = "auto",
    columns: RecordingColumns | None = None,
    audio_folder: Path | None = None,
    cutting: Cutting | None = None,
    *,
    split: str = "",
    outside_links: bool = False,
    others: Set[str] = frozenset(),
) -> Source:
    """Detect how a source is laid out, and prepare to read it.

    Args:
        source: a table (CSV, TSV, JSON lines) or a folder.
        layout: the layout, or `auto` to detect it.
        columns: names of a table's columns, if they are not the usual ones.
        audio_folder: folder that relative paths in a table start from; by default the table's
            (for Common Voice `clips` beside the table, for LJSpeech `wavs`).
        cutting: how recordings with a file of times become clips.
        split: the split of a corpus that has several; `all` for all together.
        outside_links: follow links to folders outside of the source too.
        others: flags beside these that the user gave, which the layout must take as well.

    Raises:
        NotThere: there is no such source.
        SpeechkdError: it holds nothing that is known, a column is missing, or the layout has no
            use for an argument.
    """
    if not source.exists():
        raise NotThere(
            f"{source}: there is no such file or folder. Give a table (.csv, .tsv, .jsonl) of "
            "paths and texts, or a folder of recordings."
        )
    if layout == "auto":
        layout = _detect(source, outside_links)
    columns, cutting = columns or RecordingColumns(), cutting or Cutting()
    asked = others | given(
        *(columns, audio_folder, cutting.tiers, cutting.join_s, split), outside_links=outside_links
    )
    refuse_what_it_cannot_use(asked, str(source), layout)
    if layout in OF_FOLDERS:
        _need_folder(source, layout)
    if layout in LAYOUTS:
        request = Request(source, audio_folder, cutting, split, outside_links, columns)
        opened = _listed(layout, request)
    else:
        opened = _plain(source, layout, columns, audio_folder, cutting, outside_links)
    return replace(opened, name=str(source), audio_folder=audio_folder, asked=asked)


def _plain(
    source: Path,
    layout: Layout,
    columns: RecordingColumns,
    audio_folder: Path | None,
    cutting: Cutting,
    outside_links: bool,
) -> Source:
    """A source of one of the layouts in this file."""
    match layout:
        case "folder":
            return _folder(source, cutting, outside_links)
        case "librispeech":
            return _librispeech(source, outside_links)
        case "ljspeech":
            return _ljspeech(source, audio_folder)
        case "commonvoice":
            return _common_voice(source, columns, audio_folder)
        case _:
            return _table(source, columns, audio_folder)


def _listed(name: str, request: Request) -> Source:
    """A source of one of the layouts in `layouts.registry`."""
    layout, notes, source = LAYOUTS[name], Notes(), request.source

    def read() -> Iterator[Entry | Refusal]:
        notes.clear()
        return layout.read(request, notes)

    root = source if source.is_dir() else source.parent
    return Source(root, name, layout.description, read, notes)


def _detect(source: Path, outside_links: bool) -> Layout:
    known = next((name for name, layout in LAYOUTS.items() if layout.is_at(source)), None)
    if known is not None:
        return cast(Layout, known)
    if source.is_file():
        if source.name == "metadata.csv" and _is_ljspeech(source.parent):
            return "ljspeech"
        if plain_suffix(source) == ".tsv" and (source.parent / "clips").is_dir():
            return "commonvoice"
        return "table"
    if (source / "metadata.csv").is_file() and _is_ljspeech(source):
        return "ljspeech"
    if (source / "clips").is_dir() and list(source.glob("*.tsv")):
        return "commonvoice"
    audio: Path | None = None
    times = TimedFolder(Cutting(), Notes())
    for path in files_below(source, outside_links=outside_links):
        if path.name.endswith(".trans.txt"):
            return "librispeech"
        if path.suffix.lower() in AUDIO_SUFFIXES:
            audio = path
            if path.with_suffix(".txt").is_file() or times.exist_beside(path):
                return "folder"
    if _tables_in(source):
        return "table"
    if audio:
        raise SpeechkdError(
            f"{source}: recordings without transcripts (for instance {audio}). Put a .txt or a "
            f"file of times ({FORMAT_NAMES}) of the same name beside each, or give a table of "
            "paths and texts."
        )
    unknown = passed_over(source, set(), outside_links=outside_links)
    held = f" It has: {unknown[0].removeprefix('not used: ')}." if unknown else ""
    raise SpeechkdError(
        f"{source}: no recording in this folder or below it (looked for "
        f"{' '.join(AUDIO_SUFFIXES)}), and no table of them. Check the path.{held}"
    )


def _is_ljspeech(folder: Path) -> bool:
    """Whether metadata.csv beside wavs/ is LJSpeech's: bars between its cells, and no header."""
    if not (folder / "wavs").is_dir():
        return False
    first = next(iter(read_text(folder / "metadata.csv").split("\n")), "")
    cells = [cell.strip().lower() for cell in first.split("|")]
    headers = {name for usual in USUAL_NAMES.values() for name in usual.split()}
    return len(cells) in (2, 3) and not headers & set(cells)


def _folder(source: Path, cutting: Cutting, outside_links: bool) -> Source:
    notes = Notes()

    def read() -> Iterator[Entry | Refusal]:
        notes.clear()
        times = TimedFolder(cutting, notes)
        for path in files_below(source, outside_links=outside_links):
            if path.suffix.lower() in AUDIO_SUFFIXES and not times.is_film_of(path):
                key = key_of_path(path.relative_to(source).as_posix())
                entries = times.entries(key, path)
                if entries is None:
                    yield _with_transcript(key, path)
                else:
                    yield from entries

    _need_folder(source, "folder")
    description = "a folder of recordings with a .txt or a file of times beside each"
    return Source(source, "folder", description, read, notes)


def _with_transcript(key: str, path: Path) -> Entry | Refusal:
    transcript = path.with_suffix(".txt")
    where = str(transcript)
    try:
        with transcript.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        detail = "no .txt and no file of times of the same name beside it"
        return Refusal(Reason.MISSING_TEXT, detail, key, where=str(path))
    except OSError as error:
        detail = f"cannot be read: {error.strerror}"
        return Refusal(Reason.MISSING_TEXT, detail, key, where=where)
    except UnicodeDecodeError as error:
        return Refusal(Reason.UNUSABLE_TEXT, f"not UTF-8: {error.reason}", key, where=where)
    if len(content) > MAX_TEXT_BYTES:
        return Refusal(Reason.UNUSABLE_TEXT, f"over {MAX_TEXT_BYTES:,} bytes", key, where=where)
    return Entry(key, path, text, None, key, where)


def _librispeech(source: Path, outside_links: bool) -> Source:
    def read() -> Iterator[Entry | Refusal]:
        for listing in files_below(source, outside_links=outside_links):
            if not listing.name.endswith(".trans.txt"):
                continue
            for number, line in enumerate(read_text(listing).split("\n"), start=1):
                key, _, text = line.strip().partition(" ")
                if key:
                    audio = with_any_suffix(listing.parent, key, ".flac")
                    speaker = key.partition("-")[0]
                    chapter = key.rpartition("-")[0] or key
                    where = f"{listing}, line {number}"
                    yield Entry(key, audio, text, speaker, chapter, where)

    _need_folder(source, "librispeech")
    return Source(source, "librispeech", "LibriSpeech's layout (*.trans.txt)", read)


def _ljspeech(source: Path, audio_folder: Path | None) -> Source:
    listing = source if source.is_file() else source / "metadata.csv"
    wavs = audio_folder or listing.parent / "wavs"

    def read() -> Iterator[Entry | Refusal]:
        for number, line in enumerate(read_text(listing).split("\n"), start=1):
            cells = line.strip().split("|")  # never quoted: quotation marks belong to the text
            where = f"{listing}, line {number}"
            if len(cells) in (2, 3):
                key = cells[0].strip()
                audio = with_any_suffix(wavs, key, ".wav")
                text = cells[-1].strip() or cells[1]
                yield Entry(key, audio, text, None, key.rpartition("-")[0] or key, where)
            elif line.strip():
                fault = (
                    f"{counted(len(cells), 'cell')}; LJSpeech has id|text|normalized text "
                    "(--layout table?)"
                )
                yield Refusal(Reason.MALFORMED_ROW, fault, f"line {number}", where=where)

    if not listing.is_file():
        raise NotThere(f"{listing}: no such file; the ljspeech layout has it beside wavs/.")
    return Source(listing.parent, "ljspeech", "LJSpeech's layout (metadata.csv, wavs/)", read)


def _common_voice(source: Path, columns: RecordingColumns, audio_folder: Path | None) -> Source:
    table = source
    if source.is_dir():
        table = source / "validated.tsv"
        if not table.is_file():
            listed = ", ".join(path.name for path in sorted(source.glob("*.tsv"))) or "none"
            raise SpeechkdError(
                f"{source}: no validated.tsv in it (tables there: {listed}). Name the table to use."
            )
    usual = replace(
        columns,
        path=columns.path or "path",
        text=columns.text or "sentence",
        speaker=columns.speaker or "client_id",
    )
    read_as_table = _table(table, usual, audio_folder or table.parent / "clips")
    description = f"Common Voice's layout ({table.name}, clips/)"
    return replace(read_as_table, layout="commonvoice", description=description)


def _table(source: Path, columns: RecordingColumns, audio_folder: Path | None) -> Source:
    table = source
    if source.is_dir():
        tables = _tables_in(source)
        if len(tables) != 1:
            names = ", ".join(path.name for path in tables) or "none"
            raise SpeechkdError(f"{source}: tables in it: {names}. Name the one to use.")
        table = tables[0]
    if plain_suffix(table) not in (*TABLE_SUFFIXES, ".json"):
        raise SpeechkdError(
            f"{table} is not a table that can be read; known ones end in "
            f"{', '.join((*TABLE_SUFFIXES, '.json'))}."
        )
    chosen = choose_columns(table, columns)
    folder = audio_folder or table.parent
    origins = ", ".join(f"{name} from {column!r}" for name, column in chosen.items())
    description = f"the table {table.name} ({origins})"

    def read() -> Iterator[Entry | Refusal]:
        # who says which column is the start has thought of times
        return table_entries(table, chosen, folder, repeats=bool(columns.start))

    return Source(table.parent, "table", description, read)


def _tables_in(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir())
    tables = [path for path in files if plain_suffix(path) in TABLE_SUFFIXES]
    manifests = [path for path in files if path.name.lower().endswith("manifest.json")]
    return tables or manifests  # NeMo's are JSON lines


def _need_folder(source: Path, layout: str) -> None:
    if not source.is_dir():
        raise SpeechkdError(f"{source} is not a folder, as the {layout} layout needs.")
