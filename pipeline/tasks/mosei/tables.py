"""CMU-MOSEI as a table: MMSA's `label.csv`, the tidy CSV, JSON lines and Parquet; fold lists."""

import ast
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.foundation.atomic import replaced, write_text
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.missing import is_missing
from pipeline.foundation.tables import pyarrow_for, read_rows, read_text
from pipeline.foundation.untrusted import parse_json
from pipeline.tasks.mosei.clips import EMOTIONS, UNKNOWN, MoseiClip, MoseiClips, tidy
from pipeline.tasks.mosei.recordings import Heard
from pipeline.tasks.splits import SPLIT_NAMES, SPLITS

NAMES: dict[str, tuple[str, ...]] = {
    "video_id": ("video_id", "video", "file"),
    "clip_id": ("clip_id", "clip", "csd_index", "index"),
    "split": ("split", "mode", "fold"),
    "text": ("text", "raw_text", "words"),
    "sentiment": ("sentiment", "label"),
    "happiness": ("happiness", "happy"),
    "sadness": ("sadness", "sad"),
    "anger": ("anger", "angry"),
    "surprise": ("surprise",),
    "disgust": ("disgust",),
    "fear": ("fear",),
    "start_s": ("start_s", "start"),
    "end_s": ("end_s", "end"),
}
"""Each column of the tidy table and its names in files; the first one that a file has is read."""

NUMBERED_SPLITS = {"0": "train", "1": "valid", "2": "test", "3": ""}
"""Splits as s3prl's `CMU_MOSEI_Labels.csv` numbers them; 3 means in no fold."""

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
MAX_SOURCE_CHARACTERS = 4_000_000


def read_table(path: Path, scale: tuple[float, float] | None = None) -> MoseiClips:
    """Read CMU-MOSEI from a table with one clip per row.

    Args:
        path: CSV, TSV, JSON lines or Parquet with the columns of `NAMES`: `video_id`, `clip_id`,
            `text`, and `sentiment` or at least one emotion. `split` and times are optional.
            MMSA's `label.csv` is such a table.
        scale: as `tidy` takes it.

    Raises:
        SpeechkdError: the file is missing or cannot be read, a column is missing, a value does not
            fit its column, or the clips fail the checks of `tidy`.
    """
    columns, rows = read_rows(path)
    place = {key: next((n for n in names if n in columns), "") for key, names in NAMES.items()}
    missing = [key for key in ("video_id", "clip_id", "text") if not place[key]]
    if not any(place[key] for key in ("sentiment", *EMOTIONS)):
        missing.append("sentiment (or an emotion)")
    if missing:
        raise SpeechkdError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}. "
            "Wanted is MMSA's label.csv (video_id, clip_id, text, label, mode) or the tidy table "
            "that `speechkd mosei convert` writes; rename the columns, or name another file."
        )
    clips = (_clip(row, place, f"{path}, {at}") for at, row in rows)
    return tidy(clips, str(path), scale=scale)


