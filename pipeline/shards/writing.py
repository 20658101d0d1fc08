"""The folder that `speechkd shard` fills: tars, their receipts, refusals, and last the manifest.

A tar's receipt says which entries of the source went into it. So an interrupted command carries
on after the last receipt, and ends with the same bytes as one that was never interrupted.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

from pipeline.foundation.atomic import locked, remove_leftovers, replaced, write_json, write_text
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.progress import say
from pipeline.foundation.units import CLIP_SECONDS, Seconds
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.shards.manifest import Shard, file_sha256, read_manifest, write_manifest
from pipeline.shards.recordings import MAX_TEXT_BYTES, Entry
from pipeline.shards.refusals import Reason, Refusal, RefusedError
from pipeline.shards.remarks import EXAMPLES, Remarked

CORPUS, SUMMARY = "corpus.json", "summary.json"


@dataclass(frozen=True)
class Sample:
    """A sample to be written: its key and the content of its two members."""

    key: str
    flac: bytes
    json: bytes
    duration_s: Seconds
    remarks: tuple[str, ...] = ()
    """What is odd about it, in the words of `Remark`."""


def description(entry: Entry, duration_s: Seconds) -> bytes:
    """The .json of a sample.

    Raises:
        RefusedError: it would have over `MAX_TEXT_BYTES`, which stage one does not read, or is
            not valid Unicode.
    """
    record: dict[str, Any] = {
        "text": entry.text,
        "duration_s": duration_s,
        "speaker": entry.speaker,
        "recording": entry.recording,
    }
    if entry.words:
        record["words"] = [
            {"text": word.text, "start_s": word.start_s, "end_s": word.end_s}
            for word in entry.words
        ]
    try:
        content = json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        fault = "the text, the speaker or the recording has a lone surrogate"
        raise RefusedError(Reason.UNUSABLE_TEXT, fault) from None
    if len(content) > MAX_TEXT_BYTES:
        fault = f"its .json would have {len(content):,} bytes, at most {MAX_TEXT_BYTES:,} are read"
        raise RefusedError(Reason.UNUSABLE_TEXT, fault)
    return content


@dataclass
class FolderTally:
    """Counts of what has been written so far."""

    entries: int = 0
    """Entries of the source that are written or refused, in order from the first."""
    seconds: Seconds = 0.0
    shards: list[Shard] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    remarks: dict[str, Remarked] = field(default_factory=dict)

    def remark(self, records: Mapping[str, Any]) -> None:
        """Count the remarks of a receipt."""
        for remark, record in records.items():
            self.remarks.setdefault(remark, Remarked()).add(record["clips"], record["such_as"])

    def examples(self, reason: str) -> list[Refusal]:
        """The first few that were refused for a reason."""
        return list(islice((r for r in self.refused if r.reason == reason), EXAMPLES))

    def reasons(self) -> dict[str, int]:
        """Number of refused samples by reason, the commonest first."""
        return dict(Counter(refusal.reason for refusal in self.refused).most_common())


class ShardFolder:
    """The output folder of one source, as a context; one process at a time may enter it.

    Args:
        path: the folder, which is made if it does not exist.
        identity: what decides the bytes (source, settings). A folder of another one is refused.
        name: begins the names of the tars.

    Raises:
        SpeechkdError: the folder holds shards of another source or other settings, another
            process is writing there, or it cannot be written.
    """

    def __init__(self, path: Path, identity: dict[str, Any], name: str = "speech") -> None:
        self.path, self._name = path, name
        self.manifest = path / "manifest.jsonl"
        self._receipts = path / "receipts"
        check_new_or_ours(path)
        try:
            self._receipts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpeechkdError(
                f"--out {path} cannot be made: {error.strerror}; choose another folder."
            ) from None
        busy = (
            f"--out {path}: another `speechkd shard` is writing there; wait for it, or choose "
            "another folder."
        )
        with ExitStack() as stack:
            stack.enter_context(locked(path, busy=busy))
            claim(path, self._receipts / CORPUS, identity)
            self._sweep()
            self.tally = self._finished_tally()
            self._lock = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @property
    def complete(self) -> bool:
        """Whether the manifest is written, so that there is nothing more to do."""
        return self.manifest.is_file()

    def write_tar(
        self,
        results: Iterator[Sample | Refusal],
        samples: int,
        clip_seconds: int = CLIP_SECONDS,
    ) -> bool:
        """Write the next tar and its receipt.

        Args:
            results: a sample or a refusal for each entry after the finished ones; only as many
                are read as fill the tar.
            samples: samples of a full tar.
            clip_seconds: seconds of the longest clip that it may hold.

        Returns:
            Whether there was a sample for it. If not, nothing is written.
        """
        from webdataset import TarWriter

        first_entry, first_refused = self.tally.entries, len(self.tally.refused)
        accepted = self._accepted(results)
        first = next(accepted, None)
        if first is None:
            return False
        number = len(self.tally.shards)
        name = f"{self._name}-{number:06d}.tar"
        count, seconds = 0, 0.0
        remarks: dict[str, Remarked] = {}
        with replaced(self.path / name) as temporary:
            with (
                temporary.open("wb") as file,
                # a fixed time and owner: the same input gives the same bytes
                TarWriter(file, user="", group="", mode=0o644, mtime=0, encoder=False) as tar,
            ):
                for sample in chain([first], islice(accepted, samples - 1)):
                    tar.write({"__key__": sample.key, "flac": sample.flac, "json": sample.json})
                    count += 1
                    seconds += sample.duration_s
                    for remark in sample.remarks:
                        remarks.setdefault(remark, Remarked()).add(1, [sample.key])
            size, digest = temporary.stat().st_size, file_sha256(temporary)
            shard = Shard(name, count, size, digest, clip_seconds)
        refused = self.tally.refused[first_refused:]
        receipt: dict[str, Any] = {
            "first_entry": first_entry,
            "entries": self.tally.entries - first_entry,
            "seconds": seconds,
            "shard": shard.record(),
            "refused": [refusal.record() for refusal in refused],
        }
        if remarks:
            receipt["remarks"] = _records(remarks)
            self.tally.remark(receipt["remarks"])
        write_json(self._receipt(number), receipt)
        self.tally.shards.append(shard)
        self.tally.seconds += seconds
        return True

    def finish(self) -> None:
        """Write refused.jsonl, summary.json and last the manifest, which says that all is there."""
        self.write_refused()
        tally = self.tally
        summary: dict[str, Any] = {
            "entries": tally.entries,
            "samples": sum(shard.samples for shard in tally.shards),
            "seconds": tally.seconds,
            "shards": len(tally.shards),
            "bytes": sum(shard.bytes for shard in tally.shards),
            "refused": tally.reasons(),
        }
        if tally.remarks:
            summary["remarks"] = _records(tally.remarks)
        write_json(self.path / SUMMARY, summary)
        write_manifest(self.manifest, tally.shards)

    def summary(self) -> dict[str, Any]:
        """The counts that `finish` wrote."""
        text = (self.path / SUMMARY).read_text(encoding="utf-8")
        summary: dict[str, Any] = json.loads(text)
        return summary

    def write_refused(self) -> Path:
        """Write refused.jsonl: one line per refused entry, in the order of the source."""
        path = self.path / "refused.jsonl"
        lines = (json.dumps(refusal.record()) + "\n" for refusal in self.tally.refused)
        write_text(path, "".join(lines))
        return path

    def _accepted(self, results: Iterator[Sample | Refusal]) -> Iterator[Sample]:
        for result in results:
            self.tally.entries += 1
            if isinstance(result, Sample):
                yield result
            else:
                self.tally.refused.append(result)

    def _receipt(self, number: int) -> Path:
        return self._receipts / f"{self._name}-{number:06d}.json"

    def _sweep(self) -> None:
        """Remove the unfinished files of a command that was killed."""
        for folder in (self.path, self._receipts):
            remove_leftovers(folder, older_than_seconds=0)

    def _finished_tally(self) -> FolderTally:
        """What is done according to the receipts whose tars are whole, up to the first gap."""
        tally = FolderTally()
        while (path := self._receipt(len(tally.shards))).is_file():
            try:
                receipt = parse_json(read_text_file(path))
                shard = Shard(**receipt["shard"])
                refused = [Refusal.from_record(record, "where") for record in receipt["refused"]]
                remarks = _remarks_of(receipt)
                whole = (self.path / shard.url).stat().st_size == shard.bytes
            except (OSError, ValueError, KeyError, TypeError):
                whole = False
            if not whole:
                say(f"{path.stem}.tar or its receipt is damaged; tars from there on are made again")
                break
            tally.entries += receipt["entries"]
            tally.seconds += receipt["seconds"]
            tally.shards.append(shard)
            tally.refused += refused
            tally.remark(remarks)
        if self.complete and not self._manifest_lists(tally.shards):
            self.manifest.unlink()
        return tally

    def _manifest_lists(self, shards: list[Shard]) -> bool:
        if not shards:  # all of one part was refused
            return not self.manifest.stat().st_size
        try:
            return shards == list(read_manifest(self.manifest))
        except (NotThere, Damaged):
            return False


def claim(folder: Path, path: Path, identity: dict[str, Any]) -> None:
    """Mark an output folder as one source's, or check that it is.

    Args:
        folder: the folder.
        path: the file in it that says whose it is.
        identity: what decides the bytes (source, settings).

    Raises:
        SpeechkdError: the folder is another's.
    """
    try:
        begun = parse_json(read_text_file(path))
        if not isinstance(begun, dict):
            raise ValueError("it is not an object")
    except FileNotFoundError:
        write_json(path, identity)
        return
    except (ValueError, OSError) as error:
        raise Damaged(f"{path} cannot be read ({error}); remove {folder}.") from None
    for name in dict.fromkeys((*identity, *begun)):  # a name may be left out: its default
        before, now = begun.get(name, "its default"), identity.get(name, "its default")
        if before != now and name == "digest of entries":
            raise SpeechkdError(
                f"--out {folder} was begun with other entries: paths, texts, times or keys of the "
                f"source have changed since (digest {before:.12}…, now {now:.12}…). Restore the "
                "source to carry on, or name a new folder for what it is now."
            )
        if before != now:
            name = "number of files" if name == "parts" else name
            raise SpeechkdError(
                f"--out {folder} was begun with another {name}: {before!r}, now {now!r}. "
                "Choose another folder, or remove that one."
            )


def check_new_or_ours(folder: Path) -> None:
    """Refuse as output a file, and a folder of something else; hidden files may be there.

    Raises:
        SpeechkdError: as said.
    """
    if folder.exists() and not folder.is_dir():
        raise SpeechkdError(f"--out {folder} is a file; name a folder.")
    if not folder.is_dir() or (folder / "receipts" / CORPUS).exists():
        return
    names = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
    foreign = [name for name in names if name != "receipts"]
    if foreign:
        raise SpeechkdError(
            f"--out {folder} holds what this command did not begin, such as {foreign[0]}; name a "
            "new folder."
        )


def summed_remarks(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The remarks of several summaries as those of one."""
    tally = FolderTally()
    for record in records:
        tally.remark(record)
    return _records(tally.remarks)


def _records(remarks: Mapping[str, Remarked]) -> dict[str, Any]:
    return {remark: remarks[remark].record() for remark in sorted(remarks)}


def _remarks_of(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """The remarks of a receipt.

    Raises:
        ValueError: they are not as `write_tar` writes them.
    """
    remarks = receipt.get("remarks", {})
    if not isinstance(remarks, dict):
        raise ValueError(f"not remarks: {remarks!r}")
    for record in remarks.values():
        clips, keys = record["clips"], record["such_as"]
        if type(clips) is not int or not isinstance(keys, list) or set(map(type, keys)) - {str}:
            raise ValueError(f"not a remark: {record!r}")
    return dict(remarks)
