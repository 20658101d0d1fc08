"""AdamW and the learning-rate schedule, for stage two and fine-tuning alike."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


def adamw(
    module: nn.Module, learning_rate: float, weight_decay: float, *, epsilon: float = 1e-8
) -> torch.optim.AdamW:
    """AdamW, fused into one kernel, without decay on norms and biases."""
    groups = parameter_groups(module, weight_decay)
    return torch.optim.AdamW(groups, lr=learning_rate, eps=epsilon, fused=True)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters into those with weight decay and those without.

    Vectors (biases and norms) are not decayed, as in BERT's own recipe (Devlin et al. 2018).

    Args:
        module: its trainable parameters are split.
        weight_decay: decay of matrices and embeddings, per step.

    Returns:
        The two groups that `torch.optim.AdamW` takes.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def linear_schedule(step: int, warmup_steps: int, total_steps: int) -> float:
    """Factor on the peak learning rate at `step` (0-based): linear warm-up, linear decay to 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


def cosine_schedule(step: int, warmup_steps: int, total_steps: int) -> float:
    """The same with a decay along half a cosine (Loshchilov and Hutter 2016), without restarts."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def fixed_schedule(step: int, warmup_steps: int, _: int) -> float:
    """The same without a decay: the rate stays after warm-up."""
    return min(1.0, (step + 1) / max(1, warmup_steps))


SCHEDULES: Mapping[str, Callable[[int, int, int], float]] = {
    "linear": linear_schedule,
    "fixed": fixed_schedule,
    "cosine": cosine_schedule,
}
"""How a rate rises and falls, by name: of step, steps of warm-up, and all steps."""
