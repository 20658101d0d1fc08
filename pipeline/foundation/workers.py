"""Work spread over processes: results come in order, and a dead worker costs one item at most."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_PER_TASK = 8
TASKS_AHEAD = 3  # per worker, so that none waits while a slow item delays the order


_begun = threading.Event()


def is_worker() -> bool:
    """Whether this process is a worker, whose death costs what it is doing and nothing else."""
    return _begun.is_set()


def cores() -> int:
    """Number of processor cores this process may use."""
    return len(os.sched_getaffinity(0))


def ahead(call: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Apply `call` to each item, in order, with up to `threads` calls in flight.

    For work that mostly waits, such as reading from an object store.
    """
    stream = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(call, item) for item in islice(stream, threads))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(call, item) for item in islice(stream, 1))
            yield result


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    died: Callable[[Item], Result],
    per_task: int = ITEMS_PER_TASK,
) -> Generator[Result, None, None]:
    """Yield `function(item)` for each item, in order, computed by `workers` processes.

    Memory is bounded, because items are taken only a little ahead of what has been yielded.
    Workers end with this process, even if it is killed.

    Args:
        function: importable by name; what it raises is raised here.
        items: taken lazily; each is sent to a worker.
        workers: number of processes; 0 or 1 computes in this process.
        died: gives the result for an item that ends its worker twice, the second time alone
            (a crash in a decoder, out of memory).
        per_task: items that are sent to a worker at once.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    stream = iter(items)
    waiting: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    others = multiprocessing.active_children()
    pool = _pool(workers)
    try:
        while True:
            while len(waiting) < workers * TASKS_AHEAD and (task := list(islice(stream, per_task))):
                waiting.append((task, _submit(pool, function, task)))
            if not waiting:
                return
            task, future = waiting.popleft()
            try:
                results = future.result()
            except BrokenProcessPool:
                pool.shutdown(wait=True, cancel_futures=True)
                results = [_alone(function, item, died) for item in task]
                pool = _pool(workers)
                waiting = deque((later, _submit(pool, function, later)) for later, _ in waiting)
            yield from results
    except BaseException:  # a task may take minutes, and nobody waits for its result any more
        for child in set(multiprocessing.active_children()).difference(others):
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker)


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], task: list[Item]
) -> Future[list[Result]]:
    try:
        return pool.submit(_each, function, task)
    except BrokenProcessPool as error:  # a worker died since; the caller meets it in turn
        future: Future[list[Result]] = Future()
        future.set_exception(error)
        return future


def _each(function: Callable[[Item], Result], task: list[Item]) -> list[Result]:
    return [function(item) for item in task]


def _alone(
    function: Callable[[Item], Result], item: Item, died: Callable[[Item], Result]
) -> Result:
    with _pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return died(item)


def begin_worker() -> None:
    """Called first in a worker process: it leaves Ctrl-C to its parent, and ends with it.

    Without this a worker outlives a parent that was killed. Its own parent may be the fork
    server, which lives on with it.
    """
    _begun.set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
