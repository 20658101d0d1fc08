"""The record of a run, `run.json`: what it is made of, and what came out of it."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.foundation import provenance
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings
from pipeline.training.checkpoint import Progress
from pipeline.training.loop import Schedule


def starting_record(
    settings: Settings,
    identity: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    schedule: Schedule,
    method: Mapping[str, Any],
) -> dict[str, Any]:
    """What is known of a run before its first step.

    Args:
        settings: as the user gave them.
        identity: everything that the result depends on.
        before: the record that an earlier sitting of the run left, if there was one.
        schedule: how long and how fast to train.
        method: what else the method records: its model, its data.
    """
    sitting = provenance.record()
    return {
        "status": "running",
        "identity": identity,
        "settings": settings.record(),
        "paper": settings.stated_in_paper(),
        "assumed": settings.assumed(),
        "plan": asdict(schedule),
        **method,
        "provenance": sitting,
        "sittings": [*(before or {}).get("sittings", []), sitting],
    }


def ended_record(record: Mapping[str, Any], progress: Progress, outcome: str) -> dict[str, Any]:
    """The record of a run that hands a model on, with what came out of it."""
    validation = [  # JSON has no number for what an early epoch may have given
        {name: value if math.isfinite(value) else None for name, value in epoch.items()}
        for epoch in progress.validation
    ]
    return {
        **record,
        "status": "finished" if outcome == "finished" else "stopped",
        "result": {**asdict(progress), "validation": validation, "outcome": outcome},
    }


def check_converged(model: nn.Module, progress: Progress, run: Path) -> None:
    """Refuse to hand on a model that diverged.

    Raises:
        SpeechkdError: its weights, or its latest losses on what is held out, are not finite.
    """
    last = progress.validation[-1] if progress.validation else {}
    sound = all(math.isfinite(value) for name, value in last.items() if name.startswith("loss"))
    if not sound or not all(bool(p.isfinite().all()) for p in model.parameters()):
        raise SpeechkdError(
            f"{run}: training diverged, its losses or weights are not finite "
            f"({progress.skipped:,} steps were skipped for that). No model is written. Lower "
            "--learning-rate and start anew with --resume never."
        )
