"""What is said and checked before the first step of a run of pre-training."""

from typing import Any

from pipeline.foundation.progress import counted, say
from pipeline.models.capitals import capitals_doubt
from pipeline.pretraining.method import Method, Parts
from pipeline.training.preflight import ORDER_BYTES, check_disk, say_choices, say_memory

LIBRARY_BYTES = 220_000_000
"""What logs, the picture and the libraries' own scratch space come to at most in a run of
pre-training. One that holds next to nothing else grew by 180 MB."""
FEW_SPEAKERS = 10
"""With fewer speakers than this the held-out ones say little about others."""


def announce(method: Method[Any], parts: Parts) -> None:
    """Say what is about to happen and what is assumed, and check that there is room for it.

    Raises:
        SpeechkdError: the disk has too little room.
    """
    settings, corpus, schedule = parts.settings, parts.data.corpus, parts.schedule
    for name, cache in parts.data.caches.items():
        say(f"{name}: {cache.location}, {cache.identity.kind}, width {cache.identity.width}")
    say(
        f"{len(corpus):,} clips ({len(corpus.train):,} to train on, {len(corpus.held_out):,} held "
        f"out by {settings.hold_out_by})" + (f"; {corpus.omissions}" if corpus.omissions else "")
    )
    say(
        f"{method.name}: {sum(p.numel() for p in parts.module.parameters()):,} parameters; "
        f"{counted(schedule.total_steps, 'step')} of "
        f"{counted(parts.batches.clips_per_batch, 'clip')}, "
        f"{schedule.steps_per_epoch:,} per epoch, warm-up {schedule.warmup_steps:,}, "
        f"{schedule.precision}"
    )
    say_memory(
        parts.module,
        "rows are read from the cache batch by batch",
        step_bytes=method.step_bytes(parts),
        other_bytes=ORDER_BYTES * len(corpus.train),
        device=parts.device,
        remedy=method.less_memory,
        library_bytes=LIBRARY_BYTES,
    )
    for doubt in doubts(parts):
        say(doubt)
    for note in method.notes(parts):
        say(note)
    say_choices(settings)
    check_disk(settings.out, settings.keep, parts.module)


def doubts(parts: Parts) -> list[str]:
    """Warnings of texts that the tokenizer spells, and of what held-out losses cannot show here."""
    settings, corpus = parts.settings, parts.data.corpus
    warnings = []
    if settings.held_out and not len(corpus.held_out):
        warnings.append(
            f"WARNING: nothing is held out, so no loss is measured on clips that were not trained "
            f"on: no {settings.hold_out_by} is small enough to be held out whole"
        )
    if parts.data.tokenizer is not None:
        cache = next(iter(parts.data.caches.values()))
        texts = [str(sample["text"]) for sample in cache.shard_samples(0)]
        if doubt := capitals_doubt(parts.data.tokenizer, texts):
            warnings.append(doubt)
    speakers = int(corpus.speaker_C.max()) + 1 if len(corpus) else 0
    if settings.hold_out_by == "speaker" and speakers < FEW_SPEAKERS:
        known = f"the clips are of {speakers} speakers" if speakers else "no speaker is known"
        warnings.append(
            f"WARNING: {known}, so what is held out says little about voices never heard"
        )
    return warnings
