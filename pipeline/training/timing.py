"""How long a run will take, judging by its first steps, before it is begun."""

import time
from contextlib import nullcontext

import torch

from pipeline.foundation.devices import ieee_float32
from pipeline.foundation.progress import counted, duration, say
from pipeline.training import processes
from pipeline.training.loop import Schedule, Workload, explained_memory_errors, seed_dropout

STEPS = 3
"""Steps that are tried: the first also pays for what is done once."""
ENOUGH_SECONDS = 30.0


def say_time(workload: Workload, schedule: Schedule, device: torch.device) -> None:
    """Try a few steps, from batch to gradients, and say what all of them would take.

    No weight changes. Validation, checkpoints and the optimiser's step come on top.

    Raises:
        SpeechkdError: memory ran out.
    """
    seconds = seconds_of_steps(workload, schedule, device)
    each = min(seconds)
    whole = duration(each * schedule.last_step)
    say(
        f"time: about {whole} for {counted(schedule.last_step, 'step')} ({duration(each)} each, "
        f"judging by {counted(len(seconds), 'step')}), and validation"
    )


def seconds_of_steps(workload: Workload, schedule: Schedule, device: torch.device) -> list[float]:
    """The time of each of a few steps of the first epoch, in seconds."""
    autocast = (
        torch.autocast(device.type, dtype=torch.bfloat16)
        if schedule.precision == "bf16"
        else nullcontext()
    )
    seconds: list[float] = []
    workload.module.train()
    with explained_memory_errors(workload.less_memory), ieee_float32():
        batch_at = workload.epoch(0)
        for place in range(min(STEPS, schedule.steps_per_epoch, schedule.last_step)):
            started = time.monotonic()
            batch = batch_at(place)
            seed_dropout(schedule.seed, place)
            with autocast:
                losses = workload.losses(batch, False)
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            workload.module.zero_grad(set_to_none=True)
            losses["loss"].item()  # waits for the device
            seconds.append(time.monotonic() - started)
            # together, because a process whose clock stops it early would leave the others waiting
            if any(processes.any_of([sum(seconds) > ENOUGH_SECONDS], device)):
                break
    return seconds
