"""The step loop: schedule, precision, processes, checkpoints, logging. Knows nothing of speech."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.foundation.devices import ieee_float32
from pipeline.foundation.errors import SpeechkdError, first_line, is_out_of_memory
from pipeline.foundation.progress import Meter, counted
from pipeline.foundation.seeds import derive
from pipeline.foundation.signals import Stopped, stop_after_step
from pipeline.training import processes
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.log import TrainingLog
from pipeline.training.optimizer import adamw, linear_schedule

Precision = Literal["float32", "bf16"]
Ending = Literal["finished", "steps", "hours", "terminated", "interrupted"]
STOPPED: dict[Ending, int] = {"terminated": 143, "interrupted": 130}
"""Outcomes that a signal brings about, with the exit status of a process that one ends."""
GIVE_UP_AFTER = 5
"""A run stops after this many non-finite steps in a row."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps_per_epoch: steps in an epoch.
        total_steps: where the schedule ends.
        warmup_steps: steps of linear warm-up.
        learning_rate: its peak.
        weight_decay: decay of matrices, per step.
        adam_epsilon: epsilon of AdamW.
        clip_norm: largest norm of the whole gradient; 0 for no clipping.
        precision: precision of the forward pass; weights and optimiser are float32, which is IEEE
            float32 on a GPU too.
        seed: seed of dropout.
        max_steps: stop after this many steps and leave the schedule as it is; 0 for no limit.
        max_hours: stop after this long, over all sittings; 0 for no limit.
        log_every: steps between logged lines.
        measure_every: steps between measurements of gradients and cosines.
        checkpoint_steps: steps between checkpoints; 0 for none by steps.
        checkpoint_minutes: minutes between checkpoints; 0 for none by time.
    """

    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    learning_rate: float
    weight_decay: float
    adam_epsilon: float
    clip_norm: float
    precision: Precision
    seed: int
    max_steps: int
    max_hours: float
    log_every: int
    measure_every: int
    checkpoint_steps: int
    checkpoint_minutes: float

    @property
    def last_step(self) -> int:
        """The step at which training stops, unless time is up before."""
        return min(self.total_steps, self.max_steps or self.total_steps)


@dataclass(frozen=True)
class Workload:
    """What to train, and on what.

    Attributes:
        label: what is being done, for the progress bar.
        module: whose parameters are trained and saved.
        losses: turns `(batch, measure)` into named scalars; `loss` is minimised.
        epoch: the batches of an epoch, by their place in it.
        held_out: the validation batches.
        tokens: number of real tokens of a batch, over all processes.
        less_memory: what a user can do when memory runs out, in a sentence.
        waited: seconds that steps have waited for batches since it was last asked; None where
            batches are made on the spot.
    """

    label: str
    module: nn.Module
    losses: Callable[[Any, bool], Mapping[str, Tensor]]
    epoch: Callable[[int], Callable[[int], Any]]
    held_out: Callable[[], Iterator[Any]]
    tokens: Callable[[Any], int]
    less_memory: str
    waited: Callable[[], float] | None = None


def make_optimizer(module: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """The optimiser that a schedule asks for."""
    return adamw(
        module, schedule.learning_rate, schedule.weight_decay, epsilon=schedule.adam_epsilon
    )


def train(
    workload: Workload,
    schedule: Schedule,
    checkpoints: Checkpoints,
    log: TrainingLog,
    progress: Progress,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> Ending:
    """Train from `progress` on, until the schedule, a limit or a signal ends it.

    On return the latest checkpoint is that of the last step done, whatever ended the loop.

    Raises:
        SpeechkdError: the loss was not finite several times in a row, or memory ran out.
    """
    autocast = (
        torch.autocast(device.type, dtype=torch.bfloat16)
        if schedule.precision == "bf16"
        else nullcontext()
    )
    module = workload.module
    started, before = time.monotonic(), progress.seconds
    module.train()
    with (
        stop_after_step() as stopped,
        Meter(workload.label, schedule.last_step, "steps", done=progress.step) as meter,
        explained_memory_errors(workload.less_memory),
        ieee_float32(),
    ):
        current, batch_at = -1, None
        while progress.step < schedule.last_step:
            epoch, place = divmod(progress.step, schedule.steps_per_epoch)
            if batch_at is None or epoch != current:
                current, batch_at = epoch, workload.epoch(epoch)
            last = progress.step + 1 == schedule.total_steps
            logged = progress.step % schedule.log_every == 0 or last
            measured = progress.step % schedule.measure_every == 0 or last
            factor = linear_schedule(progress.step, schedule.warmup_steps, schedule.total_steps)
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * factor

            batch = batch_at(place)
            seed_dropout(schedule.seed, progress.step)
            with autocast:
                losses = workload.losses(batch, logged and measured)
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(module.parameters(), schedule.clip_norm or math.inf)
            broken = ~(torch.isfinite(norm) & torch.isfinite(losses["loss"]))
            late = before + time.monotonic() - started >= (schedule.max_hours or math.inf) * 3600
            broken_anywhere, asked = _agreed(broken, late, stopped, device)
            finite = not broken_anywhere
            if finite:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            progress.step += 1
            progress.tokens += workload.tokens(batch)
            progress.seconds = before + time.monotonic() - started
            progress.skipped += not finite
            progress.skipped_in_a_row = 0 if finite else progress.skipped_in_a_row + 1
            if progress.skipped_in_a_row >= GIVE_UP_AFTER:
                raise _gave_up(progress, checkpoints, schedule)
            if logged:
                values = processes.means(losses)
                if workload.waited:
                    values["waited_s"] = workload.waited()
                log.step(progress, epoch, values, float(norm), schedule.learning_rate * factor)
            meter.advance(1, log.note())

            outcome = _ended(schedule, progress) or asked
            # a model that is handed on is validated first, whether its epoch is whole or not
            handed_on = outcome is not None and outcome not in STOPPED
            if progress.step % schedule.steps_per_epoch == 0 or handed_on:
                validate(workload, log, progress, epoch, autocast)

            due = checkpoints.is_best(progress) or checkpoints.due(
                progress.step, schedule.checkpoint_steps, schedule.checkpoint_minutes
            )
            if (outcome or due) and not progress.skipped_in_a_row:
                checkpoints.save(module, optimizer, progress)
            if outcome:
                return outcome
    return "finished"


def _ended(schedule: Schedule, progress: Progress) -> Ending | None:
    if progress.step >= schedule.total_steps:
        return "finished"
    return "steps" if progress.step >= schedule.last_step else None


def _agreed(
    broken: Tensor, late: bool, stopped: Stopped, device: torch.device
) -> tuple[bool, Ending | None]:
    """What all processes do after this step, in one message and one wait for the device.

    Clocks differ, and a signal or a loss that is not finite may come to one of them only.

    Returns:
        Whether the step is skipped, and how the run ends here if it does.
    """
    asked = stopped()
    possible: tuple[Ending, ...] = ("interrupted", "terminated", "hours")
    own = [asked == "interrupted", asked == "terminated", late]
    skipped, *ends = processes.any_of([broken, *own], device)
    return skipped, next((name for name, end in zip(possible, ends, strict=True) if end), None)


@torch.no_grad()
def validate(
    workload: Workload, log: TrainingLog, progress: Progress, epoch: int, autocast: Any
) -> None:
    """Mean losses over the held-out batches, logged and kept in `progress`.

    A loss that some batches do not have is the mean over those that have it.
    """
    values_of: dict[str, list[float]] = {}
    workload.module.eval()
    for batch in workload.held_out():
        with autocast:
            losses = workload.losses(batch, True)
        for name, value in processes.means(losses).items():
            values_of.setdefault(name, []).append(value)
    workload.module.train()
    if values_of:
        means = {name: sum(values) / len(values) for name, values in values_of.items()}
        progress.validation.append({"epoch": epoch + 1, "step": progress.step, **means})
        log.validation(progress, epoch, means)


def seed_dropout(seed: int, step: int) -> None:
    """Make dropout a function of the step and the process, so that no state needs saving."""
    torch.manual_seed(derive(seed, "dropout", step, processes.rank()))


@contextmanager
def explained_memory_errors(remedy: str) -> Iterator[None]:
    """Turn running out of memory into one line that says what a user can do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SpeechkdError(
            f"out of memory in a training step. {remedy} ({first_line(error)})"
        ) from error


def _gave_up(progress: Progress, checkpoints: Checkpoints, schedule: Schedule) -> SpeechkdError:
    finer = ", or set --precision float32," if schedule.precision == "bf16" else ""
    return SpeechkdError(
        f"the loss or its gradient was not finite {counted(progress.skipped_in_a_row, 'step')} in "
        "a row (up "
        f"to step {progress.step}). The last good checkpoint is {checkpoints.latest() or 'none'}. "
        f"Lower --learning-rate{finer} and run again."
    )
