"""Writing a shard's sequences: storage objects as they fill, digests as they go, the receipt last.

Memory holds one object of each array, whatever the number of clips in the shard.

Shapes: B clips of a batch, N rows of all of them, R rows of an object, E width.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.layout import IDS, ROWS, ArrayLayout
from pipeline.cache.quantisation import quantised, values_of
from pipeline.cache.receipts import UNTRUSTED_WORDS
from pipeline.cache.samples import keys_sha256, sequence_lines, untrusted_words
from pipeline.cache.statistics import InBlocks
from pipeline.cache.store import TeacherCache
from pipeline.foundation.arrays import Array
from pipeline.foundation.workers import ahead
from pipeline.shards.refusals import Reason, Refusal

NONE_REFUSED: Mapping[int, tuple[Reason, str]] = {}
OBJECTS_AT_ONCE = 4
"""Objects read back by threads at a time, because in object storage most of the time is waiting."""


@dataclass
class _Clip:
    """What is known of a clip before its shard is complete."""

    row: int
    rows: int
    record: dict[str, Any] = field(default_factory=dict)


class ShardWriter:
    """Writes the rows of one shard's clips in the shard's order.

    The shard's receipt, if there is one, goes when the first rows come, because it vouches for what
    is about to be overwritten. `finish` writes the new one. Until then the shard is not done.

    Args:
        cache: a cache of any kind but `vector`.
        shard: number of the shard.

    Raises:
        ValueError: the cache is one of vectors, which `vectors.write_vectors` stores.
    """

    def __init__(self, cache: TeacherCache, shard: int) -> None:
        if not cache.identity.is_sequence:
            raise ValueError(f"{cache.location} is a cache of vectors")
        self._cache, self._shard, self._identity = cache, shard, cache.identity
        self._owned = cache.rows_of(shard)
        self._clips: dict[int, _Clip] = {}
        self._refused: list[tuple[int, Reason, str]] = []
        self._statistics = InBlocks(cache.identity.width)
        self._objects = {
            name: _Objects(cache, name, array, self._owned) for name, array in cache.arrays.items()
        }
        self._rows, self._last, self._begun = 0, -1, False

    def append(
        self,
        positions: Sequence[int],
        rows_NE: NDArray[np.floating[Any]],
        counts: Sequence[int],
        *,
        records: Sequence[Mapping[str, Any]] = (),
        refused: Mapping[int, tuple[Reason, str]] = NONE_REFUSED,
        ids_N: NDArray[np.integer[Any]] | None = None,
    ) -> None:
        """Write the rows of the next clips.

        A clip whose rows are not finite in the cache's dtype is refused and writes none.

        Args:
            positions: of the clips in the shard, ascending, after all earlier ones.
            rows_NE: float32 or float16 `[N, E]`, the rows of clip after clip.
            counts: rows of each clip, 0 for one that is refused.
            records: what else the samples file keeps of each clip; nothing by default.
            refused: why there are no rows, by the place in `positions` of each clip without any.
            ids_N: of kind `text`, the token of each row.

        Raises:
            ValueError: clips out of order, more rows than a clip may have, or wrong shapes.
        """
        self._check(positions, rows_NE, counts)
        self._begin()
        ends = np.cumsum([0, *counts])
        for place, (position, count) in enumerate(zip(positions, counts, strict=True)):
            part = slice(ends[place], ends[place + 1])
            clip = _Clip(self._owned.start + self._rows, count)
            clip.record.update(records[place] if records else {})
            reason, detail = refused.get(place, (Reason.NON_FINITE_VECTOR, ""))
            if count and not self._put(rows_NE[part], clip.record):
                detail = (
                    f"a row is not finite as {self._identity.dtype}; is the audio far too loud?"
                )
                clip.rows = 0
            if not clip.rows:
                self._refused.append((position, reason, detail))
            elif ids_N is not None:
                self._objects[IDS].append(ids_N[part].astype(self._cache.arrays[IDS].stored_dtype))
            self._clips[position] = clip
            self._last = position

    def finish(
        self,
        samples: Iterable[Mapping[str, Any]],
        refused: Iterable[Refusal],
        input_sha256: str,
        input_bytes: int,
        versions: Mapping[str, str],
    ) -> "Written":
        """Write what is left of the rows, the samples, and last the receipt; then read all back.

        Args:
            samples: of the clips appended: position, key, text, duration_s, speaker, recording.
            refused: refusals of all other samples of the shard, with their positions.
            input_sha256: digest of the tar as it was read.
            input_bytes: size of the tar as it was read.
            versions: versions of libraries, for the receipt.

        Raises:
            ValueError: a sample of the shard is not accounted for, or is twice.
        """
        listed = {sample["position"]: sample for sample in samples}
        all_refused = sorted(
            [
                *refused,
                *(
                    Refusal(reason, detail, listed[position]["key"], position)
                    for position, reason, detail in self._refused
                ),
            ],
            key=lambda refusal: refusal.position or 0,
        )
        kept = [
            {**listed[position], "row": clip.row, "rows": clip.rows, **clip.record}
            for position, clip in self._clips.items()
            if clip.rows
        ]
        shard = self._cache.manifest.shards[self._shard]
        accounted = [s["position"] for s in kept] + [r.position or 0 for r in all_refused]
        if sorted(accounted) != list(range(shard.samples)):
            raise ValueError(
                f"shard {self._shard}: {len(accounted)} of {shard.samples} samples accounted for"
            )
        self._begin()
        digests = {name: objects.finish() for name, objects in self._objects.items()}
        remove_surplus(self._cache, self._shard, self._rows)
        lines = sequence_lines(kept)
        receipt = {
            "shard": self._shard,
            "url": shard.url,
            "input_sha256": input_sha256,
            "input_bytes": input_bytes,
            "samples": shard.samples,
            "written": len(kept),
            "rows": self._rows,
            "audio_seconds": round(sum(s["duration_s"] for s in kept), 6),
            "refused": [refusal.record() for refusal in all_refused],
            "keys_sha256": keys_sha256([s["key"] for s in kept]),
            "samples_sha256": hashlib.sha256(lines).hexdigest(),
            "objects": digests,
            **({UNTRUSTED_WORDS: untrusted_words(kept)} if self._identity.kind == "words" else {}),
            "statistics": self._statistics.so_far().record(),
            "settings_sha256": self._cache.settings_sha256,
            "versions": dict(versions),
        }
        self._cache.folder.write(self._cache.samples_name(self._shard), lines)
        self._cache.receipt_files.write(self._shard, receipt)
        # Another array task may be writing the same shard, with other last bits if its hardware
        # differs. The task that writes the last receipt reads the shard back after that.
        sound = is_sound(self._cache, receipt)
        if not sound:  # even if it is the other's by now: then the shard is done once more
            self._cache.receipt_files.remove(self._shard)
        return Written(len(kept), all_refused, sound)

    def _check(
        self,
        positions: Sequence[int],
        rows_NE: NDArray[np.floating[Any]],
        counts: Sequence[int],
    ) -> None:
        order = [self._last, *positions]
        if sorted(set(order)) != order or len(counts) != len(positions):
            raise ValueError(f"shard {self._shard}: clips {order} do not ascend, or lack a count")
        if rows_NE.shape != (sum(counts), self._identity.width):
            wanted = f"{sum(counts)} rows of {self._identity.width}"
            raise ValueError(f"shard {self._shard}: rows of shape {rows_NE.shape}, not {wanted}")
        if any(not 0 <= count <= self._identity.most_rows for count in counts):
            most = self._identity.most_rows
            raise ValueError(f"shard {self._shard}: {max(counts)} rows of a clip, at most {most}")

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._cache.receipt_files.remove(self._shard)

    def _put(self, rows_NE: NDArray[np.floating[Any]], record: dict[str, Any]) -> bool:
        """Write one clip's rows, unless one of them is not finite as stored."""
        stored_NE: Array
        if self._identity.dtype == "uint8":
            if not np.isfinite(rows_NE).all():
                return False
            stored_NE, record["low"], record["step"] = quantised(rows_NE.astype(np.float32))
            values_NE: Array = values_of(stored_NE, record["low"], record["step"])
        else:
            with np.errstate(over="ignore"):  # an overflow shows as infinity, checked next
                stored_NE = rows_NE.astype(self._cache.arrays[ROWS].stored_dtype, copy=False)
            if not _is_finite(stored_NE):
                return False
            values_NE = stored_NE
        self._objects[ROWS].append(stored_NE)
        self._statistics.add(values_NE)
        self._rows += len(values_NE)
        return True