def write_table(corpus: MoseiClips, path: Path, heard: Sequence[Heard] = ()) -> None:
    """Write the tidy table as CSV, TSV, JSON lines or Parquet, depending on the suffix.

    Args:
        corpus: the clips.
        path: of the table.
        heard: where each clip is heard, which gives the columns `key` and `path`. A clip that is
            the whole of its recording has no times then.

    Raises:
        SpeechkdError: the suffix is none of these.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise SpeechkdError(f"{path}: a table is written as one of {', '.join(SUFFIXES)}.")
    rows = [_row(clip) for clip in corpus.clips]
    names = [*NAMES]
    if heard:
        names = ["key", "path", *NAMES]
        for clip, place, row in zip(corpus.clips, heard, rows, strict=True):
            row |= {"key": clip.id, "path": place.path}
            row |= {"start_s": None, "end_s": None} if place.whole else {}
    if kind == ".jsonl":
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    elif kind == ".parquet":
        arrow, parquet = pyarrow_for(path)
        with replaced(path) as temporary:
            parquet.write_table(arrow.Table.from_pylist(rows), temporary)
    else:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names, delimiter="\t" if kind == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
        write_text(path, text.getvalue())


def read_folds(path: Path) -> dict[str, str]:
    """Read a list of folds: which video is in which split.

    Args:
        path: a table with columns `video_id` (or `file`) and `split` (names, or 0 to 3 as in
            s3prl's list), a JSON object of three lists, or the SDK's own
            `cmu_mosei_std_folds.py`, which is parsed but never run.

    Raises:
        SpeechkdError: the file is none of these, or a video is in two splits.
    """
    if not path.is_file():
        raise NotThere(f"{path}: there is no such list of folds.")
    kind = path.suffix.lower()
    if kind == ".py":
        lists = _assigned_lists(path)
    elif kind == ".json":
        try:
            lists = parse_json(read_text(path))
        except ValueError as error:
            raise Damaged(f"{path}: not JSON ({error}).") from None
    else:
        return _table_folds(path)
    folds: dict[str, str] = {}
    for name, videos in lists.items() if isinstance(lists, dict) else ():
        split = next((SPLIT_NAMES[part] for part in name.split("_") if part in SPLIT_NAMES), "")
        if not split or not isinstance(videos, list):
            continue
        for video in map(str, videos):
            if folds.setdefault(video, split) != split:
                raise SpeechkdError(f"{path}: video {video} is in {folds[video]} and in {split}.")
    if not folds:
        raise SpeechkdError(f"{path} names no list of videos for any of {', '.join(SPLITS)}.")
    return folds


def _table_folds(path: Path) -> dict[str, str]:
    columns, rows = read_rows(path)
    video, split = (next((n for n in NAMES[key] if n in columns), "") for key in NAMES_OF_FOLDS)
    if not video or not split:
        raise SpeechkdError(
            f"{path}: a list of folds has the columns video_id (or file) and split; this one has "
            f"{', '.join(columns)}."
        )
    known = {**SPLIT_NAMES, **NUMBERED_SPLITS}
    folds: dict[str, str] = {}
    for at, row in rows:
        missing = [column for column in (video, split) if row.get(column) is None]
        if missing:  # any line of a JSON lines file may leave a field out
            raise SpeechkdError(f"{path}, {at}: no field {missing[0]}.")
        name = str(row[split]).strip()
        if name not in known:
            raise SpeechkdError(
                f"{path}, {at}: split {name!r} is none of {', '.join(map(repr, known))}."
            )
        if folds.setdefault(str(row[video]), known[name]) != known[name]:
            raise SpeechkdError(
                f"{path}, {at}: video {row[video]} is in two splits, "
                f"{folds[str(row[video])] or 'none'} and {known[name] or 'none'}."
            )
    return {name: split for name, split in folds.items() if split}


NAMES_OF_FOLDS = ("video_id", "split")


def _assigned_lists(path: Path) -> dict[str, Any]:
    """Lists that a Python file assigns to names, read without running it."""
    source = read_text(path)
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise SpeechkdError(f"{path} has {len(source):,} characters; a list of folds is short.")
    lists = {}
    with suppress(SyntaxError, ValueError, TypeError, RecursionError, MemoryError):  # of nesting
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                lists[node.targets[0].id] = ast.literal_eval(node.value)
        return lists
    raise SpeechkdError(
        f"{path}: expected nothing but lists of video ids, as in cmu_mosei_std_folds.py."
    )


def _clip(row: Mapping[str, Any], place: Mapping[str, str], where: str) -> MoseiClip:
    def text(key: str) -> str:
        value = row.get(place[key]) if place[key] else None
        return "" if value is None or is_missing(str(value)) else str(value)

    def number(key: str) -> float:
        cell = text(key).strip()
        try:
            value = float(cell) if cell else UNKNOWN
        except ValueError:
            value = math.inf
        if math.isinf(value):
            raise SpeechkdError(
                f"{where}, column {place[key]}: {cell!r} is not a finite number; leave the field "
                "empty if the value is not known."
            )
        return value

    name = text("split").strip().lower()
    if name not in SPLIT_NAMES:
        raise SpeechkdError(
            f"{where}, column {place['split']}: split {name!r} is none of "
            f"{', '.join(filter(None, SPLIT_NAMES))}."
        )
    for key in ("video_id", "clip_id"):
        if not text(key).strip():
            raise SpeechkdError(f"{where}: column {place[key]} is empty; every clip needs its id.")
    return MoseiClip(
        video_id=text("video_id").strip(),
        clip_id=text("clip_id").strip(),
        split=SPLIT_NAMES[name],
        text=text("text"),
        sentiment=number("sentiment"),
        emotions=tuple(number(emotion) for emotion in EMOTIONS),
        start_s=number("start_s"),
        end_s=number("end_s"),
    )


def _row(clip: MoseiClip) -> dict[str, str | float | None]:
    def known(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        "video_id": clip.video_id,
        "clip_id": clip.clip_id,
        "split": clip.split,
        "text": clip.text,
        "sentiment": known(clip.sentiment),
        **{e: known(value) for e, value in zip(EMOTIONS, clip.emotions, strict=True)},
        "start_s": known(clip.start_s),
        "end_s": known(clip.end_s),
    }
