"""A run from its first check to its model: one way for every method of training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.optim import Optimizer
from transformers import PreTrainedTokenizerBase

from pipeline.foundation.devices import device_named
from pipeline.foundation.progress import say
from pipeline.training import processes
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.log import TrainingLog, Words
from pipeline.training.loop import STOPPED, Ending, Schedule, Workload, train
from pipeline.training.peaks import peak_flops
from pipeline.training.record import starting_record
from pipeline.training.run_folder import RunFolder
from pipeline.training.settings import TrainingSettings
from pipeline.training.timing import say_time

VERSIONS = {"draws": "the same seed gave it other clips, masks, negatives or dropout"}
"""What another version of speechkd did otherwise, by the entry of a run's identity that tells."""


class Trained(Protocol):
    """What any run is made of; a method's parts have more."""

    @property
    def schedule(self) -> Schedule:
        """How long and how fast to train."""

    @property
    def optimizer(self) -> Optimizer:
        """Of what is trained."""

    @property
    def workload(self) -> Workload:
        """What the step loop sees."""

    def close(self) -> None:
        """End what works beside the steps."""


SomeParts = TypeVar("SomeParts", bound=Trained)


class Run(ABC, Generic[SomeParts]):
    """What a method brings to a run.

    Attributes:
        settings: as the user gave them.
        folders: names of the folders that the run hands on; the last is written last.
        words: what it says of its losses.
        best_by: the held-out value whose least epoch is kept; empty to keep none.
    """

    settings: TrainingSettings
    folders: Sequence[str]
    words: Words
    best_by: str = ""

    @property
    def next_command(self) -> str:
        """A command that takes the model, for whoever has just made it; empty to name none."""
        return ""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that the result depends on beside the settings. Asked for once, before `assemble`."""

    @abstractmethod
    def assemble(
        self, device: torch.device, kept_tokenizer: PreTrainedTokenizerBase | None
    ) -> SomeParts:
        """Make the parts.

        Args:
            device: where to train.
            kept_tokenizer: the tokenizer of an earlier sitting.
        """

    @abstractmethod
    def announce(self, parts: SomeParts) -> None:
        """Say what is about to happen, and check that there is room for it."""

    @abstractmethod
    def record(self, parts: SomeParts) -> dict[str, Any]:
        """What `run.json` says beside what it says of every run."""

    @abstractmethod
    def tokenizer(self, parts: SomeParts) -> PreTrainedTokenizerBase | None:
        """What later sittings shall find again; None if no text is read."""

    @abstractmethod
    def flops(self, parts: SomeParts) -> float:
        """Floating-point operations per counted place, forward and backward."""

    @abstractmethod
    def hand_over(
        self,
        parts: SomeParts,
        folder: RunFolder,
        record: Mapping[str, Any],
        checkpoints: Checkpoints,
        progress: Progress,
        outcome: Ending,
    ) -> None:
        """Write the models, their card and curve, and last the record that calls it finished."""


def carry_out(run: Run[Any]) -> None:
    """Train from the beginning or from the latest checkpoint.

    Raises:
        SystemExit: a signal stopped the run, after a checkpoint.
        SpeechkdError: it cannot be done as asked.
    """
    settings = run.settings
    device = device_named(settings.device)
    *others, model = run.folders
    with (
        processes.joined(device),
        RunFolder(settings.out, model, *others) as folder,
        processes.deterministic(settings.deterministic),
    ):
        outcome = _carry_out(run, folder, device)
    if outcome in STOPPED:
        raise SystemExit(STOPPED[outcome])


def _carry_out(run: Run[Any], folder: RunFolder, device: torch.device) -> Ending | None:
    settings = run.settings
    identity = {**settings.identity(), **run.identity()}
    anew = settings.resume == "never"
    before = folder.prepare(identity, settings.resume, settings.operational(), VERSIONS)
    if any(processes.any_of([folder.is_finished(before)], device)):
        say(f"{settings.out}: this run is finished, nothing to do; its model is {folder.model}")
        return None

    parts = run.assemble(device, None if anew else folder.kept_tokenizer())
    run.announce(parts)
    if settings.dry_run:
        say_time(parts.workload, parts.schedule, device)
        parts.close()
        say(f"dry run: nothing is trained, and {settings.out} is as it was")
        return None

    module, tokenizer = parts.workload.module, run.tokenizer(parts)
    checkpoints = Checkpoints(folder.checkpoints, settings.keep, run.best_by)
    progress = Progress() if anew else checkpoints.resume(module, parts.optimizer)
    record = starting_record(settings, identity, before, parts.schedule, run.record(parts))
    folder.claim(anew=anew)
    folder.write_record(record)
    if tokenizer is not None:
        folder.keep_tokenizer(tokenizer)
    checkpoints.drop_old()
    processes.wait()

    log = _log(run, parts, folder, progress, device)
    outcome = train(
        parts.workload, parts.schedule, checkpoints, log, progress, parts.optimizer, device
    )
    log.close()
    parts.close()
    if outcome in STOPPED:
        say(f"stopped at step {progress.step:,}; the same command carries on")
        return outcome
    run.hand_over(parts, folder, record, checkpoints, progress, outcome)
    if processes.rank() == 0:
        print(f"{folder.model}  {progress.summary()}")
        if run.next_command:
            say(f"next: {run.next_command}")
    return outcome


def _log(
    run: Run[SomeParts],
    parts: SomeParts,
    folder: RunFolder,
    progress: Progress,
    device: torch.device,
) -> TrainingLog:
    """The run's log; only the first process writes one."""
    peak = peak_flops(device)
    return TrainingLog(
        folder.path if processes.rank() == 0 else None,
        progress,
        words=run.words,
        quiet_steps=parts.schedule.warmup_steps,
        flops_per_token=run.flops(parts),
        peak_flops=peak * processes.count() if peak else None,
    )
