"""The processes of a distributed run, as `torchrun` starts them; one process needs none of it."""

import functools
import gc
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import silenced

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """While the block runs, be one of the processes that torchrun's variables describe, if any.

    All but the first are silent. They leave together: a process that tears its end down while
    another still sends can wait for ever. After an error nobody waits, because the others may
    never arrive.

    Args:
        device: this process's own.

    Raises:
        SpeechkdError: two processes have the same GPU, or their GPUs cannot reach each other.
    """
    if "WORLD_SIZE" in os.environ and not distributed.is_initialized():
        gpu = device if device.type == "cuda" else None
        try:
            distributed.init_process_group(
                "nccl" if gpu else "gloo", timeout=timedelta(minutes=30), device_id=gpu
            )
        except distributed.DistBackendError as error:
            raise SpeechkdError(
                f"the {os.environ['WORLD_SIZE']} processes cannot join on {device}. Each needs a "
                "GPU of its own (one process per GPU that it is shown), and a network between "
                f"machines; NCCL_DEBUG=INFO says more. NCCL's own words: {error}"
            ) from error
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
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each holds it, so each one's gradient counts for all values."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(gradient)  # type: ignore[no-untyped-call]
        return total


def averaging_gradients(module: nn.Module) -> nn.Module:
    """The module, so wrapped that its gradients are averaged if there are several processes."""
    if count() == 1:
        return module
    # buffers are constants here; torch 2.13 calls the option by the first name
    names = inspect.signature(DistributedDataParallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {option: False}
    return DistributedDataParallel(module, **options)


def means(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Means of scalars over all processes: one message, and one wait for the device."""
    if not values:
        return {}
    vector = torch.stack([value.detach() for value in values.values()])
    if count() > 1:
        distributed.all_reduce(vector)
        vector /= count()
    return dict(zip(values, vector.tolist(), strict=True))


def any_of(flags: Sequence[bool | Tensor], on: torch.device) -> list[bool]:
    """Which of the flags are set in any process: one message, and one wait for the device.

    Args:
        flags: as many in every process, booleans of Python or of the device.
        on: this process's device.
    """
    if count() == 1:
        return [bool(flag) for flag in flags]
    votes = torch.zeros(len(flags), device=on)
    for place, flag in enumerate(flags):
        votes[place] = flag  # Python's go along with the kernel: nothing is copied and waited for
    distributed.all_reduce(votes)
    return [vote > 0 for vote in votes.tolist()]


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
