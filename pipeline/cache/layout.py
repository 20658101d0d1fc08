"""How a teacher cache lies in storage: its identity, its array, its manifest."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import zarr

from pipeline.foundation.atomic import new_folder
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.folder import Folder
from pipeline.foundation.storage import absolute
from pipeline.foundation.units import CLIP_SECONDS, SAMPLE_RATE_HZ
from pipeline.foundation.untrusted import has_control, parse_json
from pipeline.shards.manifest import Manifest

FORMAT_VERSION = 2
Shape = tuple[int, int]
ROWS_PER_OBJECT = 256
MAX_WIDTH = 2**16
MAX_OBJECT_VALUES = 2**26
MAX_METADATA_BYTES = 2**26  # attributes may hold the versions of many libraries, and no more


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything on which the vectors of a cache depend, except the audio itself."""

    format_version: int = FORMAT_VERSION
    teacher: str
    teacher_sha256: str
    d_model: int
    pooling: Literal["fixed750", "length"]
    context_seconds: int = 30
    precision: str = "float32"
    dtype: Literal["float16", "float32"] = "float16"
    sample_rate_hz: int = SAMPLE_RATE_HZ
    clip_seconds: int = CLIP_SECONDS
    rows_per_object: int = ROWS_PER_OBJECT
    manifest_sha256: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            wanted: type = int if field.type is int else str
            if type(value) is not wanted or (isinstance(value, str) and has_control(value)):
                raise ValueError(f"{field.name} is {value!r}")
        if not 1 <= self.d_model <= MAX_WIDTH:
            raise ValueError(f"d_model is {self.d_model}")
        if not 1 <= self.rows_per_object <= MAX_OBJECT_VALUES // self.d_model:
            raise ValueError(f"rows_per_object is {self.rows_per_object}")
        if self.dtype not in ("float16", "float32"):
            raise ValueError(f"dtype is {self.dtype!r}")


def first_rows(manifest: Manifest, rows_per_object: int) -> list[int]:
    """First row of each shard, and at the end the number of all rows."""
    first = [0]
    for shard in manifest:
        objects = -(-shard.samples // rows_per_object)
        first.append(first[-1] + objects * rows_per_object)
    return first


def of_manifest(identity: Identity, manifest: Manifest) -> Identity:
    """The same identity for a cache of this manifest."""
    return replace(identity, manifest_sha256=manifest.sha256)


def is_cache(folder: Folder) -> bool:
    """Whether the folder holds a teacher cache, with or without vectors so far."""
    return b'"speechkd"' in (folder.read("zarr.json") or b"")


def create(
    folder: Folder, manifest: Manifest, identity: Identity, versions: Mapping[str, str]
) -> None:
    """Create a cache without vectors; several array tasks may do so at once.

    Raises:
        SpeechkdError: the folder holds something else, or cannot be made.
    """
    if folder.path is None:
        _write_layout(folder, manifest, identity, versions)
        return
    if folder.path.exists() and any(folder.path.iterdir()):
        if is_cache(folder):  # another array task was first
            return
        raise SpeechkdError(
            f"{folder.location} holds files but is not a teacher cache. Name a new folder."
        )
    try:
        with new_folder(folder.path) as temporary:  # no array task ever sees half a cache
            _write_layout(Folder(temporary), manifest, identity, versions)
    except OSError as error:
        if not is_cache(folder):  # otherwise another array task was first
            raise SpeechkdError(
                f"{folder.location} cannot be made: {error}. Name another folder, or mend that one."
            ) from None


def _write_layout(
    folder: Folder, manifest: Manifest, identity: Identity, versions: Mapping[str, str]
) -> None:
    group = zarr.open_group(folder.zarr_store(), mode="a")
    lines = "".join(json.dumps(shard.record()) + "\n" for shard in manifest)
    folder.write("manifest.jsonl", lines.encode())
    with suppress(zarr.errors.ContainsArrayError):  # another array task may be creating it too
        group.create_array(
            "embedding",
            shape=(first_rows(manifest, identity.rows_per_object)[-1], identity.d_model),
            chunks=(identity.rows_per_object, identity.d_model),
            dtype=identity.dtype,
            fill_value=float("nan"),
            compressors=None,
        )
    # These attributes come last: a group without them is not a cache yet.
    record: Any = {
        "identity": asdict(identity),
        "manifest_location": absolute(manifest.location),
        "versions": dict(versions),
    }
    group.attrs["speechkd"] = record


def open_group(folder: Folder) -> zarr.Group:
    """Open the Zarr group of a cache; `array` opens an array of it.

    Raises:
        ValueError: the metadata or the folders are not as this module writes them.
    """
    for name in ("embedding", "embedding/c", "samples", "receipts"):
        if folder.path is not None and (folder.path / name).is_symlink():
            raise ValueError(f"{name} is a link, which could lead what is written anywhere")
    _metadata(folder, "zarr.json", "group")
    # without the copies of the arrays' metadata that a group may hold: `array` checks the arrays'
    return zarr.open_group(folder.zarr_store(), mode="r+", use_consolidated=False)


def _metadata(folder: Folder, name: str, kind: str) -> dict[str, Any]:
    content = folder.read(name) or b""
    if len(content) > MAX_METADATA_BYTES:
        raise ValueError(f"{name} has {len(content):,} bytes")
    metadata: Any = parse_json(content)
    if not isinstance(metadata, dict) or (
        (metadata.get("zarr_format"), metadata.get("node_type")) != (3, kind)
    ):
        raise ValueError(f"{name} is no {kind} of Zarr format 3")
    return metadata


def array(
    folder: Folder, group: zarr.Group, name: str, shape: Shape, chunk: Shape, dtype: str
) -> Any:
    """Open an array of a cache, if it is exactly as this module creates it.

    Zarr's metadata may name any codec and claim any size, while a cache needs plain bytes only.

    Raises:
        ValueError: the array is different.
    """
    metadata = _metadata(folder, f"{name}/zarr.json", "array")
    wanted = {
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "storage_transformers": [],
    }
    for key, value in wanted.items():
        if metadata.get(key, [] if key == "storage_transformers" else None) != value:
            raise ValueError(f"{name}: {key} is {str(metadata.get(key))[:200]}, not {value}")
    opened = group[name]
    if not isinstance(opened, zarr.Array):
        raise ValueError(f"{name} is not an array")
    # Not a stored property: without it an object that is all NaN would be deleted, not written.
    return opened.with_config({"write_empty_chunks": True})
