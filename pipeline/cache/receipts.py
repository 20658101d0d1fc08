"""Receipts prove that shards are done: one JSON file per shard, `receipts/000000.json`."""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.cache.identity import Identity
from pipeline.cache.layout import array_names
from pipeline.cache.statistics import ShardStatistics
from pipeline.foundation.errors import Damaged
from pipeline.foundation.folder import Folder
from pipeline.foundation.untrusted import parse_json
from pipeline.shards.refusals import Refusal

NUMBER, TEXT = (int, float), (str,)
FIELDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("shard", "samples", "written", "input_bytes"), (int,)),
    **dict.fromkeys(("url", "input_sha256", "keys_sha256", "samples_sha256"), TEXT),
    "settings_sha256": TEXT,
    "audio_seconds": NUMBER,
    "refused": (list,),
    "versions": (dict,),
}
VECTOR_FIELDS: dict[str, tuple[type, ...]] = {**FIELDS, "vectors_sha256": TEXT}
SEQUENCE_FIELDS: dict[str, tuple[type, ...]] = {**FIELDS, "rows": (int,), "objects": (dict,)}
UNTRUSTED_WORDS = "untrusted_words"
"""Of kind `words`, the number of words whose time is not trusted."""

AT_ONCE = 1000  # receipts read together; bounds the memory that their statistics take


class Receipts:
    """The receipts of a cache.

    Args:
        folder: of the cache.
        shards: number of shards in the cache's manifest.
        settings_sha256: digest that marks a receipt as this cache's.
        identity: of the cache.
    """

    def __init__(
        self, folder: Folder, shards: int, settings_sha256: str, identity: Identity
    ) -> None:
        self._folder, self._shards, self._identity = folder, shards, identity
        self._settings_sha256 = settings_sha256
        self._fields = SEQUENCE_FIELDS if identity.is_sequence else VECTOR_FIELDS
        if identity.kind == "words":
            self._fields = {**self._fields, UNTRUSTED_WORDS: (int,)}
        self._known: dict[str, tuple[Hashable | None, dict[str, Any]]] = {}

    def finished(self) -> dict[int, float]:
        """When each shard's receipt was written, in seconds since 1970.

        One listing tells it, whatever the number of shards. The receipts are not read: `read`
        does so, and leaves out those that are torn or of other settings.
        """
        written_at = {}
        for name, listed in self._folder.files("receipts").items():
            number = name.removesuffix(".json")
            if number.isdecimal() and int(number) < self._shards:
                written_at[int(number)] = listed.modified
        return written_at

    def read(self, shards: Iterable[int] | None = None) -> dict[int, dict[str, Any]]:
        """Receipts by shard, without torn ones and without those of other settings.

        The statistics, which take most of a receipt's bytes, are left out. A receipt is not read
        again while the listing shows that it has not changed.

        Args:
            shards: the shards whose receipts to read; all by default.
        """
        if shards is not None:
            receipts = {r["shard"]: _light(r) for r in self._valid(list(map(_name, shards)))}
            return dict(sorted(receipts.items()))
        listed = self._folder.files("receipts")
        known = {
            name: (stamp, receipt)
            for name, (stamp, receipt) in self._known.items()
            if name in listed and stamp is not None and listed[name].stamp == stamp
        }
        for receipt in self._valid([name for name in listed if name not in known]):
            name = _name(receipt["shard"])
            known[name] = (listed[name].stamp, _light(receipt))
        self._known = known
        receipts = {receipt["shard"]: receipt for _, receipt in known.values()}
        return dict(sorted(receipts.items()))

    def statistics(self) -> Iterator[tuple[int, ShardStatistics]]:
        """Number of rows and their statistics per finished shard, in the shards' order.

        Raises:
            SpeechkdError: the statistics of a shard are damaged.
        """
        for receipt in self._valid(list(map(_name, sorted(self.finished())))):
            yield rows_in(receipt), self._statistics_in(receipt["shard"], receipt)

    def statistics_of(self, shard: int) -> ShardStatistics:
        """Statistics of one shard.

        Raises:
            SpeechkdError: they are damaged, or there is no receipt.
        """
        return self._statistics_in(shard, next(self._valid([_name(shard)]), {}))

    def write(self, shard: int, receipt: Mapping[str, Any]) -> None:
        """Write a receipt. From then on the shard is done."""
        self._folder.write(f"receipts/{_name(shard)}", json.dumps(receipt, indent=1).encode())

    def remove(self, shard: int) -> None:
        """Remove a receipt, if there is one. From then on the shard is not done."""
        self._folder.remove(f"receipts/{_name(shard)}")

    def _valid(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The valid ones among the receipts of these names, in their order."""
        for first in range(0, len(names), AT_ONCE):
            part = names[first : first + AT_ONCE]
            contents = self._folder.read_many([f"receipts/{name}" for name in part])
            for name in part:
                receipt = self._parsed(name, contents.get(f"receipts/{name}", b""))
                if receipt is not None:
                    yield receipt

    def _parsed(self, name: str, content: bytes) -> dict[str, Any] | None:
        try:
            receipt: dict[str, Any] = parse_json(content)
            shard = receipt["shard"]
            valid = (
                _is_of(receipt, self._fields)
                and all(Refusal.from_record(record, "position") for record in receipt["refused"])
                and receipt["written"] >= 0
                and name == _name(shard)
                and 0 <= shard < self._shards
                and receipt["settings_sha256"] == self._settings_sha256
                and receipt["samples"] == receipt["written"] + len(receipt["refused"])
                and "statistics" in receipt
                and (not self._identity.is_sequence or self._has_objects(receipt))
            )
        except (ValueError, KeyError, TypeError):
            return None
        return receipt if valid else None

    def _has_objects(self, receipt: Mapping[str, Any]) -> bool:
        count = -(-receipt["rows"] // self._identity.rows_per_object)
        return (
            receipt["rows"] >= receipt["written"]
            and receipt["objects"].keys() == set(array_names(self._identity))
            and all(
                type(digests) is list
                and len(digests) == count
                and all(type(digest) is str for digest in digests)
                for digests in receipt["objects"].values()
            )
        )

    def _statistics_in(self, shard: int, receipt: Mapping[str, Any]) -> ShardStatistics:
        try:
            return ShardStatistics.from_record(receipt["statistics"], self._identity.width)
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(
                f"{self._folder.location}/receipts/{_name(shard)} has damaged statistics "
                f"({error!r}); delete it and extract again."
            ) from error


def rows_in(receipt: Mapping[str, Any]) -> int:
    """Rows that a shard's clips own together: of vectors one per clip."""
    rows: int = receipt.get("rows", receipt["written"])
    return rows


def refused_in(receipt: Mapping[str, Any]) -> list[Refusal]:
    """The samples of a shard that have no rows, and why."""
    return [Refusal.from_record(record, "position") for record in receipt["refused"]]


def _is_of(record: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> bool:
    return all(type(record[name]) in allowed for name, allowed in kinds.items())


def _name(shard: int) -> str:
    return f"{shard:06d}.json"


def _light(receipt: dict[str, Any]) -> dict[str, Any]:
    """A receipt without its statistics."""
    return {name: value for name, value in receipt.items() if name != "statistics"}
