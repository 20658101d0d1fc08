"""Checkpoints: one folder per saved step, whole or absent, from which a run goes on exactly."""

import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.optim import Optimizer

from pipeline.foundation import atomic
from pipeline.foundation.errors import Damaged, first_line, unless_of_memory
from pipeline.foundation.progress import counted, say
from pipeline.training.processes import on_main

PREFIX = "step-"
BEST = "best-"


@dataclass
class Progress:
    """How far a run has come; a checkpoint needs nothing else beside weights and optimiser.

    Attributes:
        step: steps done, skipped ones included.
        tokens: real tokens trained on.
        seconds: time spent training, over all sittings.
        skipped: steps whose loss or gradient was not finite.
        skipped_in_a_row: how many of the latest steps were such.
        validation: losses on the held-out data after each epoch.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    validation: list[dict[str, float]] = field(default_factory=list)

    def summary(self) -> str:
        """Steps done, and the latest losses on the held-out data if there are any."""
        latest = self.validation[-1] if self.validation else {}
        losses = [f"{n} {v:.4f}" for n, v in latest.items() if n.startswith("loss/")]
        return counted(self.step, "step") + (f", held out {', '.join(losses)}" if losses else "")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are.
        keep: how many of the latest to keep.
        best_by: a value on the held-out data; the weights of the epoch in which it is least are
            kept, too. Empty for none.
    """

    def __init__(self, folder: Path, keep: int, best_by: str = "") -> None:
        self.folder, self.keep, self.best_by = folder, keep, best_by
        self._saved_at = time.monotonic()

    def all(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        return sorted(p for p in self.folder.glob(f"{PREFIX}*") if p.is_dir())

    def latest(self) -> Path | None:
        """The newest finished checkpoint."""
        return self.all()[-1] if self.all() else None

    def due(self, step: int, every_steps: int, every_minutes: float) -> bool:
        """Whether it is time for the next one.

        Args:
            step: steps done.
            every_steps: steps between two; 0 for none by steps.
            every_minutes: minutes between two; 0 for none by time.
        """
        overdue = time.monotonic() - self._saved_at > every_minutes * 60 > 0
        return overdue or (every_steps > 0 and step % every_steps == 0)

    @on_main
    def save(self, module: nn.Module, optimizer: Optimizer, progress: Progress) -> Path:
        """Write a checkpoint, then drop the oldest ones; a kill at any time leaves whole ones."""
        final = self.folder / f"{PREFIX}{progress.step:09d}"
        if final.is_dir():
            return final
        atomic.remove_leftovers(self.folder, older_than_seconds=0)
        with atomic.explained_write_errors(final), atomic.new_folder(final) as folder:
            save_model(module, str(folder / "model.safetensors"))
            torch.save(optimizer.state_dict(), folder / "optimizer.pt")
            (folder / "progress.json").write_text(json.dumps(asdict(progress)))
        self._keep_best(module, progress)
        self.drop_old()
        self._saved_at = time.monotonic()
        return final

    def is_best(self, progress: Progress) -> bool:
        """Whether the latest weights are the best so far on what is held out."""
        best = self.best_step(progress)
        return best is not None and best == progress.step

    def best_step(self, progress: Progress) -> int | None:
        """The step after which the held-out value was least, the first of equal ones."""
        if not self.best_by:
            return None
        measured = [
            epoch
            for epoch in progress.validation
            if math.isfinite(epoch.get(self.best_by, math.nan))
        ]
        best = min(measured, key=lambda epoch: epoch[self.best_by], default=None)
        return None if best is None else int(best["step"])

    def _keep_best(self, module: nn.Module, progress: Progress) -> None:
        """Keep the weights if they are the best; a kill before that is made good by `resume`."""
        if not self.is_best(progress):
            return
        final = self.folder / f"{BEST}{progress.step:09d}"
        with atomic.explained_write_errors(final), atomic.new_folder(final, replace=True) as folder:
            save_model(module, str(folder / "model.safetensors"))
        for old in self.folder.glob(f"{BEST}*"):
            if old != final:
                shutil.rmtree(old)

    def load_best(self, module: nn.Module, progress: Progress) -> int | None:
        """Load the weights that were best on what is held out.

        Returns:
            The step after which they were saved; None if there are none, and the module is left.

        Raises:
            Damaged: they are damaged.
        """
        best = self.best_step(progress)
        if best is None:
            return None
        folder = self.folder / f"{BEST}{best:09d}"
        if not folder.is_dir():
            return None
        self.load(folder, module, None)
        return best

    @on_main
    def drop_old(self) -> None:
        """Delete all but the latest ones."""
        for old in self.all()[: -self.keep]:
            # renamed first, so that a kill halfway leaves no damaged checkpoint behind
            renamed = old.with_name(f".{old.name}.partial")
            old.rename(renamed)
            shutil.rmtree(renamed)

    def resume(self, module: nn.Module, optimizer: Optimizer) -> Progress:
        """Restore the newest checkpoint; if there is none, leave everything at its beginning.

        Raises:
            Damaged: it is damaged, or of another model.
        """
        latest = self.latest()
        if latest is None:
            return Progress()
        progress = self.load(latest, module, optimizer)
        self._restore_best(module, progress)
        say(f"goes on from {latest}, step {progress.step:,}")
        return progress

    @on_main
    def _restore_best(self, module: nn.Module, progress: Progress) -> None:
        """Keep the best weights again if a kill came between the checkpoint and them."""
        if not (self.folder / f"{BEST}{progress.step:09d}").is_dir():
            self._keep_best(module, progress)

    def load(self, path: Path, module: nn.Module, optimizer: Optimizer | None) -> Progress:
        """Restore weights, optimiser and progress from a checkpoint.

        Raises:
            Damaged: it is damaged, or of another model.
        """
        try:
            load_model(module, str(path / "model.safetensors"))
            if optimizer is None:
                return Progress()
            state: dict[str, Any] = torch.load(
                path / "optimizer.pt", weights_only=True, map_location="cpu"
            )
            optimizer.load_state_dict(state)
            return Progress(**json.loads((path / "progress.json").read_text()))
        except Exception as error:  # a damaged or forged checkpoint may fail in any way
            unless_of_memory(error)
            reason = first_line(error)
            if isinstance(error, UnpicklingError):  # its own words say how to load it anyway
                reason = "optimizer.pt holds more than tensors and numbers."
            raise Damaged(
                f"{path} cannot be loaded: {reason} Delete this folder to go on from the "
                "checkpoint before it, or start anew with --resume never."
            ) from error
