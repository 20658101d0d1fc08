"""The cache: rows of clips in a Zarr array, with keys, texts and receipts.

A cache is a Zarr v3 group of one kind. Of vectors (format 2) a clip has one row:

    embedding              [rows, d_model] float16 or float32, NaN where nothing is written
    manifest.jsonl         the data manifest from which the cache was made
    samples/000000.jsonl   written rows of a shard: row, key, text, duration_s, speaker, recording
    receipts/000000.json   proof that a shard is done: counts, digests, statistics, refusals

Of sequences (format 3, all other kinds) a clip has `rows` rows that follow each other. Clips lie in
the shard's order, without gaps:

    rows                   [rows, width] float16, float32 or uint8; NaN or 0 where nothing is
    ids                    [rows] int32, of kind `text` alone: the token of each row
    samples/000000.jsonl   as above, with `rows`; `low` and `step` of uint8, `words` of kind `words`

A shard reserves as many storage objects as it could ever fill, and writes only those that it fills.

Each tar shard owns whole storage objects of the array, so two array tasks can never write the
same object. The array is created once, with its final shape. A shard is done if and only if its
receipt is there. The receipt is written last and atomically, after everything that it vouches for
is on disk. Nothing in a cache depends on when, where or in how many pieces it was made.

`vectors` writes the shards of a cache of vectors, `writing` those of all other kinds.

Shape suffixes: R rows that a shard owns, E width.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.cache import layout
from pipeline.cache.identity import FORMATS, KINDS, MAKERS, VECTOR, Identity, Kind, of_record
from pipeline.cache.receipts import Receipts, rows_in
from pipeline.cache.remedies import makers, what_is_there
from pipeline.cache.samples import parse_samples
from pipeline.cache.statistics import ShardStatistics, Statistics, merge
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.folder import Folder
from pipeline.foundation.hashing import json_sha256
from pipeline.foundation.progress import alternatives
from pipeline.shards.manifest import Manifest, difference, parse_manifest


class TeacherCache:
    """An open cache, from `create_or_open`, `open_same` or `open`."""

    def __init__(self, folder: Folder, group: zarr.Group, identity: Identity, manifest: Manifest):
        self.folder, self.identity, self.manifest = folder, identity, manifest
        self.location = folder.location
        self._first_rows = layout.first_rows(manifest, identity)
        self.arrays = layout.arrays(identity, manifest)
        opened = {name: layout.array(folder, group, name, a) for name, a in self.arrays.items()}
        self._embedding = opened.get(layout.VECTORS)
        self.settings_sha256 = json_sha256(identity.record())
        self.receipt_files = Receipts(folder, len(manifest), self.settings_sha256, identity)
        self._listed: dict[str, frozenset[int]] = {}

    @classmethod
    def create_or_open(
        cls,
        location: str | Path,
        manifest: Manifest,
        identity: Identity,
        versions: Mapping[str, str],
    ) -> "TeacherCache":
        """Open the cache at `location`, or create it with its final shape.

        Several array tasks may do so at once: one of them creates it, all of them open it.

        Raises:
            SpeechkdError: the location holds a cache of other settings (the message shows each
                differing value), or something that is not a cache.
        """
        folder = Folder(location)
        if not layout.is_cache(folder):
            layout.create(folder, manifest, identity.of_manifest(manifest), versions)
        cache = cls.open_same(location, manifest, identity)
        if cache is None:
            raise NotThere(
                f"{folder.location} went away while it was being opened. Run the command again."
            )
        folder.remove_leftovers()
        return cache

    @classmethod
    def open_same(
        cls, location: str | Path, manifest: Manifest, identity: Identity
    ) -> "TeacherCache | None":
        """Open the cache at `location`, or return None if there is none.

        Raises:
            SpeechkdError: the cache has other settings; the message shows each differing value.
        """
        if not layout.is_cache(Folder(location)):
            return None
        cache = cls.open(location, kinds=KINDS)
        if cache.identity.kind != identity.kind:
            raise SpeechkdError(
                f"{cache.location} is a cache of kind {cache.identity.kind}, and this would make "
                f"one of kind {identity.kind}. Name another folder."
            )
        differing = cache.identity.differences(identity.of_manifest(manifest))
        if list(differing) == ["manifest_sha256"]:
            raise SpeechkdError(
                f"{cache.location} was made from another list of tars: "
                f"{difference(cache.manifest, manifest)}. A cache belongs to one list. Give that "
                "one; or extract this one into a cache of its own, and join them with `speechkd "
                "cache merge`."
            )
        if differing:
            table = "; ".join(f"{n}: cache {a!r}, now {b!r}" for n, (a, b) in differing.items())
            raise SpeechkdError(
                f"{cache.location} was made with other settings ({table}). Use those settings, "
                "or name another folder."
            )
        return cache

    @classmethod
    def open(cls, location: str | Path, *, kinds: Collection[Kind] = (VECTOR,)) -> "TeacherCache":
        """Open an existing cache.

        Args:
            location: path or URL.
            kinds: those that the caller can use.

        Raises:
            NotThere: there is none.
            Damaged: it cannot be read as a cache.
            SpeechkdError: it has another format, or is of another kind.
        """
        folder = Folder(location)
        remedy = makers(kinds)
        if not layout.is_cache(folder):
            raise NotThere(f"{folder.location}: {what_is_there(folder)}. {remedy}")
        try:
            group = layout.open_group(folder)
            record: Any = dict(group.attrs)["speechkd"]
            version = record["identity"]["format_version"]
            if version not in FORMATS:
                raise SpeechkdError(
                    f"{folder.location} has cache format {version!r}; this version of speechkd "
                    f"reads formats {' and '.join(map(str, FORMATS))}. {remedy}"
                )
            identity = of_record(record["identity"])
            if identity.kind not in kinds:
                raise SpeechkdError(
                    f"{folder.location} is a cache of kind {identity.kind}, and this needs one of "
                    f"kind {alternatives(list(kinds))}. {remedy}"
                )
            text = (folder.read("manifest.jsonl") or b"").decode()
            manifest = parse_manifest(text, str(record["manifest_location"]))
            if manifest.sha256 != identity.manifest_sha256:
                raise ValueError("manifest.jsonl is not the one from which the cache was made")
            return cls(folder, group, identity, manifest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Damaged(
                f"{folder.location} is not a readable teacher cache ({error!r}). {remedy}"
            ) from error

    @property
    def embedding(self) -> Any:
        """The Zarr array of a cache of vectors, `[rows, d_model]`.

        Raises:
            SpeechkdError: this is a cache of another kind.
        """
        if self._embedding is None:
            raise SpeechkdError(f"{self.location} is a cache of {self.identity.kind}, not vectors.")
        return self._embedding

    @property
    def maker(self) -> str:
        """The command that makes a cache of this kind, and of token vectors of its source."""
        if "heard_at_layer" in self.identity.settings:
            return "speechkd extract-heard"
        return MAKERS[self.identity.kind]

    def rows_of(self, shard: int) -> range:
        """The rows that a shard owns; the last few may be unused."""
        return range(self._first_rows[shard], self._first_rows[shard + 1])

    def finished(self) -> dict[int, float]:
        """When each finished shard's receipt was written; see `Receipts.finished`."""
        return self.receipt_files.finished()

    def receipts(self, shards: Iterable[int] | None = None) -> dict[int, dict[str, Any]]:
        """Receipts of finished shards, by shard, without statistics; see `Receipts.read`."""
        return self.receipt_files.read(shards)

    def unfinished(self) -> list[int]:
        """Shards without a valid receipt."""
        done = self.receipts()
        return [shard for shard in range(len(self.manifest)) if shard not in done]

    @property
    def written(self) -> int:
        """Clips written, over all finished shards."""
        return sum(receipt["written"] for receipt in self.receipts().values())

    @property
    def rows(self) -> int:
        """Rows written, over all finished shards; of vectors as many as clips."""
        return sum(map(rows_in, self.receipts().values()))

    def shard_samples(self, shard: int) -> list[dict[str, Any]]:
        """The samples of a finished shard that have a vector, in the shard's order.

        Raises:
            SpeechkdError: their file is missing or damaged.
        """
        name = self.samples_name(shard)
        content = self.folder.read(name)
        try:
            if content is None:
                raise ValueError("it is missing")
            records = parse_samples(content, self.rows_of(shard), self.identity)
        except ValueError as error:
            raise Damaged(
                f"{self.location}/{name} is damaged ({error}). `speechkd cache verify` lists all "
                "damage; delete the shard's receipt and extract again."
            ) from error
        return records

    def block(self, shard: int) -> NDArray[np.floating[Any]]:
        """All vectors of the rows that a shard owns, `[R, E]`, as stored.

        Raises:
            SpeechkdError: a storage object is damaged, or this is no cache of vectors.
        """
        rows = self.rows_of(shard)
        try:
            return np.asarray(self.embedding[rows.start : rows.stop])
        except ValueError as error:
            raise Damaged(
                f"{self.location}: the vectors of shard {shard} are damaged ({error}). `speechkd "
                "cache verify` lists all damage; delete the shard's receipt and extract again."
            ) from error

    def statistics(self) -> Statistics:
        """Count, mean and standard deviation over all rows written, merged shard by shard.

        Raises:
            SpeechkdError: the statistics of a shard are damaged.
        """
        return merge(self.receipt_files.statistics(), self.identity.width)

    def shard_statistics(self, shard: int) -> ShardStatistics:
        """Statistics of a finished shard's rows.

        Raises:
            SpeechkdError: they are damaged, or there is no receipt.
        """
        return self.receipt_files.statistics_of(shard)

    def digest(self) -> str:
        """SHA-256 over the settings and over each shard's rows and samples."""
        rows = "objects" if self.identity.is_sequence else "vectors_sha256"
        content = [
            [shard, receipt[rows], receipt["samples_sha256"]]
            for shard, receipt in self.receipts().items()
        ]
        return json_sha256([self.settings_sha256, content])

    def samples_name(self, shard: int) -> str:
        """Name, in the cache's folder, of the file that lists a shard's samples."""
        return f"samples/{shard:06d}.jsonl"

    def stored_objects(self, array: str, *, again: bool = False) -> frozenset[int]:
        """Numbers of the storage objects of an array that are there.

        Args:
            array: its name.
            again: list them again; otherwise those of the first call are told.
        """
        if again or array not in self._listed:
            names = self.folder.names(f"{array}/c")
            self._listed[array] = frozenset(int(n) for n in names if n.isascii() and n.isdecimal())
        return self._listed[array]

    def object_names(self, shard: int, rows: int | None = None) -> Iterator[tuple[str, str]]:
        """The array and name of each storage object that a shard owns, in the order of its rows.

        Args:
            shard: its number.
            rows: those that are filled, without the objects that hold none; all by default.
        """
        owned, size = self.rows_of(shard), self.identity.rows_per_object
        filled = len(owned) if rows is None else rows
        for name, array in self.arrays.items():
            for index in range(owned.start // size, owned.start // size + -(-filled // size)):
                yield name, array.object_name(name, index)
