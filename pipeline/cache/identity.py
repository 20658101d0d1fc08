"""What a cache is: its kind of rows, and all on which they depend except the audio itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from pipeline.foundation.units import CLIP_SECONDS, SAMPLE_RATE_HZ, Samples
from pipeline.foundation.untrusted import has_control
from pipeline.shards.manifest import Manifest

Kind = Literal["vector", "states", "words", "whisper-mel", "ctal-mel", "prosody", "text"]
Dtype = Literal["float16", "float32", "uint8"]
Value = str | int | float

VECTOR: Kind = "vector"
KINDS: tuple[Kind, ...] = get_args(Kind)
MAKERS: dict[Kind, str] = {
    "vector": "speechkd extract-teacher",
    "states": "speechkd extract-teacher --keep states",
    "words": "speechkd extract-teacher --keep words",
    "whisper-mel": "speechkd extract-features --features whisper-mel",
    "ctal-mel": "speechkd extract-features --features ctal-mel",
    "prosody": "speechkd extract-features --features prosody",
    "text": "speechkd extract-text",
}
"""The command that makes a cache of each kind."""

VECTOR_FORMAT = 2
SEQUENCE_FORMAT = 3
FORMATS = (VECTOR_FORMAT, SEQUENCE_FORMAT)
VECTOR_ROWS_PER_OBJECT = 256
OBJECT_BYTES = 2**22
"""Most bytes of a storage object of sequences: few enough to hold several of them in memory, and
enough that an object store is not asked for many small ones."""
MAX_WIDTH = 2**16
MAX_OBJECT_VALUES = 2**26
MAX_ROWS_PER_CLIP = 2**16
MAX_SETTINGS = 64
# What format 2 has beside the common fields, with their types.
VECTOR_SETTINGS: dict[str, type] = {
    "teacher": str,
    "teacher_sha256": str,
    "pooling": str,
    "context_seconds": int,
    "precision": str,
}

LATER = ("layer", "channel")
"""Whole numbers that format 2 has only where they are not the default."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything on which the rows of a cache depend, except the audio itself.

    Attributes:
        kind: what a row is.
        width: values in a row.
        most_rows: the most rows that a clip may have; for each of its samples, a shard reserves
            addresses for so many.
        hop_samples: samples from one row to the next; 0 where rows do not follow time evenly.
        dtype: of the stored values.
        sample_rate_hz: of the audio.
        clip_seconds: of the longest clip.
        rows_per_object: rows in one storage object.
        settings: what else decides the values of this kind (teacher, layer, front end, …), by
            names of its own.
        manifest_sha256: digest of the data manifest; "" for an identity of no manifest yet.
        format_version: 2 for vectors, 3 for all other kinds.

    Raises:
        ValueError: a field is of the wrong type or out of bounds.
    """

    kind: Kind
    width: int
    most_rows: int
    hop_samples: Samples = 0
    dtype: Dtype = "float16"
    sample_rate_hz: int = SAMPLE_RATE_HZ
    clip_seconds: int = CLIP_SECONDS
    rows_per_object: int
    settings: Mapping[str, Value] = field(default_factory=dict)
    manifest_sha256: str = ""
    format_version: int = SEQUENCE_FORMAT

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name != "settings":
                _check(f.name, getattr(self, f.name), int if f.type is int else str)
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}")
        if self.dtype not in get_args(Dtype) or (self.kind, self.dtype) == (VECTOR, "uint8"):
            raise ValueError(f"dtype is {self.dtype!r}")
        wanted = VECTOR_FORMAT if self.kind == VECTOR else SEQUENCE_FORMAT
        if self.format_version != wanted:
            raise ValueError(f"format_version is {self.format_version}, of {self.kind} {wanted}")
        if not isinstance(self.settings, dict) or len(self.settings) > MAX_SETTINGS:
            raise ValueError(f"settings are {str(self.settings)[:200]}")
        for name, value in self.settings.items():
            _check("a setting's name", name, str)
            _check(name, value, *(int, float) if type(value) is not str else (str,))
        bounds = {
            "width": (1, MAX_WIDTH),
            "most_rows": (1, 1 if self.kind == VECTOR else MAX_ROWS_PER_CLIP),
            "hop_samples": (0, 2**31),
            "clip_seconds": (1, 2**31),
            "rows_per_object": (1, MAX_OBJECT_VALUES // self.width if self.width > 0 else 0),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}")

    @property
    def is_sequence(self) -> bool:
        """Whether a clip owns several rows that follow each other."""
        return self.kind != VECTOR

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.width * np.dtype(self.dtype).itemsize

    @property
    def rows_per_second(self) -> float:
        """Rows per second of audio; 0 where rows do not follow time evenly."""
        return self.sample_rate_hz / self.hop_samples if self.hop_samples else 0.0

    def text(self, name: str) -> str:
        """A setting of this kind as text; "" if the kind has no such setting."""
        return str(self.settings.get(name, ""))

    def of_manifest(self, manifest: Manifest) -> "Identity":
        """The same identity for a cache of this manifest."""
        return replace(self, manifest_sha256=manifest.sha256)

    def of_channel(self, channel: int) -> "Identity":
        """The same identity for rows of one channel of the clips, from 1; 0 for their mean."""
        if not channel:
            return self
        return replace(self, settings={**self.settings, "channel": channel})

    def record(self) -> dict[str, Any]:
        """The identity as a cache's attributes hold it; `of_record` reads it."""
        if self.is_sequence:
            return {**asdict(self), "settings": dict(sorted(self.settings.items()))}
        record = {
            "format_version": self.format_version,
            "teacher": self.settings["teacher"],
            "teacher_sha256": self.settings["teacher_sha256"],
            "d_model": self.width,
            "pooling": self.settings["pooling"],
            "context_seconds": self.settings["context_seconds"],
            "precision": self.settings["precision"],
            "dtype": self.dtype,
            "sample_rate_hz": self.sample_rate_hz,
            "clip_seconds": self.clip_seconds,
            "rows_per_object": self.rows_per_object,
            "manifest_sha256": self.manifest_sha256,
        }
        return record | {name: self.settings[name] for name in LATER if name in self.settings}

    def flat_record(self) -> dict[str, Any]:
        """What the cache is, its settings (the teacher among them) under names of one level."""
        record = self.record()
        record.pop("settings", None)
        return {"kind": self.kind, **record, **self.settings}

    def differences(self, other: "Identity") -> dict[str, tuple[Any, Any]]:
        """Fields and settings that differ, by name, with this identity's value and the other's.

        A model is what its weights are: where two digests are equal (`teacher_sha256`), the names
        (`teacher`) may differ, as those of copies of a folder do.
        """
        mine, theirs = self.flat_record(), other.flat_record()
        differing = {
            name: (mine.get(name), theirs.get(name))
            for name in {**mine, **theirs}
            if mine.get(name) != theirs.get(name)
        }
        same = {n.removesuffix("_sha256") for n in mine if n not in differing and "_sha256" in n}
        return {name: values for name, values in differing.items() if name not in same}


