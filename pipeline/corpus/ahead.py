"""The next batch, made in a thread while the step before it runs."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from pipeline.foundation.devices import one_thread

Batch = TypeVar("Batch")


class Ahead(Generic[Batch]):
    """Makes one batch ahead, for batches that are functions of their place in an epoch.

    What is asked for is what is given: a place that was not foreseen, as after a resume, is made
    on the spot. So batches are the same with or without this, and whatever the threads do.

    Args:
        epoch: the batches of an epoch, by their place in it.
        per_epoch: batches per epoch.
    """

    def __init__(self, epoch: Callable[[int], Callable[[int], Batch]], per_epoch: int) -> None:
        self._epoch, self._per_epoch = epoch, per_epoch
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[tuple[int, int], Future[Batch]] | None = None
        self._order: tuple[int, Callable[[int], Batch]] | None = None
        self._lock = threading.Lock()
        self._waited = 0.0

    def epoch(self, epoch: int) -> Callable[[int], Batch]:
        """The batches of an epoch, each made while the step before it runs."""

        def at(place: int) -> Batch:
            started = time.perf_counter()
            foreseen = self._next
            here = (epoch, place)
            future = foreseen[1] if foreseen and foreseen[0] == here else self._submit(here)
            batch = future.result()
            self._waited += time.perf_counter() - started
            is_last = place + 1 >= self._per_epoch
            following = (epoch + 1, 0) if is_last else (epoch, place + 1)
            self._next = (following, self._submit(following))
            return batch

        return at

    def waited(self) -> float:
        """Seconds that steps have waited for batches since this was last asked."""
        waited, self._waited = self._waited, 0.0
        return waited

    def close(self) -> None:
        """End the thread, once the batch that it makes is made."""
        self._maker.shutdown(wait=True, cancel_futures=True)

    def _submit(self, at: tuple[int, int]) -> "Future[Batch]":
        return self._maker.submit(self._make, *at)

    @one_thread()
    def _make(self, epoch: int, place: int) -> Batch:
        with self._lock:
            if self._order is None or self._order[0] != epoch:
                self._order = (epoch, self._epoch(epoch))
            batch_at = self._order[1]
        return batch_at(place)
