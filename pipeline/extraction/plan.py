"""What stage one has to do: a task's shards, those that are done, and what the rest will take."""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.cache.layout import Identity
from pipeline.cache.store import TeacherCache
from pipeline.cluster.shares import ArrayTask, share
from pipeline.extraction.batches import WaveBatch, Work, load
from pipeline.extraction.settings import ExtractSettings, batch_size_on
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.progress import duration
from pipeline.foundation.storage import file_size, local_path
from pipeline.foundation.units import SAMPLE_RATE_HZ
from pipeline.shards.manifest import Manifest

if TYPE_CHECKING:
    import torch


@dataclass
class Tally:
    """Counts over the shards of this task, those of earlier runs included."""

    shards: int
    samples: int
    written: int
    reasons: Counter[str]
    failed: list[str]

    @property
    def refused(self) -> int:
        """Samples refused, whatever the reason."""
        return sum(self.reasons.values())

    def add(self, written: int, reasons: Iterable[str]) -> None:
        """Count a shard's rows and refusals."""
        self.written += written
        self.reasons.update(reasons)

    def check(self, max_refused: float) -> None:
        """Stop where more than `max_refused` of this task's samples are refused."""
        if self.refused > max_refused * self.samples:
            reason, count = self.reasons.most_common(1)[0]
            raise SpeechkdError(
                f"{self.refused:,} of {self.samples:,} samples are refused, more than "
                f"--max-refused {max_refused:g} allows; the commonest reason is '{reason}' "
                f"({count:,}). `speechkd cache info` lists them. Mend the tars and run with "
                "--retry-refused, or raise --max-refused."
            )


def check_tars(manifest: Manifest) -> None:
    """Every tar on a disk here exists; remote ones are asked for when their turn comes."""
    for shard in manifest:
        where = manifest.resolve(shard)
        path = local_path(where)
        if path is not None and not path.is_file():
            raise NotThere(
                f"{manifest.location} lists {shard.url}, but there is no file {where}. Put the "
                "tar there, or take its line out of the manifest (which needs a new cache)."
            )


def work_of(
    settings: ExtractSettings,
    manifest: Manifest,
    cache: TeacherCache | None,
    task: ArrayTask,
) -> tuple[list[Work], Tally]:
    """The shards of this task that are to be done, and the counts of those that are."""
    mine = share([shard.bytes for shard in manifest], task)
    receipts = cache.receipts(mine) if cache else {}
    samples = sum(manifest.shards[index].samples for index in mine)
    tally = Tally(len(mine), samples, 0, Counter(), [])
    work = []
    for index in mine:
        receipt = receipts.get(index)
        if receipt is None or (settings.retry_refused and receipt["refused"]):
            shard = manifest.shards[index]
            work.append(Work(index, shard, manifest.resolve(shard)))
        else:
            reasons = (refusal["reason"] for refusal in receipt["refused"])
            tally.add(receipt["written"], reasons)
    return work, tally


def print_plan(
    settings: ExtractSettings,
    manifest: Manifest,
    task: ArrayTask,
    devices: "list[torch.device]",
    teacher: Any,
    identity: Identity,
) -> None:
    """Check tars and cache, time the first batches, print what a run would do."""
    cache = TeacherCache.open_same(settings.cache, manifest, identity)
    work, tally = work_of(settings, manifest, cache, task)
    for item in work:
        size = file_size(item.where)
        if size != item.shard.bytes:
            raise Damaged(
                f"{item.where} has {size:,} bytes, the manifest says {item.shard.bytes:,}. "
                "Restore the tar, or make the manifest anew."
            )
    clips = sum(item.shard.samples for item in work)
    row_bytes = identity.d_model * (2 if identity.dtype == "float16" else 4)
    print(
        f"manifest    {manifest.location}: {len(manifest):,} shards, {manifest.samples:,} samples"
    )
    print(f"cache       {settings.cache}: {'carried on with' if cache else 'to be created'}")
    print(f"this task   {task} ({task.source}): {tally.shards:,} shards, {tally.samples:,} samples")
    print(
        f"to do       {len(work):,} shards, {clips:,} samples, "
        f"{sum(item.shard.bytes for item in work) / 1e9:,.2f} GB of tars"
    )
    print(
        f"teacher     {teacher.id} ({identity.precision}), {settings.pooling} pooling, "
        f"{settings.context} context, on {', '.join(map(str, devices))}"
    )
    print(f"to write    {clips * row_bytes / 1e6:,.1f} MB of vectors")
    if not work:
        return
    seconds_a_clip, audio_a_clip = _time_a_batch(
        work[0], teacher, batch_size_on(settings, devices[0])
    )
    estimate = clips * seconds_a_clip / len(devices)
    print(f"audio       about {clips * audio_a_clip / 3600:,.1f} h, judged by the first clips")
    print(
        f"time        about {duration(estimate)} ({audio_a_clip / seconds_a_clip:,.0f} audio-s/s "
        f"a device, judged by two batches; reading faster than that is assumed)"
    )


def _time_a_batch(work: Work, teacher: Any, batch_size: int) -> tuple[float, float]:
    """Seconds a clip for encoding, and seconds of audio a clip, over the first two batches."""
    clips, audio_samples, seconds_a_clip = 0, 0, 0.0
    with closing(load([work], batch_size, 0, pin=False)) as items:
        for item in items:
            if not isinstance(item, WaveBatch):
                break
            start = time.perf_counter()
            teacher.encode(item.waves_BS, item.lengths_B).cpu()
            # of the last batch: the first one warms up
            seconds_a_clip = (time.perf_counter() - start) / len(item.positions)
            clips += len(item.positions)
            audio_samples += int(item.lengths_B.sum())
            if clips >= 2 * batch_size:
                break
    if not clips:
        raise SpeechkdError(f"{work.where}: every sample of this shard is refused.")
    return seconds_a_clip, audio_samples / SAMPLE_RATE_HZ / clips
