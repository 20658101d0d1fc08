"""CMU-MOSEI's computational sequences (`.csd`): HDF5 files, read with h5py alone.

Layout: `/<root>/data/<video>/{features,intervals}` and `/<root>/metadata/<key>`, a one-element
dataset of JSON text. Intervals are in seconds of the recording.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.untrusted import has_control, parse_json
from pipeline.tasks.mosei.clips import EMOTIONS, UNKNOWN, MoseiClip
from pipeline.tasks.mosei.tables import NAMES
from pipeline.tasks.mosei.transcripts import PAUSE, Timed

MAX_CELLS = 20_000_000
"""Most cells of one video's array; the longest video of CMU-MOSEI has some 10,000 words."""

LABEL_COLUMNS = ("sentiment", *EMOTIONS)
"""The label file's seven columns, in the order of the SDK's documentation."""


def read_labels(path: Path, notes: Counter[str]) -> list[MoseiClip]:
    """Read `CMU_MOSEI_Labels.csd`: one clip per row, without text and in no fold.

    A clip is named by its row number in the video, as in the SDK's alignment, even if the rows
    are not in order of time.

    Args:
        path: the file.
        notes: counts repairs.

    Raises:
        SpeechkdError: the path is no such file, or a video's arrays do not fit together.
    """
    clips = []
    with _root(path) as root:
        order = _column_order(root, path, notes)
        for video, features, intervals in _sequences(root, path):
            if features.shape[1:] != (len(LABEL_COLUMNS),):
                raise SpeechkdError(
                    f"{path}, video {video}: labels have the shape {features.shape}; wanted is "
                    f"one row per segment with {len(LABEL_COLUMNS)} columns "
                    f"({', '.join(LABEL_COLUMNS)}). Is it CMU_MOSEI_Labels.csd?"
                )
            starts = intervals[:, 0]
            if (starts[1:] < starts[:-1]).any():
                notes["videos whose segments are not in order of time (kept)"] += 1
            for number, (row, (start, end)) in enumerate(zip(features, intervals, strict=True)):
                values = [_finite(float(row[column]), notes) for column in order]
                clips.append(
                    MoseiClip(
                        video_id=video,
                        clip_id=str(number),
                        split="",
                        text="",
                        sentiment=values[0],
                        emotions=tuple(values[1:]),
                        start_s=float(start),
                        end_s=float(end),
                    )
                )
    return clips


def read_words(path: Path, notes: Counter[str]) -> dict[str, list[Timed]]:
    """Read `CMU_MOSEI_TimestampedWords.csd`: the words of each video with their times.

    Raises:
        SpeechkdError: the path is no such file.
    """
    videos = {}
    with _root(path) as root:
        for video, features, intervals in _sequences(root, path):
            words = [_word(cell, path, video) for cell in features.reshape(len(features), -1)[:, 0]]
            notes["pause tokens (sp) among the words, left out"] += words.count(PAUSE)
            videos[video] = [
                Timed(float(start), float(end), word)
                for word, (start, end) in zip(words, intervals, strict=True)
            ]
    return videos


@contextmanager
def _root(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise SpeechkdError(
            f"{path}: .csd files need h5py, which is not installed; `pip install h5py`."
        ) from None
    if not path.is_file():
        raise NotThere(f"{path}: there is no such file.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise Damaged(
            f"{path} cannot be read as HDF5 ({error}); is it a .csd, and downloaded whole?"
        ) from None
    with file:
        try:
            first = next(iter(file), None)
            root = _child(file, first) if first else None
            if not isinstance(root, h5py.Group) or "data" not in root:
                raise Damaged(f"{path} is HDF5, but has no <root>/data, so it is not a .csd.")
            yield root
        # HDF5 meets damage only when it reads that part, and has no error types of its own
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(
                f"{path} is damaged, or no .csd ({str(error)[:200]}); download it again."
            ) from None


def _child(group: Any, name: str) -> Any:
    """A member of a group, which must be in this file.

    Raises:
        ValueError: it is a link to another file, or its data are in another file.
    """
    import h5py

    if group.get(name, getlink=True).__class__ is h5py.ExternalLink:
        raise ValueError(f"{name} is a link to another file")
    child = group[name]
    if isinstance(child, h5py.Dataset) and (child.external or child.is_virtual):
        raise ValueError(f"the data of {name} are in another file")
    return child


def _values(group: Any, name: str) -> Any:
    array = _child(group, name)
    if array.size is None or array.size > MAX_CELLS or array.dtype.itemsize > MAX_CELLS:
        raise ValueError(f"{name} has {array.size} cells of {array.dtype.itemsize} bytes")
    if array.dtype.kind != "O" or not array.shape:
        return array[()]
    # many cells may point to one long text in the file, so rows are read one by one and counted
    rows, allowance = [], int(array.file.id.get_filesize())
    for row in array:
        rows.append(row)
        cells = [row] if isinstance(row, bytes) else row.reshape(-1).tolist()
        allowance -= sum(len(cell) if isinstance(cell, bytes) else 1 for cell in cells)
        if allowance < 0:
            raise ValueError(f"{name} holds more text than the file")
    return np.array(rows, dtype=object)


def _sequences(root: Any, path: Path) -> Iterator[tuple[str, Any, Any]]:
    data = _child(root, "data")
    for video in data:
        try:
            entry = _child(data, video)
            features, intervals = _values(entry, "features"), _values(entry, "intervals")
        except (KeyError, TypeError, AttributeError):
            raise Damaged(f"{path}, video {video}: no features or no intervals.") from None
        if has_control(video):
            raise ValueError(f"the video's name {video!r} has a control character")
        if intervals.dtype.kind not in "fiu":
            raise ValueError(f"the intervals of video {video} are no numbers")
        if intervals.shape != (len(features), 2):
            raise Damaged(
                f"{path}, video {video}: {counted(len(features), 'row')} of features, but "
                "intervals of the "
                f"shape {intervals.shape}; the file is damaged."
            )
        yield video, features, intervals


def _column_order(root: Any, path: Path, notes: Counter[str]) -> list[int]:
    """Index of each of `LABEL_COLUMNS`: by the names in the metadata, else the SDK's order."""
    names: Any = None
    if "metadata" in root and "dimension names" in (metadata := _child(root, "metadata")):
        try:
            names = parse_json(np.ravel(_values(metadata, "dimension names"))[0])
        except (ValueError, TypeError, AttributeError, IndexError):
            raise Damaged(f"{path}: metadata 'dimension names' is not JSON.") from None
    if isinstance(names, list):
        places = [
            next((names.index(name) for name in NAMES[column] if name in names), -1)
            for column in LABEL_COLUMNS
        ]
        if -1 not in places:
            return places
    notes["label columns without known names, taken in the SDK's order"] += 1
    return list(range(len(LABEL_COLUMNS)))


def _finite(value: float, notes: Counter[str]) -> float:
    if math.isfinite(value):
        return value
    notes["labels that are no number, taken as unknown"] += 1
    return UNKNOWN


def _word(cell: Any, path: Path, video: str) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace").strip("\0").strip()
    raise SpeechkdError(
        f"{path}, video {video}: words are {type(cell).__name__}, not text; is it "
        "CMU_MOSEI_TimestampedWords.csd (word vectors hold no words)?"
    )
