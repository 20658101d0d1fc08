"""What is said and checked before the first step of a run: room in memory and on the disk."""

import shutil
from pathlib import Path

import torch
from torch import nn

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.memory import available_bytes, resident_bytes
from pipeline.foundation.progress import say
from pipeline.foundation.settings import Settings

ORDER_BYTES = 48
"""Per clip, while one epoch's order makes room for the next."""
LIBRARY_BYTES = 300_000_000
"""Largest size that logs, the picture and the libraries' own scratch space reach in a run."""


def say_memory(
    module: nn.Module,
    data: str,
    *,
    step_bytes: int,
    other_bytes: int,
    device: torch.device,
    remedy: str,
    library_bytes: int = LIBRARY_BYTES,
) -> None:
    """Say how much memory training takes at most, and warn if there may be too little.

    Args:
        module: what is trained; gradients and AdamW's moments come to 12 bytes per parameter.
        data: where the data is kept, in words.
        step_bytes: what a step holds beside weights, gradients and moments.
        other_bytes: what else takes this machine's memory at times, in bytes.
        device: where training is.
        remedy: what a user can do about too little, in a sentence.
        library_bytes: what logs and libraries come to.
    """
    state = 12 * sum(p.numel() for p in module.parameters())
    plan = (
        f"memory: {data}; gradients and optimiser {state / 1e9:.2f} GB, a step "
        f"{step_bytes / 1e9:.2f} GB"
    )
    needed = state + step_bytes
    if device.type != "cpu":
        free, _ = torch.cuda.mem_get_info(device)
        say(f"{plan} of {free / 1e9:.1f} GB free on {device}")
    else:
        free, now = available_bytes(), resident_bytes()
        needed += other_bytes + library_bytes
        whole = (now + needed) / 1e9
        say(f"{plan}; this process holds {now / 1e9:.2f} GB now and at most {whole:.2f} GB later")
    if needed > free:
        say(f"WARNING: that may be more than there is, {free / 1e9:.2f} GB are free. {remedy}")


def say_choices(settings: Settings) -> None:
    """Say which defaults no paper states, and what was set and changes nothing in this run."""
    assumed = ", ".join(f"{name} {value}" for name, value in settings.assumed().items())
    say(f"not stated in the paper, assumed: {assumed}")
    if settings.set_in_vain():
        say(f"without effect in this run: {', '.join(settings.set_in_vain())}")


def check_disk(out: Path, checkpoints: int, module: nn.Module) -> None:
    """Check that the disk has room for a run's checkpoints and the model that it ends in.

    Raises:
        SpeechkdError: it has not.
    """
    needed = (checkpoints + 2) * 12 * sum(p.numel() for p in module.parameters())
    existing = next(path for path in (out, *out.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise SpeechkdError(
            f"{out}: {free / 1e6:,.0f} MB free, but checkpoints and the model need "
            f"{needed / 1e6:,.0f} MB. Free some, lower --keep, or name another --out."
        )
