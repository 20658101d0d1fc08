"""What stage one has to do: the shards of an array task, those done, and the time for the rest."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.cache.identity import Identity
from pipeline.cache.layout import bytes_on_disk
from pipeline.cache.store import TeacherCache
from pipeline.cluster.shares import ArrayTask, share
from pipeline.extraction.batches import WaveBatch, Work, load
from pipeline.extraction.settings import ExtractionSettings
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.progress import counted, duration
from pipeline.foundation.storage import file_size, local_path
from pipeline.foundation.units import SAMPLE_RATE_HZ, Seconds
from pipeline.shards.manifest import Manifest
from pipeline.shards.remarks import Remarked

if TYPE_CHECKING:
    from pipeline.extraction.rows import Encodes


@dataclass
class Tally:
    """Counts over the shards of this array task, those of earlier runs included."""

    shards: int
    samples: int
    written: int
    reasons: Counter[str]
    failed: list[str]
    remarks: dict[str, Remarked] = field(default_factory=dict)
    """Clips of this run whose sound is odd, by what is odd."""

    @property
    def refused(self) -> int:
        """Samples refused, whatever the reason."""
        return sum(self.reasons.values())

    def add(self, written: int, reasons: Iterable[str]) -> None:
        """Count a shard's clips and refusals."""
        self.written += written
        self.reasons.update(reasons)

    def remark(self, remarks: Mapping[str, Remarked]) -> None:
        """Count a shard's clips whose sound is odd."""
        for remark, clips in remarks.items():
            self.remarks.setdefault(remark, Remarked()).add(clips.clips, clips.keys)

    def check(self, max_refused: float) -> None:
        """Refuse to go on if too many samples are refused.

        Args:
            max_refused: the largest share of this array task's samples that may be refused.

        Raises:
            SpeechkdError: more of them are refused.
        """
        if self.refused > max_refused * self.samples:
            reason, count = self.reasons.most_common(1)[0]
            raise SpeechkdError(
                f"{self.refused:,} of {counted(self.samples, 'sample')} refused, more than "
                f"--max-refused {max_refused:g} allows; the commonest reason is '{reason}' "
                f"({count:,}). `speechkd cache info` lists them. Correct the tars and run with "
                "--retry-refused, or raise --max-refused."
            )


def check_tars(manifest: Manifest, work: Iterable[Work]) -> None:
    """Check that the tars to be read exist on a local disk; remote ones are met in their turn.

    Raises:
        NotThere: one does not exist.
    """
    for item in work:
        path = local_path(item.where)
        if path is not None and not path.is_file():
            raise NotThere(
                f"{manifest.location} lists {item.shard.url}, but there is no file {item.where}. "
                "Put the tar there, or take its line out of the manifest (which needs a new cache)."
            )


def work_of(
    manifest: Manifest,
    cache: TeacherCache | None,
    task: ArrayTask,
    *,
    retry_refused: bool = False,
    channel: int = 0,
) -> tuple[list[Work], Tally]:
    """Divide the shards of an array task into those to do and those done.

    Args:
        manifest: all shards.
        cache: the cache; None if it does not exist yet.
        task: whose share of the shards.
        retry_refused: whether shards with refused samples are done again.
        channel: the one channel to take of each clip, from 1; 0 for the mean of all.

    Returns:
        The shards to do, and the counts of the others.
    """
    mine = share([shard.bytes for shard in manifest], task)
    receipts = cache.receipts(mine) if cache else {}
    samples = sum(manifest.shards[index].samples for index in mine)
    tally = Tally(len(mine), samples, 0, Counter(), [])
    work = []
    for index in mine:
        receipt = receipts.get(index)
        if receipt is None or (retry_refused and receipt["refused"]):
            shard = manifest.shards[index]
            chosen = channel - 1 if channel else None
            work.append(Work(index, shard, manifest.resolve(shard), chosen))
        else:
            reasons = (refusal["reason"] for refusal in receipt["refused"])
            tally.add(receipt["written"], reasons)
    return work, tally


