"""The step loop: schedule, precision, processes, checkpoints, logging. Knows nothing of speech."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.foundation.errors import SpeechkdError, first_line, is_out_of_memory
from pipeline.foundation.progress import Meter
from pipeline.foundation.seeds import derive
from pipeline.foundation.signals import Stopped, stop_after_step
from pipeline.training import processes
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.log import TrainingLog
from pipeline.training.optimizer import linear_schedule, parameter_groups

Precision = Literal["float32", "bf16"]
Outcome = Literal["finished", "steps", "hours", "terminated", "interrupted"]
STOPPED: dict[Outcome, int] = {"terminated": 143, "interrupted": 130}
"""By a signal; a process that one ends leaves with these statuses."""
GIVE_UP_AFTER = 5
"""Non-finite steps in a row after which a run stops."""


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        steps_per_epoch: steps in an epoch.
        total_steps: where the schedule ends.
        warmup_steps: steps of linear warm-up.
        learning_rate: its peak.
        weight_decay: of matrices, a step.
        adam_epsilon: of AdamW.
        clip_norm: largest norm of the whole gradient; 0 for no clipping.
        precision: of the forward pass; weights and optimiser are float32.
        seed: of dropout.
        max_steps: stop after this many steps, the schedule being as it is; 0 for no such limit.
        max_hours: stop after this long, over all sittings; 0 for no such limit.
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
        """The step to stop at, unless time is up before."""
        return min(self.total_steps, self.max_steps or self.total_steps)


@dataclass(frozen=True)
class Task:
    """What to train on: a module that turns a batch into named losses, `loss` being minimised.

    Attributes:
        losses: `(batch, measure) → named scalars`.
        epoch: of an epoch's number, its batches by their place.
        held_out: validation batches.
        tokens: real tokens of a batch, over all processes.
    """

    losses: Callable[[Any, bool], Mapping[str, Tensor]]
    epoch: Callable[[int], Callable[[int], Any]]
    held_out: Callable[[], Iterator[Any]]
    tokens: Callable[[Any], int]


def make_optimizer(module: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW, fused into one kernel, without decay on norms and biases."""
    return torch.optim.AdamW(
        parameter_groups(module, plan.weight_decay),
        lr=plan.learning_rate,
        eps=plan.adam_epsilon,
        fused=True,
    )


def train(
    module: nn.Module,
    task: Task,
    plan: Plan,
    checkpoints: Checkpoints,
    log: TrainingLog,
    progress: Progress,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> Outcome:
    """Train from `progress` on, until the schedule, a limit or a signal ends it.

    On return the latest checkpoint is that of the last step done, whatever ended the loop.

    Raises:
        SpeechkdError: the loss was not finite several times in a row, or memory ran out.
    """
    autocast = (
        torch.autocast(device.type, dtype=torch.bfloat16)
        if plan.precision == "bf16"
        else nullcontext()
    )
    main = processes.rank() == 0
    started, before = time.monotonic(), progress.seconds
    saved_at = started
    module.train()
    with (
        stop_after_step() as stopped,
        Meter("distilling", plan.last_step, "steps", done=progress.step) as meter,
        explained_memory_errors(),
    ):
        current, batch_at = -1, None
        while progress.step < plan.last_step:
            epoch, place = divmod(progress.step, plan.steps_per_epoch)
            if batch_at is None or epoch != current:
                current, batch_at = epoch, task.epoch(epoch)
            last = progress.step + 1 == plan.total_steps
            logged = progress.step % plan.log_every == 0 or last
            measured = progress.step % plan.measure_every == 0 or last
            factor = linear_schedule(progress.step, plan.warmup_steps, plan.total_steps)
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * factor

            batch = batch_at(place)
            seed_dropout(plan.seed, progress.step)
            with autocast:
                losses = task.losses(batch, logged and measured)
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(module.parameters(), plan.clip_norm or math.inf)
            finite = bool(torch.isfinite(norm) & torch.isfinite(losses["loss"]))
            finite = not processes.any_of(not finite, device)
            if finite:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            progress.step += 1
            progress.tokens += task.tokens(batch)
            progress.seconds = before + time.monotonic() - started
            progress.skipped += not finite
            progress.skipped_in_a_row = 0 if finite else progress.skipped_in_a_row + 1
            if progress.skipped_in_a_row >= GIVE_UP_AFTER:
                raise _gave_up(progress, checkpoints, plan)
            if logged:
                shown = {name: float(processes.mean(value)) for name, value in losses.items()}
                log.step(progress, epoch, shown, float(norm), plan.learning_rate * factor)
            meter.advance(1, log.note())

            outcome = _agreed(_ended(plan, progress, stopped), device)
            # a student that is handed on is judged first, be its epoch whole or not
            handed_on = outcome is not None and outcome not in STOPPED
            if progress.step % plan.steps_per_epoch == 0 or handed_on:
                validate(module, task, log, progress, epoch, autocast)

            overdue = time.monotonic() - saved_at > plan.checkpoint_minutes * 60 > 0
            by_steps = plan.checkpoint_steps and progress.step % plan.checkpoint_steps == 0
            if main and (outcome or overdue or by_steps) and not progress.skipped_in_a_row:
                checkpoints.save(module, optimizer, progress)
                saved_at = time.monotonic()
            if outcome:
                return outcome
    return "finished"


def _ended(plan: Plan, progress: Progress, stopped: Stopped) -> Outcome | None:
    if progress.step >= plan.total_steps:
        return "finished"
    if plan.max_steps and progress.step >= plan.max_steps:
        return "steps"
    if plan.max_hours and progress.seconds >= plan.max_hours * 3600:
        return "hours"
    return stopped()


def _agreed(outcome: Outcome | None, device: torch.device) -> Outcome | None:
    """The same for all processes: clocks differ, and a signal may come to one of them only."""
    for possible in ("interrupted", "terminated", "hours"):
        if processes.any_of(outcome == possible, device):
            return possible
    return outcome


@torch.no_grad()
def validate(
    module: nn.Module,
    task: Task,
    log: TrainingLog,
    progress: Progress,
    epoch: int,
    autocast: Any,
) -> None:
    """Mean losses over the held-out batches, logged and kept in `progress`."""
    sums: dict[str, float] = {}
    batches = 0
    module.eval()
    for batch in task.held_out():
        with autocast:
            for name, value in task.losses(batch, True).items():
                sums[name] = sums.get(name, 0.0) + float(processes.mean(value))
        batches += 1
    module.train()
    if batches:
        means = {name: value / batches for name, value in sums.items()}
        progress.validation.append({"epoch": epoch + 1, "step": progress.step, **means})
        log.validation(progress, epoch, means)


def seed_dropout(seed: int, step: int) -> None:
    """Make dropout a function of the step and the process, so that no state needs saving."""
    torch.manual_seed(derive(seed, "dropout", step, processes.rank()))


@contextmanager
def explained_memory_errors() -> Iterator[None]:
    """Turn running out of memory into one line that says which setting to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SpeechkdError(
            "out of memory in a training step. Lower --batch first; then --crd-negatives, "
            f"--max-tokens, or take a smaller --student. ({first_line(error)})"
        ) from error


def _gave_up(progress: Progress, checkpoints: Checkpoints, plan: Plan) -> SpeechkdError:
    finer = ", or set --precision float32," if plan.precision == "bf16" else ""
    good: Path | None = checkpoints.latest()
    return SpeechkdError(
        f"the loss or its gradient was not finite {progress.skipped_in_a_row} steps in a row (up "
        f"to step {progress.step}). The last good checkpoint is {good or 'none'}. Lower "
        f"--learning-rate{finer} and run again."
    )
