"""Batches in flight on a GPU: how many are launched ahead, and how their rows come back.

On a CPU there is nothing to do.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch

BATCHES_IN_FLIGHT = 2  # one is computed while the next is launched


@dataclass
class Copy:
    """Rows on their way from a device, or of a CPU, where they are already."""

    host_NE: torch.Tensor
    event: Any = None
    """On a GPU, what tells that the copy is complete."""

    def wait(self) -> None:
        """Wait until the rows are in this machine's memory."""
        if self.event is not None:
            self.event.synchronize()


@dataclass
class InFlight:
    """Keeps a few batches in flight, and brings their rows back beside what is computed."""

    device: torch.device
    _launched: "deque[torch.cuda.Event]" = field(default_factory=deque)
    _copies: Any = None

    def __post_init__(self) -> None:
        if self.device.type == "cuda":
            self._copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def copy_of(self, rows_NE: torch.Tensor) -> Copy:
        """Begin to copy a batch's rows into page-locked memory; neither the host nor kernels wait.

        In the kernels' own stream the next batch would begin after the copy, and states of 64 clips
        are some 70 MB.
        """
        if rows_NE.device.type != "cuda":
            return Copy(rows_NE)
        self._copies.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._copies):
            host_NE = torch.empty(rows_NE.shape, dtype=rows_NE.dtype, pin_memory=True)
            host_NE.copy_(rows_NE, non_blocking=True)
            rows_NE.record_stream(self._copies)
            return Copy(host_NE, self._copies.record_event())

    def mark(self) -> None:
        """Wait until no more than a few of the batches launched so far are unfinished."""
        if self.device.type != "cuda":
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        self._launched.append(event)
        if len(self._launched) >= BATCHES_IN_FLIGHT:
            self._launched.popleft().synchronize()
