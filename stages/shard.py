"""Recordings and transcripts → WebDataset tars of short clips, and a data manifest."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import CLIP_SECONDS, SAMPLE_RATE_HZ
from pipeline.shards.asked import (
    ARRAY_TASK,
    CHANNEL,
    RECORDING_PATTERN,
    given,
    refuse_what_it_cannot_use,
    refuse_what_it_did_not_use,
)
from pipeline.shards.corpora import open_source
from pipeline.shards.recording_table import RecordingColumns
from pipeline.shards.refusals import Reason, Refusal
from pipeline.shards.settings import ShardSettings
from pipeline.shards.source import Source
from pipeline.shards.timed import Cutting

if TYPE_CHECKING:
    from pipeline.foundation.progress import Meter
    from pipeline.shards.writing import FolderTally, Sample, ShardFolder

TAR_BYTES_PER_CLIP = 4096  # headers, padding and the .json


def run(settings: ShardSettings) -> None:
    """Pack recordings and transcripts into tars of clips of at most 15 s (--clip-seconds).

    SOURCE is a table with a column of paths and one of texts, a folder of recordings with a .txt
    or a file of times (subtitles, Whisper's JSON, TextGrid, ELAN, STM, …) beside each, or a corpus
    in the layout of LibriSpeech, Common Voice, Kaldi, lhotse and others (--layout), or Parquet
    (a folder or a URL, hf:// or s3:// for instance). In a table, relative paths start at the
    table, and columns start and end, in seconds, cut a recording.

    The folder gets speech-000000.tar and so on (one 16 kHz mono FLAC and one .json per clip, in
    the order of the source), then refused.jsonl, and last manifest.jsonl. A longer
    recording without times is refused, because nobody knows where its transcript would have to
    be cut. When the command is interrupted, the same command carries on.

    Example: speechkd shard corpus.tsv --out shards
    """
    from pipeline.foundation.progress import counted, say
    from pipeline.foundation.workers import cores
    from pipeline.shards.arrow import is_in_parts
    from pipeline.shards.entries import survey
    from pipeline.shards.walking import passed_over
    from pipeline.shards.writing import ShardFolder

    is_parquet = settings.layout == "auto" and is_in_parts(str(settings.source))
    if is_parquet or settings.layout == "parquet":
        _shard_parts(settings)
        return
    source = _open(settings)
    say(f"{settings.source}: {source.description}")
    used: set[str] | None = set() if Path(settings.source).is_dir() else None
    entries, digest = survey(source, used)
    say(f"{settings.source}: {counted(entries, 'entry', 'entries')}")
    if used is not None:
        used |= source.notes.used
        for line in passed_over(Path(settings.source), used, outside_links=settings.follow_links):
            say(f"{settings.source}: {line}")
    for line in source.notes.lines():
        say(f"{settings.source}: {line}")
    workers = cores() if settings.workers < 0 else settings.workers
    if settings.dry_run:
        _print_plan(settings, source, entries, workers)
        return

    identity: dict[str, int | str] = {
        "format": 1,
        "number of entries": entries,
        "digest of entries": digest,
        "--samples-per-shard": settings.samples_per_shard,
    }
    if settings.clip_seconds != CLIP_SECONDS:
        identity["--clip-seconds"] = settings.clip_seconds
    if settings.channel:
        identity["--channel"] = settings.channel
    with ShardFolder(settings.out, identity) as folder:
        if folder.complete:
            say(f"{folder.manifest} is there and its tars are whole: nothing to do")
        else:
            _fill(folder, settings, source, entries, workers)
        _print_summary(folder)


def _fill(
    folder: "ShardFolder", settings: ShardSettings, source: Source, entries: int, workers: int
) -> None:
    """Write the tars that are not there yet, then the manifest."""
    from pipeline.foundation.progress import Meter, counted, say
    from pipeline.foundation.workers import in_order
    from pipeline.shards.entries import checked, decoder_died, make_sample

    done = folder.tally.entries
    if done:
        tars = counted(len(folder.tally.shards), "finished tar")
        say(f"{settings.out}: carries on after {tars}")
    left = islice(checked(source), done, None)
    make = partial(make_sample, limit_s=settings.clip_seconds, channel=_channel(settings))
    results = in_order(make, left, workers, died=decoder_died)
    try:
        with closing(results), Meter("sharding", entries, "clips", done=done) as meter:
            watched = _watched(results, folder, meter, settings.max_refused * entries)
            while folder.write_tar(watched, settings.samples_per_shard, settings.clip_seconds):
                pass
        if not folder.tally.shards:
            raise SpeechkdError(_refusal_message(folder, "every entry was refused"))
        folder.finish()
    except OSError as error:
        raise SpeechkdError(
            f"--out {settings.out}: {error}. What is finished is kept; make room or repair "
            "the folder, and the same command carries on."
        ) from error


def _shard_parts(settings: ShardSettings) -> None:
    """Pack a corpus whose tables hold the audio, file by file."""
    from pipeline.cluster.shares import array_task, share
    from pipeline.foundation.progress import Meter, counted, say
    from pipeline.foundation.workers import cores
    from pipeline.shards.arrow import find_files, shape_of
    from pipeline.shards.bill import bill, clips_tried
    from pipeline.shards.parts import Plan, choose_columns
    from pipeline.shards.parts_folder import PartsFolder, surveys_in
    from pipeline.shards.survey import survey

    named = _columns(settings)
    asked = _others(settings) | given(
        *(named, settings.audio_folder, settings.tier, settings.join, settings.split),
        outside_links=settings.follow_links,
    )
    refuse_what_it_cannot_use(asked, str(settings.source), "parquet")
    files = find_files(str(settings.source).rstrip("/"), settings.split)
    columns = choose_columns(files[0], named)
    if "recording" in columns:
        refuse_what_it_did_not_use(asked & {RECORDING_PATTERN}, str(settings.source))
    origins = ", ".join(f"{name} from {column!r}" for name, column in columns.items())
    splits = ", ".join(dict.fromkeys(file.split for file in files))
    say(
        f"{settings.source}: {counted(len(files), 'file')} with audio inside, "
        f"split {splits} ({origins})"
    )
    unused = [name for name in shape_of(files[0]).columns if name not in columns.values()]
    if unused:
        say(f"{settings.source}: columns that are not used: {', '.join(unused)}")
    plan = Plan(
        *(columns, settings.samples_per_shard, settings.clip_seconds),
        *(settings.recording_pattern, _channel(settings)),
    )
    workers = cores() if settings.workers < 0 else settings.workers
    task = array_task(settings.array_task)
    kept = None if settings.dry_run else surveys_in(settings.out)
    first = len(files) * task.index // task.count
    with Meter("reading texts", len(files), "files") as meter:
        parts = survey(files, plan, workers, lambda _: meter.advance(1), kept, first)
    entries = sum(part.rows for part in parts)
    say(f"{settings.source}: {counted(entries, 'entry', 'entries')}")
    if not entries:
        raise SpeechkdError(f"{settings.source} lists no recording.")
    if settings.dry_run:
        with Meter("trying clips", clips_tried(parts), "clips") as meter:
            estimate = bill(parts, plan, meter.advance)
        for line in estimate.lines(parts, settings.out):
            print(line)
        return
    folder = PartsFolder(settings.out, parts, plan)
    mine = [parts[i] for i in share([part.audio_bytes for part in parts], task)]
    todo = [part for part in mine if folder.done(part) is None]
    if len(todo) < len(mine):
        say(f"{settings.out}: {len(mine) - len(todo):,} of {counted(len(mine), 'file')} are done")
    limit = settings.max_refused * entries
    refused = sum(sum(done.refused.values()) for part in mine if (done := folder.done(part)))
    with Meter("sharding", sum(part.rows for part in todo), "clips") as meter:
        for count, done in folder.make(todo, workers, limit):
            refused += sum(done.refused.values()) if done else 0
            meter.advance(count, f"{refused:,} refused" if refused else "")
            if refused > limit and done:
                raise SpeechkdError(
                    f"more entries were refused than --max-refused allows: {refused:,} of "
                    f"{entries:,}, for instance {done.example}. What is finished is kept; raise "
                    "--max-refused and the same command carries on."
                )
    if folder.finish():
        _print_counts(folder.summary(), folder.manifest)
    else:
        say(f"{settings.out}: this share is done; the last one to be done writes the manifest")


def _columns(settings: ShardSettings) -> RecordingColumns:
    names = RecordingColumns.__dataclass_fields__
    return RecordingColumns(**{name: getattr(settings, f"{name}_column") for name in names})


def _others(settings: ShardSettings) -> set[str]:
    """Flags that the user gave and that no source takes as an argument."""
    flags = {
        CHANNEL: settings.channel,
        RECORDING_PATTERN: settings.recording_pattern,
        ARRAY_TASK: settings.array_task,
    }
    return {flag for flag, value in flags.items() if value}


def _open(settings: ShardSettings) -> Source:
    columns = _columns(settings)
    cutting = Cutting(tuple(settings.tier), settings.join, settings.clip_seconds)
    return open_source(
        *(Path(settings.source), settings.layout, columns, settings.audio_folder, cutting),
        split=settings.split,
        outside_links=settings.follow_links,
        others=_others(settings),
    )


def _channel(settings: ShardSettings) -> int | None:
    """The channel as the decoder counts it, from 0; None for the mean of all."""
    return settings.channel - 1 if settings.channel else None


def _watched(
    results: "Iterator[Sample | Refusal]", folder: "ShardFolder", meter: "Meter", limit: float
) -> "Iterator[Sample | Refusal]":
    """Pass results on, show progress, and stop when more than `limit` entries are refused."""
    refused = len(folder.tally.refused)
    for result in results:
        refused += isinstance(result, Refusal)
        yield result
        meter.advance(1, f"{refused:,} refused" if refused else "")
        if refused > limit:
            raise SpeechkdError(
                _refusal_message(folder, "more entries were refused than --max-refused allows")
            )


def _refusal_message(folder: "ShardFolder", what: str) -> str:
    from pipeline.foundation.progress import counted

    tally = folder.tally
    reason, count = next(iter(tally.reasons().items()))
    hint = " Where recordings are cut already, --start-column none takes them whole."
    return (
        f"{what}: {len(tally.refused):,} of the first "
        f"{counted(tally.entries, 'entry', 'entries')}, {count:,} for "
        f"'{reason}', for instance {_listed(tally.examples(reason))}. All "
        f"are in {folder.write_refused()}. Raise --max-refused and the same command carries on, or "
        f"correct them and name a new --out.{hint if reason == Reason.OUTSIDE else ''}"
    )


def _listed(refusals: "Iterable[Refusal]") -> str:
    return "; ".join(f"{r.key!r} ({r.where}): {r.detail}" for r in refusals)


def _print_summary(folder: "ShardFolder") -> None:
    _print_counts(folder.summary(), folder.manifest, folder.tally)


def _print_counts(
    summary: dict[str, Any], manifest: Path, tally: "FolderTally | None" = None
) -> None:
    from pipeline.foundation.progress import counted
    from pipeline.shards.remarks import REMEDIES

    print(
        f"{counted(summary['samples'], 'clip')}, {summary['seconds'] / 3600:,.2f} h, "
        f"{counted(summary['shards'], 'tar')}, {summary['bytes'] / 1e6:,.1f} MB: {manifest}"
    )
    for reason, count in summary["refused"].items():
        examples = f", such as {_listed(tally.examples(reason))}" if tally else ""
        print(f"refused: {count:,} for {reason}{examples}")
    for remark, record in summary.get("remarks", {}).items():
        print(
            f"kept, but {remark}: {counted(record['clips'], 'clip')}, such as "
            f"{', '.join(record['such_as'])} ({REMEDIES.get(remark, 'listen to it')})"
        )


def _print_plan(settings: ShardSettings, source: Source, entries: int, workers: int) -> None:
    from pipeline.foundation.progress import Meter, counted
    from pipeline.foundation.workers import in_order
    from pipeline.shards.entries import checked, decoder_died, measure
    from pipeline.shards.writing import FolderTally

    seconds, clips, tally = 0.0, 0, FolderTally()
    with Meter("reading headers", entries, "clips") as meter:
        length = partial(measure, limit_s=settings.clip_seconds, channel=_channel(settings))
        for result in in_order(length, checked(source), workers, died=decoder_died):
            if isinstance(result, Refusal):
                tally.refused.append(result)
            else:
                seconds, clips = seconds + result, clips + 1
            meter.advance(1)
    tars = counted(-(-clips // settings.samples_per_shard), "tar")
    most_bytes = seconds * SAMPLE_RATE_HZ * 2 + clips * TAR_BYTES_PER_CLIP  # as if not compressed
    print(
        f"would write {counted(clips, 'clip')}, {seconds / 3600:,.2f} h, {tars}, at most about "
        f"{most_bytes / 1e6:,.1f} MB, to {settings.out}"
    )
    for reason, count in tally.reasons().items():
        print(f"would refuse: {count:,} for {reason}, such as {_listed(tally.examples(reason))}")
    if len(tally.refused) > settings.max_refused * entries:
        raise SpeechkdError(
            f"{len(tally.refused):,} of {counted(entries, 'entry', 'entries')} would be refused, "
            f"more than --max-refused {settings.max_refused:g} allows: correct them, or raise it."
        )


COMMANDS = {"shard": (ShardSettings, run)}
