"""What the files of one shard hold: samples as JSON lines, vectors as plain bytes."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.identity import Identity
from pipeline.foundation.untrusted import parse_json

OPTIONAL_TEXT = (str, type(None))
COMMON = ("row", "key", "text", "duration_s", "speaker", "recording")
SEQUENCE = ("rows", "low", "step", "words", "cut")
WORD = {"text": (str,), "start_s": (int, float), "end_s": (int, float), "trusted": (bool,)}


def parse_samples(content: bytes, rows: range, identity: Identity) -> list[dict[str, Any]]:
    """Read the samples of a shard from its file, in order.

    Args:
        content: of the file.
        rows: those that the shard owns.
        identity: of the cache.

    Raises:
        ValueError: the file is damaged, or another program's.
    """
    # not splitlines: a text may hold one of Unicode's other line breaks
    lines = content.decode().rstrip("\n").split("\n")
    records: list[dict[str, Any]] = parse_json(f"[{','.join(lines)}]")
    _check_samples(records, rows)
    if identity.is_sequence:
        _check_sequences(records, rows, identity)
    return records


def vectors_in(
    objects: Sequence[bytes], object_shape: tuple[int, int], dtype: str
) -> NDArray[np.floating[Any]]:
    """Read vectors `[rows, d_model]` from storage objects that follow each other.

    Args:
        objects: their contents: plain little-endian bytes, row by row.
        object_shape: rows and width of one object.
        dtype: of the vectors.

    Raises:
        ValueError: an object has another number of bytes.
    """
    stored = np.dtype(dtype).newbyteorder("<")
    size = object_shape[0] * object_shape[1] * stored.itemsize
    wrong = next((len(content) for content in objects if len(content) != size), size)
    if wrong != size:
        raise ValueError(f"an object of {wrong:,} bytes, not {size:,}")
    return np.frombuffer(b"".join(objects), stored).reshape(-1, object_shape[1])


def keys_sha256(keys: Iterator[str] | Sequence[str]) -> str:
    """Digest of an ordered list of keys."""
    return hashlib.sha256("".join(f"{key}\n" for key in keys).encode()).hexdigest()


def vectors_sha256(block_RE: NDArray[np.floating[Any]]) -> str:
    """Digest of vectors as stored: little-endian, row by row."""
    stored = block_RE.astype(block_RE.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(stored).tobytes()).hexdigest()


def sample_lines(samples: Sequence[Mapping[str, Any]], first_row: int) -> bytes:
    """The file that `parse_samples` reads, from samples with their positions in a shard."""
    lines = []
    for sample in samples:
        record = {
            "row": first_row + sample["position"],
            "key": sample["key"],
            "text": sample["text"],
            "duration_s": sample["duration_s"],
            "speaker": sample.get("speaker"),
            "recording": sample.get("recording"),
        }
        lines.append(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines).encode()


def sequence_lines(samples: Sequence[Mapping[str, Any]]) -> bytes:
    """The file that `parse_samples` reads, from samples of sequences with `row` and `rows`."""
    lines = []
    for sample in samples:
        record = {name: sample.get(name) for name in COMMON}
        record |= {name: sample[name] for name in SEQUENCE if name in sample}
        lines.append(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines).encode()


def _check_samples(records: Sequence[Any], rows: range) -> None:
    """Check that records are samples of these rows, because any program may have written them.

    Raises:
        ValueError: one is not.
    """
    for record in records:
        if (
            type(record) is not dict
            or type(record.get("row")) is not int
            or type(record.get("key")) is not str
            or type(record.get("text")) is not str
            or type(record.get("duration_s")) not in (int, float)
            or type(record.get("speaker", 0)) not in OPTIONAL_TEXT
            or type(record.get("recording", 0)) not in OPTIONAL_TEXT
        ):
            raise ValueError(f"not a sample: {str(record)[:200]}")
        if record["row"] not in rows:
            raise ValueError(f"row {record['row']} is outside the shard's {rows}")


def _check_sequences(records: Sequence[Any], rows: range, identity: Identity) -> None:
    """Check that samples own rows that follow each other, and say what their kind needs.

    Raises:
        ValueError: they do not.
    """
    next_row = rows.start
    for record in records:
        where, count = str(record["key"])[:200], record.get("rows")
        if type(count) is not int or not 1 <= count <= identity.most_rows:
            raise ValueError(f"{where} has {count!r} rows; 1 to {identity.most_rows} are possible")
        if record["row"] != next_row:
            raise ValueError(f"{where} begins at row {record['row']}, not {next_row}")
        next_row += count
        if identity.dtype == "uint8" and not all(
            type(record.get(name)) in (int, float) for name in ("low", "step")
        ):
            raise ValueError(f"{where} has no low or no step, which uint8 needs")
        if identity.kind == "words":
            _check_words(record.get("words"), count, where)
    if next_row > rows.stop:
        raise ValueError(f"rows up to {next_row} are outside the shard's {rows}")


def untrusted_words(samples: Iterable[Mapping[str, Any]]) -> int:
    """How many words of a shard's samples have a time that is not trusted."""
    words = (word for sample in samples for word in sample["words"])
    return sum(not word["trusted"] for word in words)


def _check_words(words: Any, count: int, where: str) -> None:
    if type(words) is not list or len(words) != count:
        raise ValueError(f"{where} has not one word per row")
    for word in words:
        if type(word) is not dict or not all(
            type(word.get(name)) in kinds for name, kinds in WORD.items()
        ):
            raise ValueError(f"{where} has a word that is none: {str(word)[:200]}")