def of_record(record: Mapping[str, Any]) -> Identity:
    """Read what `Identity.record` gave.

    Raises:
        ValueError: a field is missing, unknown, of the wrong type or out of bounds.
        KeyError, TypeError: the record is no identity.
    """
    if record["format_version"] == SEQUENCE_FORMAT:
        return Identity(**record)
    values = dict(record)
    settings = {name: values.pop(name) for name in VECTOR_SETTINGS}
    settings |= {name: values.pop(name) for name in LATER if name in values}
    for name, value in settings.items():
        _check(name, value, VECTOR_SETTINGS.get(name, int))
    return Identity(
        kind=VECTOR, width=values.pop("d_model"), most_rows=1, settings=settings, **values
    )


def vector_identity(
    *,
    teacher: str,
    teacher_sha256: str,
    d_model: int,
    pooling: Literal["fixed750", "length"],
    context_seconds: int = 30,
    precision: str = "float32",
    dtype: Dtype = "float16",
    clip_seconds: int = CLIP_SECONDS,
    rows_per_object: int = VECTOR_ROWS_PER_OBJECT,
    layer: int | None = None,
) -> Identity:
    """Identity of a cache of one vector per clip, format 2.

    Args:
        teacher: its name.
        teacher_sha256: digest of its weights.
        d_model: its width.
        pooling: how a clip's states become its vector.
        context_seconds: what the teacher sees; 0 if that is the clip alone.
        precision: of its arithmetic.
        dtype: of the stored vectors.
        clip_seconds: of the longest clip.
        rows_per_object: vectors in one storage object.
        layer: whose states are averaged; None for the last, as all caches of before have it.
    """
    return Identity(
        kind=VECTOR,
        width=d_model,
        most_rows=1,
        dtype=dtype,
        clip_seconds=clip_seconds,
        rows_per_object=rows_per_object,
        settings={
            "teacher": teacher,
            "teacher_sha256": teacher_sha256,
            "pooling": pooling,
            "context_seconds": context_seconds,
            "precision": precision,
            **({} if layer is None else {"layer": layer}),
        },
        format_version=VECTOR_FORMAT,
    )


def sequence_identity(
    kind: Kind,
    *,
    width: int,
    most_rows: int,
    settings: Mapping[str, Value],
    hop_samples: Samples = 0,
    dtype: Dtype = "float16",
    clip_seconds: int = CLIP_SECONDS,
    rows_per_object: int | None = None,
) -> Identity:
    """Identity of a cache of several rows per clip, format 3.

    Args:
        kind: any but `vector`.
        width: values in a row.
        most_rows: the most rows that a clip of `clip_seconds` can have.
        settings: all that decides the values of this kind.
        hop_samples: samples from one row to the next; 0 where rows do not follow time evenly.
        dtype: of the stored values.
        clip_seconds: of the longest clip.
        rows_per_object: None for the greatest power of two that fits 4 MiB.
    """
    fitting = OBJECT_BYTES // (width * np.dtype(dtype).itemsize)
    return Identity(
        kind=kind,
        width=width,
        most_rows=most_rows,
        hop_samples=hop_samples,
        dtype=dtype,
        clip_seconds=clip_seconds,
        rows_per_object=rows_per_object or 2 ** max(0, fitting.bit_length() - 1),
        settings=dict(settings),
    )


def _check(name: str, value: Any, *wanted: type) -> None:
    if type(value) not in wanted or (isinstance(value, str) and has_control(value)):
        raise ValueError(f"{name} is {value!r}")
