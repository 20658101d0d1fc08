"""A run of pre-training from its first check to its model, the same for every method."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from pipeline.cache.store import TeacherCache
from pipeline.corpus.ahead import Ahead
from pipeline.corpus.draws import DRAWS
from pipeline.corpus.row_batches import RowBatches
from pipeline.corpus.row_corpus import RowCorpus
from pipeline.foundation.devices import device_named, training_precision
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import say
from pipeline.pretraining.method import Data, Method, Parts
from pipeline.pretraining.preflight import announce
from pipeline.pretraining.record import hand_over, method_record
from pipeline.pretraining.settings import PretrainSettings
from pipeline.training import processes
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.log import TrainingLog
from pipeline.training.loop import STOPPED, Ending, Schedule, Workload, make_optimizer, train
from pipeline.training.peaks import peak_flops
from pipeline.training.record import starting_record
from pipeline.training.run_folder import RunFolder

CLIPS_PER_PROCESS = 2


def pretrain(method: Method[Any]) -> None:
    """Train by a method, from its beginning or from the latest checkpoint.

    Args:
        method: made from the command's settings.

    Raises:
        SystemExit: a signal stopped the run, after a checkpoint.
        SpeechkdError: it cannot be done as asked.
    """
    settings: PretrainSettings = method.settings
    device = device_named(settings.device)
    *others, model = method.folders
    with (
        processes.joined(device),
        RunFolder(settings.out, model, *others) as folder,
        processes.deterministic(settings.deterministic),
    ):
        outcome = _pretrain(method, folder, device)
    if outcome in STOPPED:
        raise SystemExit(STOPPED[outcome])


def _pretrain(method: Method[Any], folder: RunFolder, device: torch.device) -> Ending | None:
    settings: PretrainSettings = method.settings
    caches = method.caches()
    digests = {f"{name}_sha256": cache.digest() for name, cache in caches.items()}
    identity = {
        "method": method.name,
        **settings.identity(),
        **digests,
        **method.identity(),
        "draws": DRAWS,
    }
    anew = settings.resume == "never"
    versions = {"draws": "the same seed gave it other clips, masks, negatives or dropout"}
    before = folder.prepare(identity, settings.resume, settings.operational(), versions)
    if any(processes.any_of([folder.is_finished(before)], device)):
        say(f"{settings.out}: this run is finished: nothing to do")
        return None

    parts = assemble(method, caches, device, None if anew else folder.kept_tokenizer())
    announce(method, parts)
    if settings.dry_run:
        parts.ahead.close()
        return None

    checkpoints = Checkpoints(folder.checkpoints, settings.keep, method.best_by)
    progress = Progress()
    if not anew:
        progress = checkpoints.resume(parts.module, parts.optimizer)
    record = starting_record(
        settings, identity, before, parts.schedule, method_record(method, parts, digests)
    )
    folder.claim(anew=anew)
    folder.write_record(record)
    if parts.data.tokenizer is not None:
        folder.keep_tokenizer(parts.data.tokenizer)
    checkpoints.drop_old()
    processes.wait()

    log = make_log(method, parts, folder, progress)
    outcome = train(
        parts.workload, parts.schedule, checkpoints, log, progress, parts.optimizer, device
    )
    log.close()
    parts.ahead.close()
    if outcome in STOPPED:
        say(f"stopped at step {progress.step:,}; the same command carries on")
        return outcome
    hand_over(method, parts, folder, record, checkpoints, progress, outcome)
    if processes.rank() == 0:
        print(f"{folder.model}  {progress.summary()}")
    return outcome


def assemble(
    method: Method[Any],
    caches: dict[str, TeacherCache],
    device: torch.device,
    kept_tokenizer: PreTrainedTokenizerBase | None = None,
) -> Parts:
    """Make the parts of a run, in the one order that is right.

    Args:
        method: made from the command's settings.
        caches: as the method opened them.
        device: where to train.
        kept_tokenizer: the tokenizer of an earlier sitting.

    Raises:
        SpeechkdError: some part cannot be made as asked.
    """
    settings: PretrainSettings = method.settings
    tokenizer = method.tokenizer(caches) if kept_tokenizer is None else kept_tokenizer
    data = Data(caches, method.corpus(caches, tokenizer), tokenizer)
    torch.manual_seed(settings.seed)  # of the weights
    module = method.module(data).to(device)
    batches = make_batches(settings, data.corpus)
    schedule = make_schedule(settings, batches, device)
    make = method.maker(data)

    def epoch(number: int) -> Callable[[int], Any]:
        batch_at = batches.epoch(number)
        return lambda place: make(batch_at(place)).to(device)

    ahead = Ahead(epoch, batches.per_epoch)
    averaged = processes.averaging_gradients(module)

    def held_out() -> Iterator[Any]:
        yield from (make(batch).to(device) for batch in batches.held_out())

    workload = Workload(
        label="pre-training",
        module=module,
        losses=lambda made, measure: averaged(made, measure=measure),
        epoch=ahead.epoch,
        held_out=held_out,
        tokens=method.size,
        less_memory=method.less_memory,
        waited=ahead.waited,
    )
    optimizer = make_optimizer(module, schedule)
    return Parts(settings, data, device, module, batches, schedule, optimizer, workload, ahead)


def make_batches(settings: PretrainSettings, corpus: RowCorpus) -> RowBatches:
    """The batches of this process, on the host.

    Raises:
        SpeechkdError: there are too few clips for so many processes.
    """
    clips = min(settings.batch, len(corpus.train))
    if clips < settings.batch:
        say(f"there are only {clips:,} clips to train on: that is the batch, not {settings.batch}")
    if clips < CLIPS_PER_PROCESS * processes.count():
        raise SpeechkdError(
            f"a batch of {clips} clips is too small for {processes.count()} processes: each needs "
            f"{CLIPS_PER_PROCESS}. Start fewer processes or raise --batch-size."
        )
    return RowBatches(
        corpus,
        clips,
        settings.seed,
        process=processes.rank(),
        processes=processes.count(),
    )


def make_schedule(
    settings: PretrainSettings, batches: RowBatches, device: torch.device
) -> Schedule:
    """How long and how fast to train."""
    total = max(1, round(settings.epochs * batches.per_epoch))
    return settings.part(
        Schedule,
        steps_per_epoch=batches.per_epoch,
        total_steps=total,
        warmup_steps=round(settings.warmup_fraction * total),
        precision=training_precision(settings.precision, device),
    )


def make_log(
    method: Method[Any], parts: Parts, folder: RunFolder, progress: Progress
) -> TrainingLog:
    """The run's log; only the first process writes one."""
    peak = peak_flops(parts.device)
    return TrainingLog(
        folder.path if processes.rank() == 0 else None,
        progress,
        words=method.words,
        quiet_steps=parts.schedule.warmup_steps,
        flops_per_token=method.flops(parts),
        peak_flops=peak * processes.count() if peak else None,
    )
