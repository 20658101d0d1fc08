"""The teacher cache: one vector a clip in a Zarr array, with keys, texts and proof of what is done.

A cache is a Zarr v3 group:

    embedding          [rows, d_model] float16 or float32, NaN where nothing is written
    statistics_mean    [shards, d_model] float64, mean of each shard's vectors
    statistics_m2      [shards, d_model] float64, sum of squared deviations from that mean
    manifest.jsonl     the data manifest it was made from
    samples/000000.jsonl   written rows of a shard: row, key, text, duration_s, speaker, recording
    receipts/000000.json   proof that a shard is done: counts, digests, refused samples

Each tar shard owns whole storage objects of every array, so two tasks can never write the same
object. Arrays are created once with their final shape. A shard is done if and only if its
receipt is there: it is written last and atomically, after everything it vouches for is on disk.
Nothing in a cache depends on when, where or in how many pieces it was made.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.errors import SpeechkdError
from pipeline.manifest import Manifest, parse_manifest
from pipeline.settings import digest
from pipeline.storage import Folder, absolute
from pipeline.units import CLIP_SECONDS, SAMPLE_RATE_HZ

FORMAT_VERSION = 1
ROWS_PER_OBJECT = 256
WRITE_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the vectors of a cache depend on, beside the audio itself."""

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


@dataclass
class ShardResult:
    """What stage one made of one tar shard.

    Attributes:
        vectors_ND: float32, one row a sample of the tar, in its order; NaN where refused.
        samples: for each sample kept: position, key, text, duration_s, speaker, recording.
        refused: for each sample refused: position, key, reason, detail.
        input_sha256: digest of the tar as it was read.
        input_bytes: size of the tar as it was read.
    """

    vectors_ND: NDArray[np.float32]
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


@dataclass(frozen=True)
class Statistics:
    """Count, mean and standard deviation a dimension of the vectors of a cache, float64."""

    count: int
    mean_D: NDArray[np.float64]
    std_D: NDArray[np.float64]


