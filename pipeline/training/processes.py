"""The processes of a distributed run, as `torchrun` starts them; one process needs none of it."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed
from torch.distributed.nn import functional as differentiable


def join(device: str) -> None:
    """Join the group that torchrun's variables describe, if there is one."""
    if "WORLD_SIZE" in os.environ and not distributed.is_initialized():
        distributed.init_process_group(
            "nccl" if device == "cuda" else "gloo", timeout=timedelta(minutes=30)
        )


def leave() -> None:
    """Leave the group, if there is one, all processes together.

    A process that tears its end down while another still sends can wait for ever.
    """
    if distributed.is_initialized():
        gc.collect()  # frees what autograd still holds of the group's communication
        distributed.barrier()
        distributed.destroy_process_group()


def count() -> int:
    """How many processes share the work."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Within, torch uses deterministic algorithms alone, if that is wanted.

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
    """Sum over all processes, through which gradients flow back to every one of them."""
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
    """Within, one process of this machine goes first: what it makes on the disk the others find."""
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
