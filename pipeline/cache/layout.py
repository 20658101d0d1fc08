"""How a cache lies in storage: its arrays, its manifest, its attributes."""

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from pipeline.cache.identity import Identity
from pipeline.foundation.atomic import new_folder
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.folder import Folder
from pipeline.foundation.storage import absolute
from pipeline.foundation.untrusted import parse_json
from pipeline.shards.manifest import Manifest

VECTORS, ROWS, IDS = "embedding", "rows", "ids"
MAX_METADATA_BYTES = 2**26  # attributes may hold the versions of many libraries, and no more


@dataclass(frozen=True)
class ArrayLayout:
    """One array of a cache: all of it in plain little-endian bytes, row by row.

    Attributes:
        rows: first axis: rows that all shards together reserve.
        width: values in a row; 0 for an array without a second axis.
        object_rows: rows in one storage object.
        dtype: of the values.
        fill: the value where nothing is written.
    """

    rows: int
    width: int
    object_rows: int
    dtype: str
    fill: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return (self.rows, self.width) if self.width else (self.rows,)

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of a storage object."""
        return (self.object_rows, self.width) if self.width else (self.object_rows,)

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The dtype with the byte order of the storage."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def object_bytes(self) -> int:
        """Bytes of a storage object."""
        return self.object_rows * max(self.width, 1) * np.dtype(self.dtype).itemsize

    def object_name(self, array: str, index: int) -> str:
        """Name of a storage object in the cache's folder."""
        return f"{array}/c/{index}/0" if self.width else f"{array}/c/{index}"


def first_rows(manifest: Manifest, identity: Identity) -> list[int]:
    """First row of each shard, and at the end the number of all rows."""
    first = [0]
    for shard in manifest:
        objects = -(-shard.samples * identity.most_rows // identity.rows_per_object)
        first.append(first[-1] + objects * identity.rows_per_object)
    return first


def array_names(identity: Identity) -> tuple[str, ...]:
    """Names of the arrays of a cache."""
    if not identity.is_sequence:
        return (VECTORS,)
    return (ROWS, IDS) if identity.kind == "text" else (ROWS,)


def arrays(identity: Identity, manifest: Manifest) -> dict[str, ArrayLayout]:
    """The arrays of a cache, by name."""
    rows = first_rows(manifest, identity)[-1]
    nothing = 0 if identity.dtype == "uint8" else float("nan")
    values = ArrayLayout(rows, identity.width, identity.rows_per_object, identity.dtype, nothing)
    ids = ArrayLayout(rows, 0, identity.rows_per_object, "int32", 0)
    return {name: ids if name == IDS else values for name in array_names(identity)}


def bytes_on_disk(identity: Identity, rows_per_shard: Iterable[float]) -> int:
    """Bytes that the arrays of a cache take once its shards hold so many rows.

    A storage object is written whole, and shards share none, so the last object of each shard
    counts in full, however few rows it has.
    """
    objects = sum(math.ceil(rows / identity.rows_per_object) for rows in rows_per_shard)
    return objects * sum(
        array.object_bytes for array in arrays(identity, Manifest((), "")).values()
    )


def is_cache(folder: Folder) -> bool:
    """Whether the folder holds a cache, with or without rows so far."""
    return b'"speechkd"' in (folder.read("zarr.json") or b"")


def create(
    folder: Folder, manifest: Manifest, identity: Identity, versions: Mapping[str, str]
) -> None:
    """Create a cache without rows; several array tasks may do so at once.

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
    for name, stored in arrays(identity, manifest).items():
        with suppress(zarr.errors.ContainsArrayError):  # another array task may be creating it too
            group.create_array(
                name,
                shape=stored.shape,
                chunks=stored.chunk,
                dtype=stored.dtype,
                fill_value=stored.fill,
                compressors=None,
            )
    # These attributes come last: a group without them is not a cache yet.
    record: Any = {
        "identity": identity.record(),
        "manifest_location": absolute(manifest.location),
        "versions": dict(versions),
    }
    group.attrs["speechkd"] = record


def open_group(folder: Folder) -> zarr.Group:
    """Open the Zarr group of a cache; `array` opens an array of it.

    Raises:
        ValueError: the metadata or the folders are not as this module writes them.
    """
    names = [f"{name}{inside}" for name in (VECTORS, ROWS, IDS) for inside in ("", "/c")]
    for name in (*names, "samples", "receipts"):
        if folder.path is not None and (folder.path / name).is_symlink():
            raise ValueError(f"{name} is a link, which could lead what is written anywhere")
    _metadata(folder, "zarr.json", "group")
    # without the copies of the arrays' metadata that a group may hold: `array` checks the arrays'
    return zarr.open_group(folder.zarr_store(), mode="r+", use_consolidated=False)


def _metadata(folder: Folder, name: str, kind: str) -> dict[str, Any]:
    content = folder.read(name)
    if not content:
        raise ValueError(f"{name} is missing or empty")
    if len(content) > MAX_METADATA_BYTES:
        raise ValueError(f"{name} has {len(content):,} bytes")
    metadata: Any = parse_json(content)
    if not isinstance(metadata, dict) or (
        (metadata.get("zarr_format"), metadata.get("node_type")) != (3, kind)
    ):
        raise ValueError(f"{name} is no {kind} of Zarr format 3")
    return metadata


def array(folder: Folder, group: zarr.Group, name: str, layout: ArrayLayout) -> Any:
    """Open an array of a cache, if it is exactly as this module creates it.

    Zarr's metadata may name any codec and claim any size, while a cache needs plain bytes only.

    Raises:
        ValueError: the array is different.
    """
    metadata = _metadata(folder, f"{name}/zarr.json", "array")
    codec: dict[str, Any] = {"name": "bytes"}
    if np.dtype(layout.dtype).itemsize > 1:
        codec["configuration"] = {"endian": "little"}
    grid = {"name": "regular", "configuration": {"chunk_shape": list(layout.chunk)}}
    wanted = {
        "shape": list(layout.shape),
        "data_type": layout.dtype,
        "chunk_grid": grid,
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [codec],
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
