"""What a stage does when it is told to stop: at once, or after the step in hand."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal, TypeAlias

from pipeline.foundation.progress import say

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""SIGUSR2 is the warning that job scripts ask their scheduler for before time is up."""

Stopped: TypeAlias = Callable[[], Literal["terminated", "interrupted"] | None]


@contextmanager
def stop_at_once(consequence: str) -> Iterator[None]:
    """While the block runs, SIGTERM and SIGUSR2 unwind the program and end it with status 143.

    Args:
        consequence: what stopping means for the work, said to the user.
    """

    def stop(number: int, _: FrameType | None) -> None:
        for other in STOP_SIGNALS:  # a scheduler often sends one several times
            signal.signal(other, signal.SIG_IGN)
        say(f"received {signal.Signals(number).name}: {consequence}")
        raise SystemExit(128 + signal.SIGTERM)

    with _handled(STOP_SIGNALS, stop):
        yield


@contextmanager
def stop_after_step() -> Iterator[Stopped]:
    """While the block runs, SIGTERM, SIGUSR2 and one Ctrl-C are only remembered.

    The value is a function that says which of them came first, or None. A second Ctrl-C interrupts
    at once.
    """
    received: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        if not received:
            say(f"{signal.Signals(number).name}: saving after this step, then stopping")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    def stopped() -> Literal["terminated", "interrupted"] | None:
        if not received:
            return None
        return "interrupted" if received[0] == signal.SIGINT else "terminated"

    with _handled((*STOP_SIGNALS, signal.SIGINT), remember):
        yield stopped


@contextmanager
def _handled(
    numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
