"""What a method of pre-training brings; all that methods share is in `running`.

A method opens its caches, makes a module, and says how the module is handed on. Order of clips,
exact resumption, processes, logs, limits, the dry run and the record are the same for all.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from pipeline.cache.store import TeacherCache
from pipeline.corpus.ahead import Ahead
from pipeline.corpus.row_batches import RowBatch, RowBatches
from pipeline.corpus.row_corpus import RowCorpus
from pipeline.pretraining.data import joined
from pipeline.pretraining.settings import PretrainSettings
from pipeline.training.card import CardWords
from pipeline.training.log import Words
from pipeline.training.loop import Schedule, Workload

SomeSettings = TypeVar("SomeSettings", bound=PretrainSettings)


@dataclass(frozen=True)
class Data:
    """What a method trains on.

    Attributes:
        caches: by the names that their rows have in a batch.
        corpus: the clips that all of them have.
        tokenizer: of the part `tokens`; None if the method reads no text.
    """

    caches: Mapping[str, TeacherCache]
    corpus: RowCorpus
    tokenizer: PreTrainedTokenizerBase | None


@dataclass(frozen=True)
class Parts:
    """What a run is made of.

    Attributes:
        settings: as the user gave them.
        data: what it trains on.
        device: where training is.
        module: what is trained, on the device; heads that are thrown away are in it.
        batches: this process's share of every batch.
        schedule: how long and how fast to train.
        optimizer: of the module.
        workload: what the step loop sees of all this.
        ahead: makes the next batch while a step runs.
    """

    settings: PretrainSettings
    data: Data
    device: torch.device
    module: nn.Module
    batches: RowBatches
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    workload: Workload
    ahead: Ahead[Any]

    def close(self) -> None:
        """End the thread that makes batches."""
        self.ahead.close()


class Method(ABC, Generic[SomeSettings]):
    """A method of pre-training.

    The module's forward takes what `maker` makes of a batch, and `measure` (whether to add values
    that cost time), and returns named scalars; `loss` is minimised. With several processes each
    returns its part, scaled so that their average is the loss of the whole batch
    (`RowBatch.totals` has the counts of the whole batch, `RowBatch.processes` their number).

    Args:
        settings: as the user gave them.
    """

    name: ClassVar[str]
    """Of its command, such as `splat`."""
    folders: ClassVar[tuple[str, ...]]
    """Names of the folders that a run hands on; the last is written last."""
    counted: ClassVar[str]
    """The part of a batch whose places measure progress and speed, such as `frames`."""
    words: ClassVar[Words]
    """What it says of its losses."""
    less_memory: ClassVar[str]
    """What a user can do when memory runs out, in a sentence."""
    best_by: ClassVar[str] = ""
    """The held-out value whose least epoch is handed on; empty to hand on the last weights."""
    next_command: ClassVar[str] = ""
    """The command that takes the model, to be told once it is there; `{out}` is the run's folder,
    `{cache}` that of the first cache."""

    def __init__(self, settings: SomeSettings) -> None:
        self.settings = settings

    @abstractmethod
    def caches(self) -> dict[str, TeacherCache]:
        """The caches by the names that a batch gives their rows; the first decides the clips.

        Raises:
            SpeechkdError: one is of another kind than is wanted; the message names the command.
        """

    def identity(self) -> dict[str, Any]:
        """What the result depends on beside settings and caches, such as digests of --init."""
        return {}

    def tokenizer(self, caches: Mapping[str, TeacherCache]) -> PreTrainedTokenizerBase | None:
        """The tokenizer of the texts; None if the method reads none as tokens.

        It is made once per run: later sittings get what the first one stored.
        """
        del caches
        return None

    def corpus(
        self, caches: Mapping[str, TeacherCache], tokenizer: PreTrainedTokenizerBase | None
    ) -> RowCorpus:
        """The clips to train on; a method with controls or a longest text says so here."""
        return joined(self.settings, caches, tokenizer=tokenizer)

    @abstractmethod
    def module(self, data: Data) -> nn.Module:
        """What is trained. Its weights come from torch's generator, which is seeded beforehand."""

    def maker(self, data: Data) -> Callable[[RowBatch], Any]:
        """A function from a batch of rows to what the module takes.

        It is called on the host, in a thread, while the step before runs: what no gradient needs
        (masks, normalised frames, negatives) is best made here. It must be a pure function of the
        batch. What it returns has `to(device)`, which is called afterwards, and what `size` needs.
        """
        del data
        return lambda batch: batch

    def size(self, batch: Any) -> int:
        """How many places of the part `counted` a batch has, over all processes."""
        return int(batch.totals[self.counted])

    @abstractmethod
    def step_bytes(self, parts: Parts) -> int:
        """Upper bound of what a step holds beside weights, gradients and moments, in bytes."""

    @abstractmethod
    def flops(self, parts: Parts) -> float:
        """Floating-point operations per counted place, forward and backward."""

    def notes(self, parts: Parts) -> Iterable[str]:
        """What a user must know before such a run starts, one sentence each."""
        del parts
        return ()

    def comparable(self, parts: Parts) -> dict[str, Any]:
        """How its models stand to others (`pipeline.models.pretrained.Pretrained`).

        `objective`, `control`, `setup` and `teaching`; what the methods share is added to `setup`.
        """
        del parts
        return {"objective": self.name, "control": None, "setup": {}, "teaching": None}

    def record(self, parts: Parts) -> dict[str, Any]:
        """What `run.json` says beside what it says of every run: the model, what was left out."""
        del parts
        return {}

    def outcome(self, parts: Parts) -> dict[str, Any]:
        """What `run.json` says of the finished module beside its losses, such as retrieval."""
        del parts
        return {}

    @abstractmethod
    def save(self, parts: Parts) -> Mapping[str, Callable[[Path], None]]:
        """For each of `folders`, what fills it."""

    @abstractmethod
    def card(self, record: Mapping[str, Any]) -> CardWords:
        """What its card says, from the run's record alone."""
