"""Progress of a long job: a bar with rate and time left, or a plain line every 15 s."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pipeline.foundation.untrusted import printable

LOG_EVERY_SECONDS = 15.0
SURE_AFTER_SECONDS = 5.0  # of work; processes that start and caches that are cold come before it
SURE_AFTER_STEPS = 2

console = Console(stderr=True, highlight=False, soft_wrap=True)


_details: list[TextIO] = []


def say(message: str) -> None:
    """Print a line of plain information to the error stream, where the bar is too."""
    if _details:
        _details[-1].write(printable(message) + "\n")
    else:
        _show(message)


@contextmanager
def details_to(path: Path) -> Iterator[TextIO]:
    """While the block runs, `say` writes to a file; meters stay on the screen.

    Args:
        path: the file, made if it is not there; it is yielded, open.
    """
    with path.open("a", encoding="utf-8", buffering=1) as file:
        _details.append(file)
        try:
            yield file
        finally:
            _details.pop()


@contextmanager
def silenced(silent: bool) -> Iterator[None]:
    """While the block runs, neither lines nor meters are shown, if `silent`.

    Of several processes that do one piece of work, one speaks for all.
    """
    before, console.quiet = console.quiet, silent or console.quiet
    try:
        yield
    finally:
        console.quiet = before


def _show(message: str) -> None:
    console.print(printable(message), markup=False)


class Meter:
    """Counts units of work and shows how many are done, how fast, and how long is left.

    On a terminal it is a bar that is redrawn in place, elsewhere a line every 15 s. Work of an
    earlier run is given as `done` and does not count towards the rate.

    Args:
        label: what is being done.
        total: all units of work.
        unit: name of the unit, for the rate ("clips" gives "clips/s").
        done: units that an earlier run has done.
    """

    def __init__(self, label: str, total: float, unit: str, *, done: float = 0) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.start_count = self.count = done
        self.note = ""
        self._started = self._last_log = time.monotonic()
        self._steps, self._first_step, self._first_count = 0, self._started, done
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[status]}"),
                console=console,
            )
            self._task = self._bar.add_task(label, total=total, completed=int(done), status="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None and self.count > self.start_count:
            _show(f"{self.label}: {self.status()}")

    def advance(self, units: float, note: str = "") -> None:
        """Count `units` more; `note` is shown after the rate (loss, split of times, …)."""
        self.count += units
        self.note = note
        self._steps += 1
        if self._steps == 1:
            self._first_step, self._first_count = time.monotonic(), self.count
        if self._bar:
            self._bar.update(self._task, completed=self.count, status=self.status())
        elif time.monotonic() - self._last_log >= LOG_EVERY_SECONDS:
            self._last_log = time.monotonic()
            _show(f"{self.label}: {self.status()}")

    def rate(self) -> float:
        """Units per second since this run began."""
        return (self.count - self.start_count) / max(time.monotonic() - self._started, 1e-9)

    def seconds_left(self) -> float:
        """Time that the rest takes; NaN while too little is done to tell.

        It counts from the first step on: before that, processes start and files are opened, which
        would make an hour of a minute.
        """
        seconds = time.monotonic() - self._first_step
        done = self.count - self._first_count
        if self._steps < SURE_AFTER_STEPS or seconds < SURE_AFTER_SECONDS or done <= 0:
            return float("nan")
        return (self.total - self.count) * seconds / done

    def status(self) -> str:
        """Done, total, rate, time left and the last note, as one line."""
        rate, seconds_left = self.rate(), self.seconds_left()
        parts = [f"{self.count:,.0f}/{self.total:,.0f} {self.unit}", f"{rate:,.1f} {self.unit}/s"]
        if self.count >= self.total:
            parts.append(f"took {duration(time.monotonic() - self._started)}")
        elif not math.isnan(seconds_left):
            parts.append(f"{duration(seconds_left)} left")
        return ", ".join([*parts, self.note] if self.note else parts)


def counted(count: int, one: str, several: str = "") -> str:
    """A number and its noun: `1 tar`, `2,000 tars`.

    Args:
        count: the number.
        one: the noun.
        several: its plural, if that is not made by an s.
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def alternatives(names: Sequence[str]) -> str:
    """Names as a choice in words: `a`, `a or b`, `a, b or c`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def duration(seconds: float) -> str:
    """A time span as people read it: `42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
