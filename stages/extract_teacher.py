"""Tar shards → teacher cache: Whisper's vectors, computed once. Stage one."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.extraction.settings import (
    ExtractSettings,
    batch_size_on,
    precision_on,
    workers_for,
)
from pipeline.foundation.errors import SpeechkdError

if TYPE_CHECKING:
    import torch

    from pipeline.cache.layout import Identity
    from pipeline.cache.store import TeacherCache
    from pipeline.extraction.loop import Event
    from pipeline.extraction.plan import Tally
    from pipeline.extraction.teacher import DummyTeacher, EncoderPrecision, Teacher


def run(settings: ExtractSettings) -> None:
    """Compute the teacher's vector of every clip, once, into a cache.

    MANIFEST lists tar shards; speechkd shard makes both. Each clip becomes one vector,
    and its key, text and duration are stored with it. A shard is done once its receipt is
    written. So the command may be stopped at any time, run as a job array, run on several
    machines at once, and run again: each time it does what is not done yet.

    Example: speechkd extract-teacher shards/manifest.jsonl --cache caches/mine
    """
    from pipeline.cache.store import TeacherCache
    from pipeline.cluster.shares import array_task
    from pipeline.extraction.plan import check_tars, plan, work_of
    from pipeline.extraction.teacher import check_clip_seconds
    from pipeline.foundation.devices import CPU, devices_named
    from pipeline.foundation.progress import say
    from pipeline.foundation.provenance import versions
    from pipeline.foundation.signals import stop_at_once
    from pipeline.shards.manifest import read_manifest

    manifest = read_manifest(settings.manifest)
    if settings.encoder != "dummy":
        check_clip_seconds(manifest.clip_seconds, settings.pooling, settings.context)
    task = array_task(settings.array_task)
    devices = devices_named(settings.devices)
    teacher_on = _TeacherOn(settings, precision_on(settings, devices), manifest.clip_seconds)
    # of several devices each has a process of its own: this one opens no context on any
    teacher = teacher_on(devices[0] if len(devices) == 1 or settings.dry_run else CPU)
    identity = _identity(settings, teacher, manifest.clip_seconds)
    if settings.dry_run:
        for line in plan(settings, manifest, task, devices, teacher, identity):
            print(line)
        return
    check_tars(manifest)
    cache = TeacherCache.create_or_open(settings.cache, manifest, identity, versions())
    work, tally = work_of(settings, manifest, cache, task)
    tally.check(settings.max_refused)
    if not work:
        say(f"{cache.location}: all {tally.shards:,} shards of this task are done; nothing to do")
        _print_summary(cache, tally)
        return

    from pipeline.extraction.loop import extract, extract_on

    speed = {
        "batch_size": batch_size_on(settings, devices[0]),
        "workers": workers_for(settings, devices, sum(item.shard.samples for item in work)),
    }
    with stop_at_once("unfinished shards are dropped; the same command carries on"):
        if len(devices) == 1:
            events = extract(work, teacher, cache, versions(), **speed)
        else:
            del teacher  # because each process loads its own
            events = extract_on(devices, work, teacher_on, cache.location, versions(), **speed)
        _follow(events, tally, settings.max_refused)
    _print_summary(cache, tally)
    if tally.failed:
        first = "\n  ".join(tally.failed[:5])
        raise SpeechkdError(
            f"{len(tally.failed)} shards failed and are not in the cache:\n  {first}"
        )


@dataclass(frozen=True)
class _TeacherOn:
    """Loads the teacher that the settings name onto a device. Can be sent to other processes."""

    settings: ExtractSettings
    precision: "EncoderPrecision"
    clip_seconds: int

    def __call__(self, device: "torch.device") -> "Teacher | DummyTeacher":
        from pipeline.extraction.teacher import DummyTeacher, load_teacher
        from pipeline.foundation.devices import use

        use(device)
        if self.settings.encoder == "dummy":
            return DummyTeacher(device, self.clip_seconds)
        return load_teacher(
            self.settings.teacher,
            device=device,
            precision=self.precision,
            pooling=self.settings.pooling,
            context=self.settings.context,
        )


def _identity(
    settings: ExtractSettings, teacher: "Teacher | DummyTeacher", clip_seconds: int
) -> "Identity":
    from pipeline.cache.layout import Identity

    return Identity(
        teacher=teacher.id,
        teacher_sha256=teacher.sha256,
        d_model=teacher.d_model,
        pooling=settings.pooling,
        context_seconds=int(settings.context.removesuffix("s")),
        precision=teacher.precision,
        dtype=settings.dtype,
        clip_seconds=clip_seconds,
    )


def _follow(events: "Generator[Event, None, None]", tally: "Tally", max_refused: float) -> None:
    """Show progress, count, and stop when too many samples are refused."""
    import time
    from contextlib import closing

    from pipeline.extraction.loop import Encoded, Failed, Finished
    from pipeline.foundation.progress import Meter, say

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
                        f"waiting for audio "
                        f"{wait_seconds / spent:.0%}, encoding {encode_seconds / spent:.0%}, "
                        f"writing meanwhile {write_seconds / spent:.0%}",
                    )
                case Finished():
                    write_seconds += event.write_seconds
                    tally.add(event.written, (refusal.reason for refusal in event.refused))
                    meter.advance(event.undecoded, meter.note)
                    tally.check(max_refused)
                case Failed():
                    tally.failed.append(event.message)
                    say(f"shard {event.index} failed: {event.message}")


def _print_summary(cache: "TeacherCache", tally: "Tally") -> None:
    print(
        f"{cache.location}: {tally.written:,} rows written, {tally.refused:,} samples refused, "
        f"of {tally.samples:,} in {tally.shards:,} shards"
    )
    for reason, count in tally.reasons.most_common():
        print(f"  refused: {reason}: {count:,}")


COMMANDS = {"extract-teacher": (ExtractSettings, run)}
