"""The output folder of a corpus in parts: each part becomes tars in a folder of its own.

A part is written by one process, clip by clip. So parts are made beside each other, by workers and
by array tasks, and a command that was interrupted carries on within the part where it stopped.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.foundation.atomic import remove_leftovers, write_json, write_text
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.units import Seconds
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.foundation.workers import in_order
from pipeline.shards.manifest import Shard, read_manifest, write_manifest
from pipeline.shards.parts import Make, Part, Plan, entries_of, lost_clip
from pipeline.shards.refusals import Refusal
from pipeline.shards.writing import (
    SUMMARY,
    Sample,
    ShardFolder,
    check_new_or_ours,
    claim,
    summed_remarks,
)


@dataclass(frozen=True)
class Done:
    """What has become of a part."""

    number: int
    entries: int
    samples: int
    seconds: Seconds
    bytes: int
    refused: Mapping[str, int]
    example: str = ""
    """One refusal, for people."""


class PartsFolder:
    """The output folder of a corpus in parts. Several processes may write to it at once.

    Args:
        path: the folder.
        parts: the whole corpus.
        plan: how its parts become tars.

    Raises:
        SpeechkdError: the folder is another corpus', or cannot be written.
    """

    def __init__(self, path: Path, parts: Sequence[Part], plan: Plan) -> None:
        self.path, self.parts, self.plan = path, parts, plan
        self.manifest = path / "manifest.jsonl"
        digest = hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest()
        identity: dict[str, Any] = {
            "format": 1,
            "parts": len(parts),
            "number of entries": sum(part.rows for part in parts),
            "digest of entries": digest,
            "--samples-per-shard": plan.samples_per_shard,
            "columns": dict(plan.columns),
            "--clip-seconds": plan.limit_s,
            "--recording-pattern": plan.recording_pattern,
        }
        if plan.channel is not None:
            identity["--channel"] = plan.channel + 1
        claim(path, _receipts(path) / "corpus.json", identity)

    def done(self, part: Part) -> Done | None:
        """What became of a part, or None if it is not finished or its tars are not whole."""
        folder = self._folder(part)
        try:
            done = Done(**parse_json(read_text_file(folder / "done.json")))
            tars = read_manifest(folder / "manifest.jsonl") if done.samples else ()
            whole = all((folder / tar.url).stat().st_size == tar.bytes for tar in tars)
        except (OSError, ValueError, TypeError, Damaged, NotThere):
            return None
        return done if whole else None

    def make(
        self, parts: Sequence[Part], workers: int, most_refused: float
    ) -> Iterator[tuple[int, Done | None]]:
        """Write parts. Yields entries as they are done, and each part once it is finished.

        With at least as many parts as workers each worker writes parts whole, and has one clip in
        memory at a time. Otherwise the parts come one after the other, and workers decode.

        Raises:
            SpeechkdError: more than `most_refused` entries of a part were refused, or the disk is
                full; what is finished is kept.
        """
        if workers > 1 and len(parts) >= workers:
            write = _Write(self.path, self.plan, most_refused)
            # A clip or the file has ended its worker twice. From here the file is read, and each
            # clip decoded, by processes of their own, so that the one that does it is named.
            died = replace(write, workers=workers)
            with closing(in_order(write, parts, workers, died=died, per_task=1)) as results:
                for done in results:
                    yield done.entries, done
        else:
            for part in parts:
                yield from _write(self.path, part, self.plan, most_refused, workers)

    def finish(self) -> bool:
        """Write the manifest and summary if all parts are finished; say whether they are."""
        done = [self.done(part) for part in self.parts]
        finished = [one for one in done if one is not None]
        if len(finished) < len(done):
            return False
        shards = [
            replace(shard, url=f"{self._folder(part).relative_to(self.path)}/{shard.url}")
            for part, one in zip(self.parts, finished, strict=True)
            if one.samples
            for shard in read_manifest(self._folder(part) / "manifest.jsonl")
        ]
        if not shards:
            raise SpeechkdError(f"--out {self.path}: every entry was refused, {_why(finished)}.")
        lines = [
            (self._folder(part) / "refused.jsonl").read_text(encoding="utf-8")
            for part in self.parts
        ]
        write_text(self.path / "refused.jsonl", "".join(lines))
        summaries = (parse_json(read_text_file(self._folder(p) / SUMMARY)) for p in self.parts)
        remarks = summed_remarks(summary.get("remarks", {}) for summary in summaries)
        summary = {**_summary(finished, shards), **({"remarks": remarks} if remarks else {})}
        write_json(self.path / SUMMARY, summary)
        write_manifest(self.manifest, shards)
        return True

    def summary(self) -> dict[str, Any]:
        """The counts that `finish` wrote."""
        summary: dict[str, Any] = parse_json(read_text_file(self.path / SUMMARY))
        return summary

    def _folder(self, part: Part) -> Path:
        return _folder_of(self.path, part)


def surveys_in(path: Path) -> Path:
    """The folder for the surveys of files in an output folder, which is made if it is new.

    Raises:
        SpeechkdError: the output folder is another command's, or cannot be made.
    """
    surveys = _receipts(path, "survey")
    remove_leftovers(surveys)
    return surveys


def _receipts(path: Path, part: str = "") -> Path:
    """The folder of receipts in an output folder, or a part of it; made if it is not there."""
    receipts = path / "receipts" / part
    check_new_or_ours(path)
    try:
        receipts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpeechkdError(
            f"--out {path} cannot be made: {error.strerror}; choose another folder."
        ) from None
    return receipts


def _why(done: Sequence[Done]) -> str:
    reasons = sum((Counter(one.refused) for one in done), Counter[str]())
    reason, count = reasons.most_common(1)[0]
    example = next(one.example for one in done if one.example)
    return f"{count:,} for '{reason}', for instance {example}"


def _summary(done: Sequence[Done], shards: Sequence[Shard]) -> dict[str, Any]:
    reasons = sum((Counter(one.refused) for one in done), Counter[str]())
    return {
        "entries": sum(one.entries for one in done),
        "samples": sum(one.samples for one in done),
        "seconds": sum(one.seconds for one in done),
        "shards": len(shards),
        "bytes": sum(shard.bytes for shard in shards),
        "refused": dict(reasons.most_common()),
    }


def _folder_of(out: Path, part: Part) -> Path:
    return out / "parts" / f"{part.number:05d}"


@dataclass(frozen=True)
class _Write:
    """Writes a part whole; can be sent to a worker."""

    out: Path
    plan: Plan
    most_refused: float
    workers: int = 0

    def __call__(self, part: Part) -> Done:
        written = _write(self.out, part, self.plan, self.most_refused, self.workers)
        return [done for _, done in written if done][-1]


def _write(
    out: Path, part: Part, plan: Plan, most_refused: float, workers: int
) -> Iterator[tuple[int, Done | None]]:
    """Write the tars of one part that are not there yet."""
    folder_path = _folder_of(out, part)
    identity = {"format": 1, "file": part.file.name, "digest of entries": part.digest}
    with ShardFolder(folder_path, identity, f"speech-{part.number:05d}") as folder:
        first = folder.tally.entries
        if first:
            yield first, None
        rows = entries_of(part, plan, first)
        make = Make(plan.limit_s, plan.channel)
        counted = 0

        def watched(results: Iterator[Sample | Refusal]) -> Iterator[Sample | Refusal]:
            nonlocal counted
            for result in results:
                yield result
                counted += 1
                if len(folder.tally.refused) > most_refused:
                    raise SpeechkdError(_too_many(folder))

        with closing(in_order(make, rows, workers, died=lost_clip)) as results:
            stream = watched(results)
            while folder.write_tar(stream, plan.samples_per_shard, plan.limit_s):
                yield counted, None
                counted = 0
        folder.finish()
        refused = folder.tally.refused
        done = Done(
            number=part.number,
            entries=folder.tally.entries,
            samples=sum(shard.samples for shard in folder.tally.shards),
            seconds=folder.tally.seconds,
            bytes=sum(shard.bytes for shard in folder.tally.shards),
            refused=folder.tally.reasons(),
            example=example_of(refused[0]) if refused else "",
        )
        write_json(folder_path / "done.json", asdict(done))
        yield counted, done


def _too_many(folder: ShardFolder) -> str:
    tally = folder.tally
    reason, count = next(iter(tally.reasons().items()))
    example = next(refusal for refusal in tally.refused if refusal.reason == reason)
    return (
        f"more entries were refused than --max-refused allows: {len(tally.refused):,} of the first "
        f"{tally.entries:,} of one file, {count:,} for '{reason}', for instance "
        f"{example_of(example)}. All are in {folder.write_refused()}. Raise --max-refused and the "
        "same command carries on, or correct them and name a new --out."
    )


def example_of(refusal: Refusal) -> str:
    """A refusal as an example in a message."""
    return f"{refusal.key!r} ({refusal.where}): {refusal.detail}"
