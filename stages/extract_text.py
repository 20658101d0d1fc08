"""Cache → cache: what a frozen text encoder makes of each clip's transcript, token by token."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.extraction.settings import TextSettings

if TYPE_CHECKING:
    import torch

    from pipeline.cache.identity import Identity
    from pipeline.cache.store import TeacherCache
    from pipeline.cluster.shares import ArrayTask
    from pipeline.extraction.text_rows import TextStates


def run(settings: TextSettings) -> None:
    """Compute a text encoder's state at every token of each transcript, once, into a cache.

    CACHE is a finished cache of any kind; its texts are read, not its rows. The new cache has the
    same clips with the same keys, and the id of the token beside each row. The clips of the two are
    joined by key. A shard is done once its receipt is written, as in all caches: the command may be
    stopped at any time, run as a job array, and run again.

    Example: speechkd extract-text mels --teacher bert-base-uncased --out texts
    """
    from pipeline.cache.identity import KINDS
    from pipeline.cache.store import TeacherCache
    from pipeline.cache.texts import texts_sha256
    from pipeline.cluster.shares import array_task, share
    from pipeline.extraction.loop import extract, extract_on
    from pipeline.extraction.plan import work_of
    from pipeline.extraction.running import follow, print_summary
    from pipeline.extraction.text_batches import Transcripts
    from pipeline.foundation.devices import CPU, devices_named
    from pipeline.foundation.errors import SpeechkdError
    from pipeline.foundation.progress import counted, say
    from pipeline.foundation.provenance import versions
    from pipeline.foundation.signals import stop_at_once

    source = TeacherCache.open(settings.cache, kinds=KINDS)
    missing = source.unfinished()
    if missing:
        raise SpeechkdError(
            f"{source.location}: {len(missing):,} of {len(source.manifest):,} shards are not done. "
            f"Run `{source.maker}` again; it computes only what is missing."
        )
    task = array_task(settings.array_task)
    devices = devices_named(settings.devices)
    states_on = _StatesOn(settings, texts_sha256(source))
    # of several devices each has a process of its own: this one opens no context on any
    states = states_on(devices[0] if len(devices) == 1 or settings.dry_run else CPU)
    identity = states.identity(settings.dtype, source.identity.clip_seconds)
    if settings.dry_run:
        _print_plan(settings, source, task, identity, states, devices)
        return
    cache = TeacherCache.create_or_open(settings.out, source.manifest, identity, versions())
    work, tally = work_of(source.manifest, cache, task)
    if not work:
        done = counted(tally.shards, "shard")
        say(f"{cache.location}: {done} of this task, all done; nothing to do")
    else:
        read, size = Transcripts(settings.cache), settings.batch_size
        with stop_at_once("unfinished shards are dropped; the same command carries on"):
            if len(devices) == 1:
                events = extract(
                    work, states, cache, versions(), batch_size=size, workers=0, read=read
                )
            else:
                del states  # because each process loads its own
                events = extract_on(
                    devices,
                    work,
                    states_on,
                    cache.location,
                    versions(),
                    batch_size=size,
                    workers=0,
                    read=read,
                )
            follow(events, tally, 1.0, "texts")
    print_summary(cache, tally)
    _print_cut(cache, share([shard.bytes for shard in source.manifest], task))


@dataclass(frozen=True)
class _StatesOn:
    """Loads the teacher that the settings name onto a device. Can be sent to other processes."""

    settings: TextSettings
    texts_sha256: str

    def __call__(self, device: "torch.device") -> "TextStates":
        from pipeline.extraction.text_rows import TextStates
        from pipeline.extraction.text_teacher import load_text_teacher
        from pipeline.foundation.devices import use

        use(device)
        teacher = load_text_teacher(
            self.settings.teacher,
            device=device,
            layer=self.settings.layer,
            lowercase=self.settings.lowercase,
            max_tokens=self.settings.max_tokens,
        )
        return TextStates(teacher, self.texts_sha256)


def _print_plan(
    settings: TextSettings,
    source: "TeacherCache",
    task: "ArrayTask",
    identity: "Identity",
    states: "TextStates",
    devices: "list[torch.device]",
) -> None:
    """Count the tokens of the texts that are left to do, and print what a run would write."""
    from pipeline.cache.layout import bytes_on_disk
    from pipeline.cache.store import TeacherCache
    from pipeline.extraction.plan import work_of
    from pipeline.foundation.progress import counted

    cache = TeacherCache.open_same(settings.out, source.manifest, identity)
    work, tally = work_of(source.manifest, cache, task)
    clips = cut = 0
    per_shard = []
    for item in work:
        told = states.teacher.tokens_of([s["text"] for s in source.shard_samples(item.index)])
        clips, cut = clips + len(told.ids), cut + len(told.cut)
        per_shard.append(sum(map(len, told.ids)))
    size = bytes_on_disk(identity, per_shard)
    print(
        f"texts       {source.location}: {counted(source.written, 'clip')} in "
        f"{counted(len(source.manifest), 'shard')}"
    )
    print(f"cache       {settings.out}: {'to be continued' if cache else 'to be created'}")
    print(f"this task   {task} ({task.source}): {counted(tally.shards, 'shard')}")
    print(f"to do       {counted(len(work), 'shard')}, {counted(clips, 'clip')}")
    print(
        f"teacher     {identity.text('teacher')}, layer {identity.text('layer')}, "
        f"on {', '.join(map(str, devices))}"
    )
    print(f"tokens      {sum(per_shard):,}, {counted(cut, 'text')} cut to {settings.max_tokens}")
    print(f"to write    {size / 1e6:,.1f} MB, {identity.dtype}")


def _print_cut(cache: "TeacherCache", shards: list[int]) -> None:
    """Print how many texts of an array task's shards are not whole."""
    from pipeline.foundation.progress import counted

    cut = sum("cut" in s for shard in shards for s in cache.shard_samples(shard))
    if cut:
        most = cache.identity.text("max_tokens")
        print(
            f"  cut: {counted(cut, 'text')} of over {most} tokens; the samples file of a shard "
            "marks them"
        )


COMMANDS = {"extract-text": (TextSettings, run)}
