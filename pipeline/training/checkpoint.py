"""Checkpoints: a folder a step that is whole or absent, and exact to go on from."""

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.optim import Optimizer

from pipeline.foundation import atomic
from pipeline.foundation.errors import Damaged

PREFIX = "step-"


@dataclass
class Progress:
    """How far a run has come; all of it is saved, and nothing else is needed beside the weights.

    Attributes:
        step: steps done, skipped ones included.
        tokens: real tokens trained on.
        seconds: time spent training, over all sittings.
        skipped: steps whose loss or gradient was not finite.
        skipped_in_a_row: the latest of these without a good step between.
        validation: losses on the held-out clips after each epoch.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    validation: list[dict[str, float]] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are kept.
        keep: how many of the latest to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def all(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        return sorted(p for p in self.folder.glob(f"{PREFIX}*") if p.is_dir())

    def latest(self) -> Path | None:
        """The newest finished checkpoint."""
        return self.all()[-1] if self.all() else None

    def save(self, module: nn.Module, optimizer: Optimizer, progress: Progress) -> Path:
        """Write a checkpoint, then drop the oldest ones; a kill at any time leaves whole ones."""
        final = self.folder / f"{PREFIX}{progress.step:09d}"
        if final.is_dir():
            return final
        for stale in self.folder.glob(".*.partial"):
            shutil.rmtree(stale)
        aside = self.folder / f".{final.name}.{os.getpid()}.partial"
        aside.mkdir(parents=True)
        with atomic.explained_write_errors(final):
            save_model(module, str(aside / "model.safetensors"))
            torch.save(optimizer.state_dict(), aside / "optimizer.pt")
            (aside / "progress.json").write_text(json.dumps(asdict(progress)))
            for file in aside.iterdir():
                atomic.sync(file)
            atomic.sync(aside)
            aside.rename(final)
            atomic.sync(self.folder)
        self.drop_old()
        return final

    def drop_old(self) -> None:
        """Delete all but the latest ones."""
        for old in self.all()[: -self.keep]:
            # renamed first, so that a kill halfway leaves no damaged checkpoint behind
            gone = old.with_name(f".{old.name}.partial")
            old.rename(gone)
            shutil.rmtree(gone)

    def load(self, path: Path, module: nn.Module, optimizer: Optimizer | None) -> Progress:
        """Restore weights, optimiser and progress from a checkpoint.

        Raises:
            SpeechkdError: it is damaged, or of another model.
        """
        try:
            load_model(module, str(path / "model.safetensors"))
            if optimizer is not None:
                state: dict[str, Any] = torch.load(
                    path / "optimizer.pt", weights_only=True, map_location="cpu"
                )
                optimizer.load_state_dict(state)
            return Progress(**json.loads((path / "progress.json").read_text()))
        except MemoryError:
            raise
        except Exception as error:  # a damaged or forged checkpoint may fail in any way
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            if isinstance(error, UnpicklingError):  # whose words tell how to load it anyway
                reason = "optimizer.pt holds more than tensors and numbers."
            raise Damaged(
                f"{path} cannot be loaded: {reason} Delete this folder to go on from the "
                "checkpoint before it, or start anew with --resume never."
            ) from error

    def clear(self) -> None:
        """Forget all checkpoints."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder)
