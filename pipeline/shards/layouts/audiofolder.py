"""Hugging Face's `audiofolder` with splits: a metadata table in the folder of each split."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.shards.layouts.layout import Layout, Request, split_folders
from pipeline.shards.recording_table import choose_columns, table_entries
from pipeline.shards.recordings import Entry
from pipeline.shards.refusals import Refusal
from pipeline.shards.timed import Notes

NAMES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")


def _table(folder: Path) -> Path | None:
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def _is_split(folder: Path) -> bool:
    return _table(folder) is not None


def is_at(source: Path) -> bool:
    """Whether sub-folders hold tables of metadata, and the source itself none."""
    return (
        source.is_dir()
        and not _is_split(source)
        and any(_is_split(path) for path in source.iterdir() if path.is_dir())
    )


def read(request: Request, notes: Notes) -> Iterator[Entry | Refusal]:  # noqa: ARG001
    """The rows of the splits that are asked for; their keys begin with the split's name."""
    for folder in split_folders(request.source, request.split, _is_split):
        table = _table(folder) or folder / NAMES[0]
        chosen = choose_columns(table, request.columns)
        repeats = bool(request.columns.start)
        for entry in table_entries(table, chosen, folder, repeats=repeats):
            key = f"{folder.name}/{entry.key}"
            if isinstance(entry, Entry):
                recording = f"{folder.name}/{entry.recording}"
                yield replace(entry, key=key, recording=recording)
            else:
                yield replace(entry, key=key)


AUDIOFOLDER = Layout("audiofolder's layout (a metadata table per split)", is_at, read)
