"""Moving what a batch is made of to a device."""

from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from pipeline.models.lengths import to_device

Made = TypeVar("Made")


def moved(made: Made, device: torch.device) -> Made:
    """A frozen dataclass whose tensors, and parts that have a `to`, lie on a device."""
    changes: dict[str, Any] = {}
    for f in fields(made):  # type: ignore[arg-type]
        value = getattr(made, f.name)
        if isinstance(value, Tensor):
            changes[f.name] = to_device(value, device)
        elif hasattr(value, "to"):
            changes[f.name] = value.to(device)
    return replace(made, **changes)  # type: ignore[type-var]
