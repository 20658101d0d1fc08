"""The log of a run: a line a logged step in metrics.jsonl, TensorBoard events, and warnings."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.foundation import atomic
from pipeline.foundation.progress import say
from pipeline.training.checkpoint import Progress
from pipeline.training.event_file import EventFile

DROWNED = 10.0
"""Ratio of gradient norms beyond which one of the two losses drowns the other."""
COLLAPSED = 1e-3
"""Spread of the student's directions over clips, as a share of the teacher's, below which it tells
no clip from another."""


class TrainingLog:
    """Writes what training reports.

    Args:
        folder: the run's folder; None for a process that does not log.
        progress: where the run goes on from: lines beyond it, of a sitting that was killed after
            its last checkpoint, are dropped.
        quiet_steps: steps before which nothing is warned of: a fresh student looks collapsed.
        flops_per_token: floating-point operations of training on one token.
        peak_flops: what the hardware can do a second; None where unknown.
    """

    def __init__(
        self,
        folder: Path | None,
        progress: Progress,
        quiet_steps: int,
        flops_per_token: float,
        peak_flops: float | None,
    ) -> None:
        self.path = folder / "metrics.jsonl" if folder else None
        self.quiet_steps = quiet_steps
        self.flops_per_token, self.peak_flops = flops_per_token, peak_flops
        self._events: EventFile | None = None
        self._last = (progress.tokens, progress.seconds)
        self._note = ""
        self._warned: set[str] = set()
        if self.path and folder:
            if self.path.exists():
                kept = [line for line in read_metrics(self.path) if line["step"] <= progress.step]
                atomic.write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
            self._events = EventFile(folder / "tensorboard", first_step=progress.step + 1)

    def step(
        self,
        progress: Progress,
        epoch: int,
        values: Mapping[str, float],
        gradient_norm: float,
        learning_rate: float,
    ) -> None:
        """Log a step: losses, gradient norms, learning rate, and speed since the last line."""
        tokens, seconds = progress.tokens - self._last[0], progress.seconds - self._last[1]
        self._last = (progress.tokens, progress.seconds)
        speed = tokens / max(seconds, 1e-9)
        line = {
            "step": progress.step,
            "epoch": epoch,
            **values,
            "gradient/norm": gradient_norm,
            "lr": learning_rate,
            "tokens_per_s": round(speed, 1),
            "seconds": round(progress.seconds, 3),
            "skipped": progress.skipped,
        }
        if self.peak_flops:
            line["mfu"] = speed * self.flops_per_token / self.peak_flops
        self._write(line)
        if progress.step > self.quiet_steps:
            self._warn(values)
        kd = f", kd {values['loss/kd']:.3f}" if "loss/kd" in values else ""
        mfu = f", MFU {line['mfu']:.0%}" if "mfu" in line else ""
        self._note = f"mlm {values['loss/mlm']:.3f}{kd}, {speed:,.0f} tokens/s{mfu}"

    def validation(self, progress: Progress, epoch: int, values: Mapping[str, float]) -> None:
        """Log losses on the held-out clips."""
        named = {f"validation/{name}": value for name, value in values.items()}
        self._write({"step": progress.step, "epoch": epoch, **named})
        if self.path:
            kd = f", kd {values['loss/kd']:.4f}" if "loss/kd" in values else ""
            say(f"epoch {epoch + 1}: held out mlm {values['loss/mlm']:.4f}{kd}")

    def note(self) -> str:
        """The latest losses and speed, for the progress bar."""
        return self._note

    def close(self) -> None:
        """Close the files."""
        if self._events:
            self._events.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        if not self.path or not self._events:
            return
        # one short write a line: a kill can tear the last line at most, which readers skip
        plain = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in line.items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")
        scalars = {name: value for name, value in line.items() if name not in ("step", "epoch")}
        self._events.add(scalars, line["step"])

    def _warn(self, values: Mapping[str, float]) -> None:
        ratio = values.get("gradient/kd_over_mlm")
        if ratio is not None and ratio > DROWNED:
            self._once(
                "drowned",
                f"the objective's gradient is {ratio:.0f} times that of the "
                "masked-LM loss and drowns it; lower --gamma",
            )
        if ratio is not None and ratio < 1 / DROWNED:
            self._once(
                "faint",
                f"the objective's gradient is {ratio:.2g} of that of the masked-LM "
                "loss, which drowns it; raise --gamma",
            )
        for name, value in values.items():
            if name.startswith("spread/") and value < COLLAPSED:
                self._once(
                    name,
                    f"the student gives all clips nearly the same vector ({name} is "
                    f"{value:.1e}): it may have collapsed",
                )

    def _once(self, about: str, warning: str) -> None:
        if self.path and about not in self._warned:
            say(f"WARNING: {warning} (said once; see metrics.jsonl)")
        self._warned.add(about)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a torn last line is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