class TeacherCache:
    """A teacher cache, opened; made by `create_or_open` or `open`."""

    def __init__(self, folder: Folder, group: zarr.Group, identity: Identity, manifest: Manifest):
        self.folder, self.identity, self.manifest = folder, identity, manifest
        self.location = folder.location
        self._embedding = _array(group, "embedding")
        self._mean = _array(group, "statistics_mean")
        self._m2 = _array(group, "statistics_m2")
        self._first_rows = _first_rows(manifest, identity.rows_per_object)
        self.settings_sha256 = digest(asdict(identity))

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
        if not _is_cache(folder):
            _create(folder, manifest, _of_manifest(identity, manifest), versions)
        cache = cls.open_same(location, manifest, identity)
        if cache is None:
            raise SpeechkdError(f"{folder.location} went away while it was being opened.")
        return cache

    @classmethod
    def open_same(
        cls, location: str | Path, manifest: Manifest, identity: Identity
    ) -> "TeacherCache | None":
        """Open the cache at `location`, or return None where there is none.

        Raises:
            SpeechkdError: a cache of other settings is there; each differing value is shown.
        """
        if not _is_cache(Folder(location)):
            return None
        cache = cls.open(location)
        mine, theirs = asdict(_of_manifest(identity, manifest)), asdict(cache.identity)
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
        if not _is_cache(folder):
            raise SpeechkdError(f"{folder.location}: there is no teacher cache here. {remedy}")
        try:
            group = zarr.open_group(folder.zarr_store(), mode="r+")
            record: Any = dict(group.attrs)["speechkd"]
            version = record["identity"]["format_version"]
            if version != FORMAT_VERSION:
                raise SpeechkdError(
                    f"{folder.location} has cache format {version!r}; this version of speechkd "
                    f"reads format {FORMAT_VERSION}. {remedy}"
                )
            identity = Identity(**record["identity"])
            text = (folder.read("manifest.jsonl") or b"").decode()
            manifest = parse_manifest(text, record["manifest_location"])
            return cls(folder, group, identity, manifest)
        except (KeyError, TypeError, ValueError) as error:
            raise SpeechkdError(
                f"{folder.location} is not a readable teacher cache ({error!r}). {remedy}"
            ) from error

    def rows_of(self, shard: int) -> range:
        """The rows that a shard owns; the last few may stay unused."""
        return range(self._first_rows[shard], self._first_rows[shard + 1])

    def write_shard(self, shard: int, result: ShardResult, versions: Mapping[str, str]) -> None:
        """Store a shard's vectors, samples and statistics, then its receipt.

        Raises:
            ValueError: the result does not account for every sample of the shard, or a kept
                vector is not finite in the cache's dtype.
        """
        count = self.manifest.shards[shard].samples
        positions = [s["position"] for s in (*result.samples, *result.refused)]
        if sorted(positions) != list(range(count)) or len(result.vectors_ND) != count:
            raise ValueError(f"shard {shard}: {len(positions)} of {count} samples accounted for")
        rows = self.rows_of(shard)
        block_RD = np.full((len(rows), self.identity.d_model), np.nan, self.identity.dtype)
        kept = [s["position"] for s in result.samples]
        with np.errstate(over="ignore"):  # an overflow shows as infinity, checked next
            block_RD[kept] = result.vectors_ND[kept]
        if not np.isfinite(block_RD[kept]).all():
            raise ValueError(f"shard {shard}: a kept vector is not finite as {block_RD.dtype}")

        kept_KD = block_RD[kept].astype(np.float64)
        mean_D = kept_KD.mean(axis=0) if kept else np.zeros(self.identity.d_model)
        m2_D = ((kept_KD - mean_D) ** 2).sum(axis=0)
        lines = _sample_lines(result.samples, rows.start)
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
            "vectors_sha256": vectors_sha256(block_RD),
            "settings_sha256": self.settings_sha256,
            "versions": dict(versions),
        }
        self.folder.remove(f"receipts/{shard:06d}.json")  # its word would be about to break
        for _ in range(WRITE_ATTEMPTS):
            self._embedding[rows.start : rows.stop] = block_RD
            self._mean[shard], self._m2[shard] = mean_D, m2_D
            for name in self.object_names(shard):
                self.folder.sync(name)
            self.folder.write(f"samples/{shard:06d}.jsonl", lines)
            receipt_text = json.dumps(receipt, indent=1).encode()
            self.folder.write(f"receipts/{shard:06d}.json", receipt_text)
            # Another task may be writing the same shard, with other last bits if it has other
            # hardware. Whoever writes the last receipt reads back after it, so that what is
            # stored in the end is what that receipt says.
            stored = (self.block(shard), self._mean[shard], self._m2[shard])
            if (
                all(map(_same_bytes, stored, (block_RD, mean_D, m2_D)))
                and self.folder.read(f"samples/{shard:06d}.jsonl") == lines
            ):
                return
        raise SpeechkdError(
            f"{self.location}: shard {shard} does not read back as it was written, after "
            f"{WRITE_ATTEMPTS} attempts. Is the storage sound?"
        )

    def receipts(self) -> dict[int, dict[str, Any]]:
        """Receipts of finished shards, by shard; a torn one, or one of other settings, is none."""
        found = {}
        names = [f"receipts/{name}" for name in self.folder.names("receipts")]
        for name, content in self.folder.read_many(names).items():
            receipt = self._receipt(name.removeprefix("receipts/"), content)
            if receipt is not None:
                found[receipt["shard"]] = receipt
        return dict(sorted(found.items()))

    def _receipt(self, name: str, content: bytes) -> dict[str, Any] | None:
        try:
            receipt: dict[str, Any] = json.loads(content)
            shard = int(name.removesuffix(".json"))
            valid = (
                receipt["shard"] == shard
                and 0 <= shard < len(self.manifest)
                and receipt["settings_sha256"] == self.settings_sha256
                and receipt["samples"] == receipt["written"] + len(receipt["refused"])
            )
        except (ValueError, KeyError, TypeError):
            return None
        return receipt if valid else None

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
        name = f"samples/{shard:06d}.jsonl"
        content = self.folder.read(name)
        try:
            if content is None:
                raise ValueError("it is missing")
            # not splitlines: a text may hold one of Unicode's other line breaks
            lines = content.decode().rstrip("\n").split("\n")
            records: list[dict[str, Any]] = json.loads(f"[{','.join(lines)}]")
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
        """All rows that a shard owns, as stored."""
        rows = self.rows_of(shard)
        return np.asarray(self._embedding[rows.start : rows.stop])

    def statistics(self) -> Statistics:
        """Count, mean and standard deviation over all vectors written.

        Merged over shards in their order by the pairwise rule of Chan, Golub and LeVeque (1979).
        """
        count, mean_D = 0, np.zeros(self.identity.d_model)
        m2_D = np.zeros(self.identity.d_model)
        means_SD, m2s_SD = np.asarray(self._mean[:]), np.asarray(self._m2[:])
        for shard, receipt in self.receipts().items():
            added = receipt["written"]
            if added:
                shift_D = means_SD[shard] - mean_D
                total = count + added
                mean_D = mean_D + shift_D * (added / total)
                m2_D = m2_D + m2s_SD[shard] + shift_D**2 * (count * added / total)
                count = total
        return Statistics(count, mean_D, np.sqrt(m2_D / max(count, 1)))

    def shard_statistics(self, shard: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean of a shard's vectors, and their sum of squared deviations from it."""
        return np.asarray(self._mean[shard]), np.asarray(self._m2[shard])

    def digest(self) -> str:
        """SHA-256 of what the cache holds: settings, and vectors and samples of each shard."""
        content = [
            [shard, receipt["vectors_sha256"], receipt["samples_sha256"]]
            for shard, receipt in self.receipts().items()
        ]
        return digest([self.settings_sha256, content])

    def object_names(self, shard: int) -> Iterator[str]:
        """Names of the storage objects that a shard owns, below the cache's folder."""
        rows, size = self.rows_of(shard), self.identity.rows_per_object
        for index in range(rows.start // size, rows.stop // size):
            yield f"embedding/c/{index}/0"
        yield f"statistics_mean/c/{shard}/0"
        yield f"statistics_m2/c/{shard}/0"


def _same_bytes(stored: Any, written: NDArray[np.floating[Any]]) -> bool:
    return np.ascontiguousarray(stored).tobytes() == np.ascontiguousarray(written).tobytes()


def keys_sha256(keys: Iterator[str] | Sequence[str]) -> str:
    """Digest of an ordered list of keys."""
    return hashlib.sha256("".join(f"{key}\n" for key in keys).encode()).hexdigest()


def vectors_sha256(block_RD: NDArray[np.floating[Any]]) -> str:
    """Digest of vectors as stored: little-endian, row by row."""
    stored = block_RD.astype(block_RD.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(stored).tobytes()).hexdigest()


def _first_rows(manifest: Manifest, rows_per_object: int) -> list[int]:
    """First row of each shard, and the number of rows in all at the end."""
    first_rows = [0]
    for shard in manifest:
        objects = -(-shard.samples // rows_per_object)
        first_rows.append(first_rows[-1] + objects * rows_per_object)
    return first_rows


def _of_manifest(identity: Identity, manifest: Manifest) -> Identity:
    return replace(identity, manifest_sha256=manifest.sha256)


def _is_cache(folder: Folder) -> bool:
    return b'"speechkd"' in (folder.read("zarr.json") or b"")


def _create(
    folder: Folder, manifest: Manifest, identity: Identity, versions: Mapping[str, str]
) -> None:
    if folder.path is None:
        _write_layout(folder, manifest, identity, versions)
        return
    if folder.path.exists() and any(folder.path.iterdir()):
        raise SpeechkdError(
            f"{folder.location} holds files but is not a teacher cache. Name a new folder."
        )
    # Made aside and renamed, so that no task ever sees half a cache.
    try:
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.path.name}.", dir=folder.path.parent))
    except OSError as error:
        raise SpeechkdError(f"{folder.location} cannot be made: {error}.") from None
    try:
        _write_layout(Folder(aside), manifest, identity, versions)
        aside.chmod(0o755)
        aside.rename(folder.path)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not _is_cache(folder):  # otherwise another task was first
            raise


def _write_layout(
    folder: Folder, manifest: Manifest, identity: Identity, versions: Mapping[str, str]
) -> None:
    group = zarr.open_group(folder.zarr_store(), mode="a")
    rows = _first_rows(manifest, identity.rows_per_object)[-1]
    width = identity.d_model
    lines = "".join(json.dumps(asdict(shard)) + "\n" for shard in manifest)
    folder.write("manifest.jsonl", lines.encode())
    for name, shape, chunk, dtype in (
        ("embedding", (rows, width), identity.rows_per_object, identity.dtype),
        ("statistics_mean", (len(manifest), width), 1, "float64"),
        ("statistics_m2", (len(manifest), width), 1, "float64"),
    ):
        with suppress(zarr.errors.ContainsArrayError):  # another task may be creating it as well
            group.create_array(
                name,
                shape=shape,
                chunks=(chunk, width),
                dtype=dtype,
                fill_value=float("nan"),
                compressors=None,
            )
    # Our attributes come last: a group without them is not a cache yet.
    record: Any = {
        "identity": asdict(identity),
        "manifest_location": absolute(manifest.location),
        "versions": dict(versions),
    }
    group.attrs["speechkd"] = record


def _array(group: zarr.Group, name: str) -> Any:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{name} is not an array")
    # Not a stored property: without it an object that is all NaN would be deleted, not written.
    return array.with_config({"write_empty_chunks": True})


def _sample_lines(samples: Sequence[Mapping[str, Any]], first_row: int) -> bytes:
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
