"""CMU-MOSEI as MMSA's and MulT's pickles, through an unpickler that admits data only."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SpeechkdError
from pipeline.mosei.table import SPLITS, UNKNOWN, Clip
from pipeline.mosei.transcripts import Texts, with_texts


def _latin1(text: str, encoding: str) -> bytes:
    """What pickles of protocol 2 store byte strings by; any other codec is refused."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the codec {encoding!r} is not admitted")
    return text.encode("latin1")


class _Array(np.ndarray):
    """What a pickled array becomes: numpy's own, but for a state that is checked.

    numpy trusts a pickle's data type, flags and all; a forged one would make array items of
    arbitrary memory.
    """

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, data = state
        plain = _plain(dtype, "biufcSUO")
        if plain.kind == "O" and not isinstance(data, list):
            raise pickle.UnpicklingError("it makes objects of bytes")
        super().__setstate__((version, shape, plain, fortran, data))


class _ArrayType:
    """Stands for numpy's array type, which a pickle names but must not call."""


_ARRAY_TYPE = _ArrayType()


def _plain(dtype: Any, kinds: str) -> Any:
    """A fresh data type equal to a pickled one, if it is of one of these kinds."""
    if not isinstance(dtype, np.dtype) or dtype.names or dtype.subdtype or dtype.kind not in kinds:
        raise pickle.UnpicklingError(f"the data type {dtype} is not admitted")
    return np.dtype(dtype.str)


def _dtype(name: str, *_: Any) -> Any:
    return np.dtype(name, copy=True) if isinstance(name, str) else _plain(name, "")


def _reconstruct(kind: Any, *_: Any) -> Any:
    if kind is not _ARRAY_TYPE:
        raise pickle.UnpicklingError("it builds an array of another type")
    return _Array((0,), np.int8)


def _scalar(dtype: Any, data: bytes) -> Any:
    return np.frombuffer(data, _plain(dtype, "biufcSU"), 1)[0]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    return np.frombuffer(data, _plain(dtype, "biufcSU")).reshape(shape, order=order)


def _admitted() -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _ARRAY_TYPE,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _latin1,
    }
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray", "_reconstruct"] = _reconstruct
        found[f"{core}.multiarray", "scalar"] = _scalar
        found[f"{core}.numeric", "_frombuffer"] = _frombuffer
    for builtins in ("builtins", "__builtin__"):
        for kind in (set, frozenset, bytearray, complex):
            found[builtins, kind.__name__] = kind
    return found


class DataUnpickler(pickle.Unpickler):
    """Admits numpy arrays and plain types, and nothing else: no class, no function."""

    admitted = _admitted()

    def find_class(self, module: str, name: str) -> Any:
        """Look a global up in the list of what is admitted.

        Raises:
            pickle.UnpicklingError: it is not there.
        """
        try:
            return self.admitted[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_pickle(path: Path) -> Any:
    """Read a pickle of arrays and plain types.

    Raises:
        SpeechkdError: it is damaged, or asks for anything else.
    """
    try:
        with path.open("rb") as file:
            return DataUnpickler(file, encoding="latin1").load()
    except FileNotFoundError:
        raise SpeechkdError(f"{path}: there is no such file.") from None
    except Exception as error:  # a damaged pickle may fail in any way
        raise SpeechkdError(
            f"{path} is refused as a pickle: {error}. Only numpy arrays, text, numbers, lists and "
            "dictionaries are admitted; a table or the .csd files are safer sources."
        ) from error


def read_pickled(path: Path, texts: Texts | None, notes: Counter[str]) -> list[Clip]:
    """Read MMSA's pickle (which holds the texts), or MulT's (which holds word vectors only).

    Args:
        path: the pickle.
        texts: where the texts of MulT's come from.
        notes: counts repairs.

    Raises:
        SpeechkdError: it is neither, or MulT's without a source of texts.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(split), dict) and "id" in content[split] for split in SPLITS
    ):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise SpeechkdError(
            f"{path} is not CMU-MOSEI as MMSA or MulT pickle it: wanted are train, valid and test, "
            f"each with id; there is {keys}."
        )
    clips: list[Clip] = []
    for split in SPLITS:
        part = content[split]
        if "raw_text" in part:
            clips += _mmsa(part, split, path)
        elif texts is None:
            raise SpeechkdError(
                f"{path} holds word vectors and no text (it is MulT's). Name the texts with "
                "--text: the timestamped-words .csd, the transcript folder, or a table with times."
            )
        else:
            clips += with_texts(_mult(part, split, path), texts, notes)
    return clips


def _mmsa(part: dict[str, Any], split: str, path: Path) -> list[Clip]:
    labels = part.get("regression_labels", part.get("labels"))
    ids, texts = list(part["id"]), list(part["raw_text"])
    if labels is None or not len(labels) == len(ids) == len(texts):
        raise SpeechkdError(f"{path}, {split}: id, raw_text and labels do not have one length.")
    clips = []
    for name, text, label in zip(ids, texts, labels, strict=True):
        video, separator, clip = _text(name).rpartition("$_$")
        if not separator:
            raise SpeechkdError(f"{path}, {split}: id {name!r} is not video$_$clip.")
        clips.append(Clip(video, clip, split, _text(text), float(np.asarray(label).reshape(-1)[0])))
    return clips


def _mult(part: dict[str, Any], split: str, path: Path) -> list[Clip]:
    clips = []
    seen: Counter[str] = Counter()
    for name, label in zip(part["id"], part["labels"], strict=True):
        parts = [_text(piece) for piece in np.asarray(name).reshape(-1).tolist()]
        try:
            video, start, end = parts
            values = np.asarray(label, np.float64).reshape(-1)
            emotions = tuple(values[1:7]) if len(values) >= 7 else (UNKNOWN,) * 6
            clip = Clip(
                video, str(seen[video]), split, "", values[0], emotions, float(start), float(end)
            )
        except (ValueError, IndexError):
            raise SpeechkdError(
                f"{path}, {split}: id {parts} is not video, start and end."
            ) from None
        seen[video] += 1
        clips.append(clip)
    return clips


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
