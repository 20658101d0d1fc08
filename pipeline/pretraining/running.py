"""A run of pre-training from its first check to its model, the same for every method."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from shlex import quote
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from pipeline.cache.store import TeacherCache
from pipeline.corpus.ahead import Ahead
from pipeline.corpus.draws import DRAWS
from pipeline.corpus.row_batches import RowBatches
from pipeline.corpus.row_corpus import RowCorpus
from pipeline.foundation.devices import training_precision
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import say
from pipeline.pretraining.method import Data, Method, Parts
from pipeline.pretraining.preflight import announce
from pipeline.pretraining.record import hand_over, method_record
from pipeline.pretraining.settings import PretrainSettings
from pipeline.training import processes
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.loop import Ending, Schedule, Workload, make_optimizer
from pipeline.training.run_folder import RunFolder
from pipeline.training.running import Run, carry_out

CLIPS_PER_PROCESS = 2


def pretrain(method: Method[Any]) -> None:
    """Train by a method, from its beginning or from the latest checkpoint.

    Args:
        method: made from the command's settings.

    Raises:
        SystemExit: a signal stopped the run, after a checkpoint.
        SpeechkdError: it cannot be done as asked.
    """
    carry_out(PretrainingRun(method))


class PretrainingRun(Run[Parts]):
    """A run of `speechkd pretrain`, whatever the method.

    Args:
        method: made from the command's settings.
    """

    def __init__(self, method: Method[Any]) -> None:
        self.method = method
        self.settings: PretrainSettings = method.settings
        self.folders, self.words, self.best_by = method.folders, method.words, method.best_by

    @property
    def next_command(self) -> str:
        """The command that takes the model."""
        first = next(iter(self._caches.values()))
        return self.method.next_command.format(
            out=quote(str(self.settings.out)), cache=quote(first.location)
        )

    @cached_property
    def _caches(self) -> dict[str, TeacherCache]:
        return self.method.caches()

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {f"{name}_sha256": cache.digest() for name, cache in self._caches.items()}

    def identity(self) -> dict[str, Any]:
        """The method, the caches by their content, and how draws are made."""
        return {
            "method": self.method.name,
            **self._digests,
            **self.method.identity(),
            "draws": DRAWS,
        }

    def assemble(
        self, device: torch.device, kept_tokenizer: PreTrainedTokenizerBase | None
    ) -> Parts:
        """Make the module and its batches."""
        return assemble(self.method, self._caches, device, kept_tokenizer)

    def announce(self, parts: Parts) -> None:
        """Say what is about to happen, and check that there is room for it."""
        announce(self.method, parts)

    def record(self, parts: Parts) -> dict[str, Any]:
        """The method, the model and the data."""
        return method_record(self.method, parts, self._digests)

    def tokenizer(self, parts: Parts) -> PreTrainedTokenizerBase | None:
        """That of the texts, if the method reads any."""
        return parts.data.tokenizer

    def flops(self, parts: Parts) -> float:
        """Floating-point operations per counted place, forward and backward."""
        return self.method.flops(parts)

    def hand_over(
        self,
        parts: Parts,
        folder: RunFolder,
        record: Mapping[str, Any],
        checkpoints: Checkpoints,
        progress: Progress,
        outcome: Ending,
    ) -> None:
        """Write the models, their card and curve."""
        hand_over(self.method, parts, folder, record, checkpoints, progress, outcome)


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
        losses=lambda batch, measure: averaged(batch, measure=measure),
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
