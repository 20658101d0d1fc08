"""The processes of a distributed run, as `torchrun` starts them; one process needs none of it."""

import functools
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.nn import functional as differentiable

from pipeline.foundation.progress import silenced

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def joined(device: str) -> Iterator[None]:
    """While the block runs, be one of the processes that torchrun's variables describe, if any.

    All but the first are silent. They leave together: a process that tears its end down while
    another still sends can wait for ever. After an error nobody waits, because the others may
    never arrive.

    Args:
        device: kind of the device of each, `cpu` or `cuda`.
    """
    if "WORLD_SIZE" in os.environ and not distributed.is_initialized():
        distributed.init_process_group(
            "nccl" if device == "cuda" else "gloo", timeout=timedelta(minutes=30)
        )
    with silenced(rank() != 0):
        yield
    if distributed.is_initialized():
        gc.collect()  # frees what autograd still holds of the group's communication
        distributed.barrier()
        distributed.destroy_process_group()


def on_main(function: Callable[P, R]) -> Callable[P, R | None]:
    """Make a function that the first process alone runs; elsewhere it does nothing: None."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R | None:
        return function(*args, **kwargs) if rank() == 0 else None

    return run


def count() -> int:
    """How many processes share the work."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """While the block runs, torch uses deterministic algorithms alone, if that is wanted.

    An operation that has none raises an error instead (`torch.use_deterministic_algorithms`).
    """
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        # read when cuBLAS starts; its documentation names this size for the purpose
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def differentiable_sum(value: Tensor) -> Tensor:
    """Sum over all processes; gradients flow back through it to every one of them."""
    if count() == 1:
        return value
    total: Tensor = differentiable.all_reduce(value.contiguous())  # type: ignore[no-untyped-call]
    return total


def mean(value: Tensor) -> Tensor:
    """Mean over all processes, without gradient."""
    if count() == 1:
        return value.detach()
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / count()


def any_of(flag: bool, on: torch.device) -> bool:
    """Whether the flag is set in any process."""
    if count() == 1:
        return flag
    votes = torch.tensor(float(flag), device=on)
    distributed.all_reduce(votes)
    return bool(votes > 0)


@contextmanager
def first_on_this_machine() -> Iterator[None]:
    """Run the block in one process of this machine first: the others find what it made on disk."""
    others = os.environ.get("LOCAL_RANK", "0") != "0"
    if others:
        wait()
    yield
    if not others:
        wait()


def wait() -> None:
    """Wait until every process is here."""
    if count() > 1:
        distributed.barrier()
