"""Stage one from its settings to its last line, whatever kind of cache it makes."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING

from pipeline.cache.identity import Dtype, Identity
from pipeline.cache.store import TeacherCache
from pipeline.cluster.shares import ArrayTask
from pipeline.extraction import loop
from pipeline.extraction.loop import Encoded, Event, Failed, Finished
from pipeline.extraction.plan import Tally, check_tars, plan, work_of
from pipeline.extraction.rows import Encodes
from pipeline.extraction.settings import (
    ExtractionSettings,
    SpeedSettings,
    batch_size_on,
    workers_for,
)
from pipeline.foundation.devices import CPU
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import Meter, counted, say
from pipeline.foundation.provenance import versions
from pipeline.foundation.signals import stop_at_once
from pipeline.shards.manifest import Manifest
from pipeline.shards.remarks import REMEDIES, Remark

if TYPE_CHECKING:
    import torch


def run_extraction(
    settings: ExtractionSettings,
    speed: SpeedSettings,
    manifest: Manifest,
    task: ArrayTask,
    devices: "list[torch.device]",
    encoder_on: "Callable[[torch.device], Encodes]",
    dtype: Dtype,
    about: Callable[[Identity], str],
) -> None:
    """Encode an array task's shards into the cache, or print the plan of a dry run.

    Args:
        settings: what is read and written.
        speed: the settings of time.
        manifest: all shards.
        task: whose share of them to do.
        devices: where to compute.
        encoder_on: loads the encoder onto a device; must be importable from another process.
        dtype: of the stored rows.
        about: the plan's line on what encodes, and where.

    Raises:
        SpeechkdError: anything that the user can mend; finished shards stay.
    """
    # of several devices each has a process of its own: this one opens no context on any
    encoder = encoder_on(devices[0] if len(devices) == 1 or settings.dry_run else CPU)
    identity = encoder.identity(dtype, manifest.clip_seconds).of_channel(settings.channel)
    batch_size = batch_size_on(speed, devices[0])
    if settings.dry_run:
        sizes = {"batch_size": batch_size, "devices": len(devices)}
        for line in plan(settings, manifest, task, encoder, identity, about(identity), **sizes):
            print(line)
        return
    begun = TeacherCache.open_same(settings.cache, manifest, identity)
    again, channel = settings.retry_refused, settings.channel
    work, tally = work_of(manifest, begun, task, retry_refused=again, channel=channel)
    check_tars(manifest, work)
    cache = TeacherCache.create_or_open(settings.cache, manifest, identity, versions())
    tally.check(settings.max_refused)
    if not work:
        done = counted(tally.shards, "shard")
        say(f"{cache.location}: {done} of this task, all done; nothing to do")
        print_summary(cache, tally)
        return
    clips = sum(item.shard.samples for item in work)
    workers = workers_for(speed, devices, clips, beside_reading=encoder.beside_reading)
    with stop_at_once("unfinished shards are dropped; the same command carries on"):
        if len(devices) == 1:
            events = loop.extract(
                work, encoder, cache, versions(), batch_size=batch_size, workers=workers
            )
        else:
            del encoder  # because each process loads its own
            events = loop.extract_on(
                devices,
                work,
                encoder_on,
                cache.location,
                versions(),
                batch_size=batch_size,
                workers=workers,
            )
        follow(events, tally, settings.max_refused)
    print_summary(cache, tally)


def follow(
    events: "Generator[Event, None, None]", tally: Tally, max_refused: float, source: str = "audio"
) -> None:
    """Show progress, count, and stop when too many samples are refused.

    Args:
        events: of the loop.
        tally: the counts, which it keeps.
        max_refused: the largest share of samples that may be refused.
        source: what is read, in words.

    Raises:
        SpeechkdError: too many samples are refused.
    """
    audio_seconds = wait_seconds = encode_seconds = write_seconds = 0.0
    start = time.monotonic()
    done = tally.written + tally.refused
    with closing(events), Meter("extracting", tally.samples, "clips", done=done) as meter:
        for event in events:
            match event:
                case Encoded():
                    audio_seconds += event.audio_seconds
                    wait_seconds += event.wait_seconds
                    encode_seconds += event.encode_seconds
                    spent = max(wait_seconds + encode_seconds, 1e-9)
                    meter.advance(
                        event.clips,
                        f"{audio_seconds / (time.monotonic() - start):,.0f} audio-s/s, "
                        f"waiting for {source} "
                        f"{wait_seconds / spent:.0%}, encoding {encode_seconds / spent:.0%}, "
                        f"writing meanwhile {write_seconds / spent:.0%}",
                    )
                case Finished():
                    write_seconds += event.write_seconds
                    tally.add(event.written, (refusal.reason for refusal in event.refused))
                    tally.remark(event.remarks)
                    meter.advance(event.undecoded, meter.note)
                    tally.check(max_refused)
                case Failed():
                    tally.failed.append(event.message)
                    say(f"shard {event.index} failed: {event.message}")


def print_summary(cache: TeacherCache, tally: Tally) -> None:
    """Print what an array task has written and refused.

    Raises:
        SpeechkdError: a shard failed; finished ones stay.
    """
    one = "clip" if cache.identity.is_sequence else "row"
    print(
        f"{cache.location}: {counted(tally.written, one)} written, "
        f"{counted(tally.refused, 'sample')} refused, of {tally.samples:,} in "
        f"{counted(tally.shards, 'shard')}"
    )
    for reason, count in tally.reasons.most_common():
        print(f"  refused: {reason}: {count:,}")
    for remark, odd in tally.remarks.items():
        print(
            f"  taken, but odd: {remark}: {odd.clips:,}, such as {', '.join(odd.keys)} "
            f"({REMEDIES[Remark(remark)]})"
        )
    if tally.failed:
        first = "\n  ".join(tally.failed[:5])
        raise SpeechkdError(
            f"{counted(len(tally.failed), 'shard')} failed and are not in the cache:\n  {first}"
        )
