"""The teacher cache: one vector a clip in a Zarr array, with keys, texts and proof of what is done.

A cache is a Zarr v3 group:

    embedding          [rows, d_model] float16 or float32, NaN where nothing is written
    manifest.jsonl     the data manifest it was made from
    samples/000000.jsonl   written rows of a shard: row, key, text, duration_s, speaker, recording
    receipts/000000.json   proof that a shard is done: counts, digests, statistics, refused samples

Each tar shard owns whole storage objects of the array, so two tasks can never write the same
object. The array is created once with its final shape. A shard is done if and only if its
receipt is there: it is written last and atomically, after everything it vouches for is on disk.
Nothing in a cache depends on when, where or in how many pieces it was made.

Format 1 had the statistics of shards in two arrays instead, `statistics_mean` and `statistics_m2`
([shards, d_model] float64). It is read, and not written any more: `cache merge` renews one.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.cache import layout
from pipeline.cache.layout import FORMAT_VERSION, READABLE_FORMATS, Identity
from pipeline.cache.receipts import Receipts
from pipeline.cache.samples import keys_sha256, parse_samples, sample_lines, vectors_sha256
from pipeline.cache.statistics import ShardStatistics, Statistics, merge
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.folder import Folder
from pipeline.foundation.settings import digest
from pipeline.shards.manifest import Manifest, parse_manifest

WRITE_ATTEMPTS = 5


@dataclass
class ShardResult:
    """What stage one made of one tar shard.

    Attributes:
        vectors_NE: float32, one row a sample of the tar, in its order; NaN where refused.
        samples: for each sample kept: position, key, text, duration_s, speaker, recording.
        refused: for each sample refused: position, key, reason, detail.
        input_sha256: digest of the tar as it was read.
        input_bytes: size of the tar as it was read.
    """

    vectors_NE: NDArray[np.float32]
    samples: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    input_sha256: str
    input_bytes: int


@dataclass(frozen=True)
class Samples:
    """The samples of a cache in manifest order, refused ones left out, as columns."""

    rows: NDArray[np.int64] = field(repr=False)
    keys: list[str] = field(repr=False)
    texts: list[str] = field(repr=False)
    durations_s: NDArray[np.float32] = field(repr=False)
    speakers: list[str | None] = field(repr=False)
    recordings: list[str | None] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)


class TeacherCache:
    """A teacher cache, opened; made by `create_or_open` or `open`."""

    def __init__(self, folder: Folder, group: zarr.Group, identity: Identity, manifest: Manifest):
        self.folder, self.identity, self.manifest = folder, identity, manifest
        self.location = folder.location
        self._first_rows = layout.first_rows(manifest, identity.rows_per_object)
        rows, width = self._first_rows[-1], identity.d_model
        chunk = (identity.rows_per_object, width)
        self._embedding = layout.array(
            folder, group, "embedding", (rows, width), chunk, identity.dtype
        )
        # the arrays of statistics that format 1 has
        self._first_format: tuple[Any, ...] = ()
        if identity.format_version == 1:
            names = ("statistics_mean", "statistics_m2")
            self._first_format = tuple(
                layout.array(folder, group, name, (len(manifest), width), (1, width), "float64")
                for name in names
            )
        self.settings_sha256 = digest(asdict(identity))
        self._receipts = Receipts(
            folder,
            len(manifest),
            self.settings_sha256,
            d_model=None if self._first_format else identity.d_model,
        )

    @classmethod
    def create_or_open(
        cls,
        location: str | Path,
        manifest: Manifest,
        identity: Identity,
        versions: Mapping[str, str],
    ) -> "TeacherCache":
        """Open the cache at `location`, or create it with its final shape.

        Several tasks may do so at once: one of them creates it, all of them open it.

        Raises:
            SpeechkdError: a cache of other settings is there (each differing value is shown), or
                something that is not a cache.
        """
        folder = Folder(location)
        if not layout.is_cache(folder):
            layout.create(folder, manifest, layout.of_manifest(identity, manifest), versions)
        cache = cls.open_same(location, manifest, identity)
        if cache is None:
            raise SpeechkdError(
                f"{folder.location} went away while it was being opened. Run the command again."
            )
        folder.remove_leftovers()
        return cache

    @classmethod
    def open_same(
        cls, location: str | Path, manifest: Manifest, identity: Identity
    ) -> "TeacherCache | None":
        """Open the cache at `location`, or return None where there is none.

        Raises:
            SpeechkdError: a cache of other settings is there; each differing value is shown.
        """
        if not layout.is_cache(Folder(location)):
            return None
        cache = cls.open(location)
        if cache.identity.format_version != FORMAT_VERSION:
            raise SpeechkdError(
                f"{cache.location} has cache format {cache.identity.format_version}, which is read "
                f"but not written any more. `speechkd cache merge {cache.location} --out NEW` "
                f"copies it into one of format {FORMAT_VERSION}; go on with that."
            )
        mine, theirs = asdict(layout.of_manifest(identity, manifest)), asdict(cache.identity)
        differing = [name for name in mine if mine[name] != theirs[name]]
        if differing:
            table = "; ".join(f"{n}: cache {theirs[n]!r}, now {mine[n]!r}" for n in differing)
            raise SpeechkdError(
                f"{cache.location} was made with other settings ({table}). Use those settings, "
                "or name another --cache."
            )
        return cache

    @classmethod
    def open(cls, location: str | Path) -> "TeacherCache":
        """Open an existing cache.

        Raises:
            SpeechkdError: there is none, it is not a teacher cache, or of an unknown format.
        """
        folder = Folder(location)
        remedy = "Make one with `speechkd extract-teacher`."
        if not layout.is_cache(folder):
            raise SpeechkdError(f"{folder.location}: there is no teacher cache here. {remedy}")
        try:
            group = layout.open_group(folder)
            record: Any = dict(group.attrs)["speechkd"]
            version = record["identity"]["format_version"]
            if version not in READABLE_FORMATS:
                raise SpeechkdError(
                    f"{folder.location} has cache format {version!r}; this version of speechkd "
                    f"reads formats {' and '.join(map(str, READABLE_FORMATS))}. {remedy}"
                )
            identity = Identity(**record["identity"])
            text = (folder.read("manifest.jsonl") or b"").decode()
            manifest = parse_manifest(text, str(record["manifest_location"]))
            if manifest.sha256 != identity.manifest_sha256:
                raise ValueError("manifest.jsonl is not the one it was made for")
            return cls(folder, group, identity, manifest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SpeechkdError(
                f"{folder.location} is not a readable teacher cache ({error!r}). {remedy}"
            ) from error

    def rows_of(self, shard: int) -> range:
        """The rows that a shard owns; the last few may stay unused."""
        return range(self._first_rows[shard], self._first_rows[shard + 1])

    def write_shard(self, shard: int, result: ShardResult, versions: Mapping[str, str]) -> None:
        """Store a shard's vectors and samples, then its receipt.

        Raises:
            ValueError: the result does not account for every sample of the shard, or a kept
                vector is not finite in the cache's dtype.
        """
        count = self.manifest.shards[shard].samples
        positions = [s["position"] for s in (*result.samples, *result.refused)]
        if sorted(positions) != list(range(count)) or len(result.vectors_NE) != count:
            raise ValueError(f"shard {shard}: {len(positions)} of {count} samples accounted for")
        rows = self.rows_of(shard)
        block_RE = np.full((len(rows), self.identity.d_model), np.nan, self.identity.dtype)
        kept = [s["position"] for s in result.samples]
        with np.errstate(over="ignore"):  # an overflow shows as infinity, checked next
            block_RE[kept] = result.vectors_NE[kept]
        if not np.isfinite(block_RE[kept]).all():
            raise ValueError(f"shard {shard}: a kept vector is not finite as {block_RE.dtype}")

        lines = sample_lines(result.samples, rows.start)
        receipt = {
            "shard": shard,
            "url": self.manifest.shards[shard].url,
            "input_sha256": result.input_sha256,
            "input_bytes": result.input_bytes,
            "samples": count,
            "written": len(kept),
            "audio_seconds": round(sum(s["duration_s"] for s in result.samples), 6),
            "refused": result.refused,
            "keys_sha256": keys_sha256(s["key"] for s in result.samples),
            "samples_sha256": hashlib.sha256(lines).hexdigest(),
            "vectors_sha256": vectors_sha256(block_RE),
            "statistics": ShardStatistics.of(block_RE[kept].astype(np.float64)).record(),
            "settings_sha256": self.settings_sha256,
            "versions": dict(versions),
        }
        self._receipts.remove(shard)  # its word would be about to break
        for _ in range(WRITE_ATTEMPTS):
            self._embedding[rows.start : rows.stop] = block_RE
            for name in self.object_names(shard):
                self.folder.sync(name)
            self.folder.write(self.samples_name(shard), lines)
            self._receipts.write(shard, receipt)
            # Another task may be writing the same shard, with other last bits if it has other
            # hardware. Whoever writes the last receipt reads back after it, so that what is
            # stored in the end is what that receipt says.
            same = self.block(shard).tobytes() == block_RE.tobytes()
            if same and self.folder.read(self.samples_name(shard)) == lines:
                return
        raise SpeechkdError(
            f"{self.location}: shard {shard} does not read back as it was written, after "
            f"{WRITE_ATTEMPTS} attempts. Is the storage sound?"
        )

    def finished(self) -> dict[int, float]:
        """Shards that have a receipt, and when it was written; see `Receipts.finished`."""
        return self._receipts.finished()

    def receipts(self, shards: Iterable[int] | None = None) -> dict[int, dict[str, Any]]:
        """Receipts of finished shards, by shard, without statistics; see `Receipts.read`."""
        return self._receipts.read(shards)

    def unfinished(self) -> list[int]:
        """Shards without a valid receipt."""
        done = self.receipts()
        return [shard for shard in range(len(self.manifest)) if shard not in done]

    @property
    def written(self) -> int:
        """Rows written, over all finished shards."""
        return sum(receipt["written"] for receipt in self.receipts().values())

    def samples(self) -> Samples:
        """Keys, texts, durations and rows of everything written, in manifest order."""
        records = [record for shard in self.receipts() for record in self.shard_samples(shard)]
        return Samples(
            rows=np.array([r["row"] for r in records], dtype=np.int64),
            keys=[r["key"] for r in records],
            texts=[r["text"] for r in records],
            durations_s=np.array([r["duration_s"] for r in records], dtype=np.float32),
            speakers=[r["speaker"] for r in records],
            recordings=[r["recording"] for r in records],
        )

    def shard_samples(self, shard: int) -> list[dict[str, Any]]:
        """The samples that a finished shard holds, in order.

        Raises:
            SpeechkdError: the file is missing or damaged.
        """
        name = self.samples_name(shard)
        content = self.folder.read(name)
        try:
            if content is None:
                raise ValueError("it is missing")
            records = parse_samples(content, self.rows_of(shard))
        except ValueError as error:
            raise SpeechkdError(
                f"{self.location}/{name} is damaged ({error}). `speechkd cache verify` lists all "
                "damage; delete the shard's receipt and extract again."
            ) from error
        return records

    def vectors(self) -> NDArray[np.floating[Any]]:
        """Vectors `[n, d_model]` of everything written, in the order of `samples`."""
        blocks = []
        for shard in self.receipts():
            first_row = self.rows_of(shard).start
            kept = np.array([r["row"] for r in self.shard_samples(shard)], dtype=np.int64)
            blocks.append(self.block(shard)[kept - first_row])
        if not blocks:
            return np.empty((0, self.identity.d_model), self.identity.dtype)
        return np.concatenate(blocks)

    def block(self, shard: int) -> NDArray[np.floating[Any]]:
        """All rows that a shard owns, as stored.

        Raises:
            SpeechkdError: a storage object is damaged.
        """
        rows = self.rows_of(shard)
        try:
            return np.asarray(self._embedding[rows.start : rows.stop])
        except ValueError as error:
            raise SpeechkdError(
                f"{self.location}: the vectors of shard {shard} are damaged ({error}). `speechkd "
                "cache verify` lists all damage; delete the shard's receipt and extract again."
            ) from error

    def statistics(self) -> Statistics:
        """Count, mean and standard deviation over all vectors written, merged shard by shard.

        Raises:
            SpeechkdError: those of a shard are damaged.
        """
        return merge(self._statistics_of_shards(), self.identity.d_model)

    def _statistics_of_shards(self) -> Iterator[tuple[int, ShardStatistics]]:
        if not self._first_format:
            yield from self._receipts.statistics()
            return
        mean_SD, m2_SD = (np.asarray(array[:]) for array in self._first_format)
        for shard, receipt in self.receipts().items():
            yield receipt["written"], ShardStatistics(mean_SD[shard], m2_SD[shard])

    def shard_statistics(self, shard: int) -> ShardStatistics:
        """Statistics of a finished shard's vectors.

        Raises:
            SpeechkdError: they are damaged, or there is no receipt.
        """
        if not self._first_format:
            return self._receipts.statistics_of(shard)
        return ShardStatistics(*(np.asarray(array[shard]) for array in self._first_format))

    def digest(self) -> str:
        """SHA-256 of what the cache holds: settings, and vectors and samples of each shard."""
        content = [
            [shard, receipt["vectors_sha256"], receipt["samples_sha256"]]
            for shard, receipt in self.receipts().items()
        ]
        return digest([self.settings_sha256, content])

    def samples_name(self, shard: int) -> str:
        """Name of the file that lists a shard's samples, below the cache's folder."""
        return f"samples/{shard:06d}.jsonl"

    def object_names(self, shard: int) -> Iterator[str]:
        """Names of the storage objects that a shard owns, below the cache's folder."""
        rows, size = self.rows_of(shard), self.identity.rows_per_object
        for index in range(rows.start // size, rows.stop // size):
            yield f"embedding/c/{index}/0"
        if self._first_format:
            yield f"statistics_mean/c/{shard}/0"
            yield f"statistics_m2/c/{shard}/0"
