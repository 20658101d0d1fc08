"""Read CMU-MOSEI from the pickles of MMSA and MulT."""

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.mosei.clips import UNKNOWN, MoseiClip
from pipeline.tasks.mosei.transcripts import Texts, with_texts
from pipeline.tasks.mosei.unpickler import read_pickle
from pipeline.tasks.splits import SPLITS


def read_pickled(path: Path, texts: Texts | None, notes: Counter[str]) -> list[MoseiClip]:
    """Read MMSA's pickle, which has the texts, or MulT's, which has word vectors only.

    Args:
        path: the pickle.
        texts: source of the texts for MulT's pickle.
        notes: counts repairs.

    Raises:
        SpeechkdError: the file is neither, or it is MulT's and there is no source of texts.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(split), dict) and "id" in content[split] for split in SPLITS
    ):
        kind = type(content).__name__
        keys = ", ".join(map(repr, islice(content, 10))) if isinstance(content, dict) else kind
        raise SpeechkdError(
            f"{path} is not CMU-MOSEI as MMSA or MulT pickle it: wanted are train, valid and test, "
            f"each with id; there is {keys}."
        )
    clips: list[MoseiClip] = []
    for split in SPLITS:
        part = content[split]
        try:
            of_split = (_mmsa if "raw_text" in part else _mult)(part, split, path)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            raise SpeechkdError(
                f"{path}, {split}: not as MMSA or MulT pickle it ({str(error)[:200]})."
            ) from None
        if "raw_text" in part:
            clips += of_split
        elif texts is None:
            raise SpeechkdError(
                f"{path} holds word vectors and no text (it is MulT's). Name the texts with "
                "--text: the timestamped-words .csd, the transcript folder, or a table with times."
            )
        else:
            clips += with_texts(of_split, texts, notes)
    return clips


def _mmsa(part: dict[str, Any], split: str, path: Path) -> list[MoseiClip]:
    labels = part.get("regression_labels", part.get("labels"))
    ids, texts = list(part["id"]), list(part["raw_text"])
    if labels is None or not len(labels) == len(ids) == len(texts):
        raise SpeechkdError(f"{path}, {split}: id, raw_text and labels do not have one length.")
    clips = []
    for name, text, label in zip(ids, texts, labels, strict=True):
        video, separator, clip = _text(name).rpartition("$_$")
        if not separator:
            raise SpeechkdError(f"{path}, {split}: id {name!r} is not video$_$clip.")
        clips.append(MoseiClip(video, clip, split, _text(text), _numbers(label)[0]))
    return clips


def _mult(part: dict[str, Any], split: str, path: Path) -> list[MoseiClip]:
    clips = []
    clips_of: Counter[str] = Counter()
    for name, label in zip(part["id"], part["labels"], strict=True):
        flat = name.reshape(-1).tolist() if isinstance(name, np.ndarray) else name
        parts = [_text(piece) for piece in islice(flat, 4)]
        values = _numbers(label)
        try:
            video, start, end = parts
            emotions = tuple(values[1:7]) if len(values) >= 7 else (UNKNOWN,) * 6
            clip = MoseiClip(
                video,
                str(clips_of[video]),
                split,
                "",
                values[0],
                emotions,
                float(start),
                float(end),
            )
        except (ValueError, IndexError):
            raise SpeechkdError(
                f"{path}, {split}: id {parts} is not video, start and end."
            ) from None
        clips_of[video] += 1
        clips.append(clip)
    return clips


def _numbers(label: Any) -> list[float]:
    """The numbers of a label of any shape, in order."""
    return [float(value) for value in np.asarray(label, np.float64).reshape(-1)]


def _text(value: Any) -> str:
    """A pickled value as text.

    Raises:
        TypeError: the value is neither text nor a number.
    """
    if not isinstance(value, str | bytes | int | float):
        raise TypeError(f"a {type(value).__name__} where text is wanted")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