def plan(
    settings: ExtractionSettings,
    manifest: Manifest,
    task: ArrayTask,
    encoder: "Encodes",
    identity: Identity,
    about: str,
    *,
    batch_size: int,
    devices: int,
) -> Iterator[str]:
    """Check tars and cache, time the first batches, and yield lines on what a run would do.

    Args:
        settings: the user's.
        manifest: all shards.
        task: whose share of them to plan.
        encoder: on one of the devices.
        identity: of the cache that the run would make.
        about: what encodes, and where, in words.
        batch_size: clips per batch.
        devices: their number.

    Raises:
        SpeechkdError: a tar is missing or of another size than the manifest says, the cache is
            of other settings, or every sample of the first shard is refused.
    """
    cache = TeacherCache.open_same(settings.cache, manifest, identity)
    again, channel = settings.retry_refused, settings.channel
    work, tally = work_of(manifest, cache, task, retry_refused=again, channel=channel)
    for item in work:
        size = file_size(item.where)
        if size != item.shard.bytes:
            raise Damaged(
                f"{item.where} has {size:,} bytes, the manifest says {item.shard.bytes:,}. "
                "Restore the tar, or make the manifest anew."
            )
    clips = sum(item.shard.samples for item in work)
    tar_bytes = sum(item.shard.bytes for item in work)
    yield (
        f"manifest    {manifest.location}: {counted(len(manifest), 'shard')}, "
        f"{counted(manifest.samples, 'sample')}"
    )
    yield f"cache       {settings.cache}: {'to be continued' if cache else 'to be created'}"
    yield (
        f"this task   {task} ({task.source}): {counted(tally.shards, 'shard')}, "
        f"{counted(tally.samples, 'sample')}"
    )
    yield (
        f"to do       {counted(len(work), 'shard')}, {counted(clips, 'sample')}, "
        f"{_bytes(tar_bytes)} of tars"
    )
    yield about
    if not identity.is_sequence:
        size = bytes_on_disk(identity, (item.shard.samples for item in work))
        yield f"to write    {_bytes(size)} of vectors"
    if not work:
        return
    pace = _pace(work[0], encoder, batch_size)
    if identity.is_sequence:
        per_clip = pace.rows / pace.clips
        about_bytes = bytes_on_disk(identity, (item.shard.samples * per_clip for item in work))
        most = bytes_on_disk(identity, (item.shard.samples * identity.most_rows for item in work))
        yield (
            f"to write    about {_bytes(about_bytes)} of {identity.kind} "
            f"({per_clip:,.0f} rows of {identity.width} × {identity.dtype} per clip, "
            f"judging by the first {pace.clips:,}); at most {_bytes(most)}"
        )
    estimate = clips * pace.encode_seconds / devices
    yield (
        f"audio       about {clips * pace.audio_seconds / 3600:,.1f} h, judging by the first clips"
    )
    yield (
        f"time        about {duration(estimate)} "
        f"({pace.audio_seconds / pace.encode_seconds:,.0f} audio-s/s "
        f"per device, judging by two batches, if reading is no slower than that)"
    )


@dataclass(frozen=True)
class _Pace:
    """What the first clips of a shard show.

    Attributes:
        clips: their number.
        rows: of all of them.
        audio_seconds: mean length of a clip.
        encode_seconds: mean time that a clip takes.
    """

    clips: int
    rows: int
    audio_seconds: Seconds
    encode_seconds: Seconds


def _pace(work: Work, encoder: "Encodes", batch_size: int) -> _Pace:
    """The first two batches of a shard, encoded."""
    clips, rows, audio_samples, encode_seconds = 0, 0, 0, 0.0
    with closing(load([work], batch_size, 0, pin=False)) as items:
        for item in items:
            if not isinstance(item, WaveBatch):
                break
            start = time.perf_counter()
            rows += len(encoder.rows_of(item).rows_NE.cpu())
            # only the last batch counts, because the first one warms up
            encode_seconds = (time.perf_counter() - start) / len(item.positions)
            clips += len(item.positions)
            audio_samples += int(item.lengths_B.sum())
            if clips >= 2 * batch_size:
                break
    if not clips:
        raise SpeechkdError(f"{work.where}: every sample of this shard is refused.")
    return _Pace(clips, rows, audio_samples / SAMPLE_RATE_HZ / clips, encode_seconds)


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
