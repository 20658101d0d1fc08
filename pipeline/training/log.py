"""The log of a run: metrics.jsonl with one line per logged step, TensorBoard events, warnings."""

import json
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from pipeline.foundation import atomic
from pipeline.foundation.progress import say
from pipeline.training.checkpoint import Progress


@dataclass(frozen=True)
class Words:
    """What a method says about the values that it logs.

    Attributes:
        note: the most telling of the values in a few words, for a progress bar; the second
            argument is the number of decimals.
        warnings: what looks wrong, by a name under which it is said only once.
        unit: what its speed counts, such as tokens or frames.
    """

    note: Callable[[Mapping[str, float], int], str]
    warnings: Callable[[Mapping[str, float]], Mapping[str, str]]
    unit: str = "tokens"


class TrainingLog:
    """Writes what training reports.

    Args:
        folder: the run's folder; None for a process that does not log.
        progress: where the run starts: later lines, which a sitting wrote after its last
            checkpoint and before it was killed, are dropped.
        words: the method's own.
        quiet_steps: steps before which there are no warnings, because a fresh model looks bad.
        flops_per_token: floating-point operations of training on one token.
        peak_flops: floating-point operations per second of the hardware; None where unknown.
    """

    def __init__(
        self,
        folder: Path | None,
        progress: Progress,
        *,
        words: Words,
        quiet_steps: int,
        flops_per_token: float,
        peak_flops: float | None,
    ) -> None:
        self.path = folder / "metrics.jsonl" if folder else None
        self.words, self.quiet_steps = words, quiet_steps
        self.flops_per_token, self.peak_flops = flops_per_token, peak_flops
        self._events: EventFile | None = None
        self._last = (progress.tokens, progress.seconds)
        self._note = ""
        self._warned: set[str] = set()
        if self.path and folder:
            if self.path.exists():
                lines = [line for line in read_metrics(self.path) if line["step"] <= progress.step]
                atomic.write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
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
            f"{self.words.unit}_per_s": round(speed, 1),
            "seconds": round(progress.seconds, 3),
            "skipped": progress.skipped,
        }
        if self.peak_flops:
            line["mfu"] = speed * self.flops_per_token / self.peak_flops
        self._write(line)
        if progress.step > self.quiet_steps:
            self._warn(values)
        mfu = f", MFU {line['mfu']:.0%}" if "mfu" in line else ""
        self._note = f"{self.words.note(values, 3)}, {speed:,.0f} {self.words.unit}/s{mfu}"

    def validation(self, progress: Progress, epoch: int, values: Mapping[str, float]) -> None:
        """Log losses on the held-out data."""
        named = {f"validation/{name}": value for name, value in values.items()}
        self._write({"step": progress.step, "epoch": epoch, **named})
        if self.path:
            say(f"epoch {epoch + 1}: held out {self.words.note(values, 4)}")

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
        # one short write per line: a kill can tear only the last line, which readers skip
        plain = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in line.items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")
        scalars = {name: value for name, value in line.items() if name not in ("step", "epoch")}
        self._events.add(scalars, line["step"])

    def _warn(self, values: Mapping[str, float]) -> None:
        for about, warning in self.words.warnings(values).items():
            if self.path and about not in self._warned:
                say(f"WARNING: {warning} (said once; see metrics.jsonl)")
            self._warned.add(about)


class EventFile:
    """The curves of one sitting, in TensorBoard's own format.

    It is written within the call. TensorBoard's own writer does so in a thread, so that a full
    disk would show only as a traceback.

    Args:
        folder: made if need be.
        first_step: curves that earlier sittings drew from this step on are dropped.

    Raises:
        OSError: here and in `add`, when the disk cannot be written.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("ab")
        self._writer = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())
        self._file.flush()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a torn last line is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