@dataclass(frozen=True)
class Written:
    """A shard that has been written.

    Attributes:
        clips: that have rows.
        refused: all refusals of the shard.
        sound: whether it reads back as it was written. If not, another task writes it too, and it
            has no receipt of ours.
    """

    clips: int
    refused: list[Refusal]
    sound: bool


class _Objects:
    """The objects of one array that a shard fills, in order."""

    def __init__(self, cache: TeacherCache, name: str, array: ArrayLayout, owned: range) -> None:
        self._cache, self._name, self._array = cache, name, array
        self._next = owned.start // array.object_rows
        self._open: Array = np.empty(array.chunk, array.stored_dtype)
        self._filled = 0
        self._digests: list[str] = []

    def append(self, values: Array) -> None:
        """Add rows behind those that are there, and write each object that they fill."""
        first = 0
        while first < len(values):
            part = values[first : first + self._array.object_rows - self._filled]
            self._open[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            first += len(part)
            if self._filled == self._array.object_rows:
                self._write()

    def finish(self) -> list[str]:
        """Write the last object, and give the digests of all."""
        if self._filled:
            self._open[self._filled :] = self._array.fill
            self._write()
        if self._digests:
            self._cache.folder.sync(self._array.object_name(self._name, self._next - 1))
        return self._digests

    def _write(self) -> None:
        content = self._open.tobytes()
        name = self._array.object_name(self._name, self._next)
        self._cache.folder.write(name, content)
        self._digests.append(hashlib.sha256(content).hexdigest())
        self._next += 1
        self._filled = 0


def _is_finite(stored_NE: Array) -> bool:
    """Whether all values are; by their bits, which for float16 takes a twentieth of the time.

    As whole numbers without a sign the negative infinity and NaN are the largest, as such with one
    the positive.
    """
    below = True
    for infinity, kind in ((-np.inf, "u"), (np.inf, "i")):
        bits = np.dtype(f"<{kind}{stored_NE.itemsize}")
        bound = np.array(infinity, stored_NE.dtype).view(bits)
        below = below and bool(stored_NE.view(bits).max(initial=0) < bound)
    return below


def surplus_objects(cache: TeacherCache, shard: int, rows: int) -> list[str]:
    """Names of storage objects that are there behind those which a shard's rows fill."""
    owned = cache.rows_of(shard)
    listed = [
        array.object_name(name, number)
        for name, array in cache.arrays.items()
        for number in sorted(cache.stored_objects(name))
        if -(-(owned.start + rows) // array.object_rows) <= number < owned.stop // array.object_rows
    ]
    return [name for name in listed if cache.folder.holds(name)]  # else an empty folder is left


def remove_surplus(cache: TeacherCache, shard: int, rows: int) -> None:
    """Remove the storage objects that an earlier, longer write of a shard has left."""
    for name in surplus_objects(cache, shard, rows):
        cache.folder.remove(name)


def is_sound(cache: TeacherCache, receipt: Mapping[str, Any]) -> bool:
    """Whether a shard's objects and samples are those that its receipt vouches for."""
    shard = receipt["shard"]
    wanted = [digest for name in cache.arrays for digest in receipt["objects"][name]]
    names = [name for _, name in cache.object_names(shard, receipt["rows"])]
    names.append(cache.samples_name(shard))
    stored = ahead(lambda name: _digest(cache.folder.read(name)), names, OBJECTS_AT_ONCE)
    return list(stored) == [*wanted, receipt["samples_sha256"]]


def _digest(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()
