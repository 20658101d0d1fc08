"""The one way from a word on the command line to a torch device, and to its arithmetic."""

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline.foundation.errors import SpeechkdError, first_line
from pipeline.foundation.gpus import LOADED_DRIVER, capability_of, has_bf16, why_none
from pipeline.foundation.progress import say

CPU = torch.device("cpu")
_ABILITIES = re.compile(r"(flags|Features)\s*:")


def device_named(word: str) -> torch.device:
    """The device of this process: `cpu`, `cuda`, or for `auto` the latter if there is one.

    Of several GPUs it is the one with this process's number on this machine (`LOCAL_RANK`), else
    the first; it becomes torch's current one. Where each process is shown one GPU, it is that one.
    Where `auto` cannot have a GPU that may be expected, a warning says why.

    Raises:
        SpeechkdError: CUDA was asked for and there is none, or another process has it to itself;
            or more processes than GPUs were started.
    """
    if word == "cpu":
        return CPU
    if not torch.cuda.is_available():
        if word == "auto":
            _warn_of_none()
            return CPU
        raise SpeechkdError(
            f"--device {word}: torch finds no CUDA device: {why_none()}. Or use --device cpu."
        )
    device = torch.device("cuda", _own_gpu())
    return _or_cpu(device) if word == "auto" else use(device)


def devices_named(text: str) -> list[torch.device]:
    """The devices that `--devices` names: `auto`, `cpu`, `all`, or numbers of GPUs by commas.

    Only `auto` opens a context, on the GPU that it gives; `use` does so for the others.

    Raises:
        SpeechkdError: one of them is not here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text == "auto" and gpus:
        return [_or_cpu(torch.device("cuda:0"))]
    if text == "auto" or (text == "all" and not gpus and not _built_for_gpus()):
        _warn_of_none()
        return [CPU]
    if text == "all" and not gpus:
        raise SpeechkdError(
            f"--devices all: torch finds no CUDA device: {why_none()}. Or use --devices cpu."
        )
    names = [f"cuda:{part}" if part.isdecimal() else part for part in text.split(",")]
    if text == "all":
        names = [f"cuda:{number}" for number in range(gpus)]
    for name in names:
        known = name == "cpu" or (name.startswith("cuda:") and name[5:].isdecimal())
        if not known or (name != "cpu" and int(name[5:]) >= gpus):
            why = "" if gpus else f": {why_none()}"
            raise SpeechkdError(
                f"--devices {text}: there is no device {name!r} here ({gpus} GPUs found{why}). "
                "Give cpu, all, or GPU numbers such as 0,1."
            )
    return [torch.device(name) for name in names]


def use(device: torch.device) -> torch.device:
    """Make a device the current one of this thread, and open this process's context on it.

    Raises:
        SpeechkdError: it is a GPU that cannot be used now. The message says why.
    """
    if device.type != "cuda":
        return device
    try:
        _open(device)
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        raise SpeechkdError(
            f"{device} is there but cannot be used ({first_line(error)}). Another process may have "
            "it to itself or fill its memory, or this build of torch has no kernels for it; "
            "nvidia-smi and `speechkd doctor` show that."
        ) from error
    return device


def make_current(device: torch.device) -> None:
    """Make a device the current one of this thread, as what pins memory and copies expects."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def training_precision(
    asked: Literal["auto", "bf16", "float32"], device: torch.device
) -> Literal["bf16", "float32"]:
    """Precision of a trained encoder's passes: `auto` is bf16 on a GPU that has it.

    A CPU without bf16 is warned of, because torch emulates it.

    Raises:
        SpeechkdError: bf16 is asked for on a GPU without it.
    """
    if asked == "float32" or (asked == "auto" and device.type == "cpu"):
        return "float32"
    if asked == "bf16":
        check_bf16(device)
        return "bf16"
    if has_bf16(device):
        return "bf16"
    _warn(f"{torch.cuda.get_device_name(device)} has no bf16 arithmetic: trains in float32")
    return "float32"


def check_bf16(device: torch.device) -> None:
    """Refuse a GPU without bf16 arithmetic, because torch would emulate it, slowly.

    A CPU without it is only warned of: there, a small test may well be worth the time.

    Raises:
        SpeechkdError: a GPU has none.
    """
    if device.type == "cpu" and not cpu_has_bf16():
        _warn(
            "--precision bf16: this processor has no bf16 arithmetic, so torch emulates it: with "
            "AVX-512 products took twice as long as in float32, with AVX2 80 times. Use float32"
        )
    if not has_bf16(device):
        capability = ".".join(map(str, capability_of(device) or ()))
        raise SpeechkdError(
            f"--precision bf16: {torch.cuda.get_device_name(device)} has no bf16 arithmetic "
            f"(compute capability {capability}; bf16 came with 8.0). Use --precision auto."
        )


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's processor multiplies bf16 itself; True where that cannot be told.

    Args:
        cpuinfo: Linux's list of what the processor can: AVX512-BF16 or AMX-BF16 on x86, BF16 on
            ARM.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    listed = [line.partition(":")[2].split() for line in lines if _ABILITIES.match(line)]
    return not listed or bool(set(listed[0]) & {"avx512_bf16", "amx_bf16", "bf16"})


@contextmanager
def one_thread() -> Iterator[None]:
    """While the block runs, torch's operations in this thread do not divide their work.

    For many small operations, such as those that make a batch. On idle cores two threads do these
    no sooner than one; on busy cores they take fifty times as long, because they wait for each
    other (docs/gpu.md).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def ieee_float32() -> Iterator[None]:
    """While the block runs, float32 is IEEE float32 on GPUs too, and never TF32.

    torch lets cuDNN's convolutions round their factors to TF32's 10 bits by default, and some
    images turn that on for matrices as well (`TORCH_ALLOW_TF32_CUBLAS_OVERRIDE`). Other precisions
    and CPUs are not affected.
    """
    cudnn: Any = torch.backends.cudnn
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    # torch's older names for the same must agree with the newer ones, or reading them fails
    matrices, convolutions = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    before = [backend.fp32_precision for backend in backends]
    _set_older_names("highest", convolutions=False)
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        _set_older_names(matrices, convolutions=convolutions)
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def _set_older_names(matrices: str, *, convolutions: bool) -> None:
    if torch.get_float32_matmul_precision() != matrices:
        torch.set_float32_matmul_precision(matrices)
    if torch.backends.cudnn.allow_tf32 != convolutions:
        torch.backends.cudnn.allow_tf32 = convolutions


def _own_gpu() -> int:
    """Number of this process's GPU among those that it is shown."""
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", str(rank + 1)))
    shown = torch.cuda.device_count()
    each_its_own = shown == 1 and "CUDA_VISIBLE_DEVICES" in os.environ
    if shown < processes and not each_its_own:
        raise SpeechkdError(
            f"{processes} processes were started on this machine, but each sees the same {shown} "
            f"GPUs. Start {shown} (--nproc-per-node {shown}), or show each process a GPU of its "
            "own by CUDA_VISIBLE_DEVICES."
        )
    return rank % shown


def _or_cpu(device: torch.device) -> torch.device:
    """The device, or the CPU if it cannot be used; processes that work together never differ."""
    try:
        return use(device)
    except SpeechkdError as error:
        if "WORLD_SIZE" in os.environ:
            raise
        _warn(f"goes on without a GPU, which is far slower: {error}")
        return CPU


def _open(device: torch.device) -> None:
    make_current(device)
    torch.ones(1, device=device)  # a kernel: a build without any for this card fails here


def _built_for_gpus() -> bool:
    return torch.version.cuda is not None or torch.version.hip is not None


def _warn_of_none() -> None:
    if _built_for_gpus() or LOADED_DRIVER.exists():
        _warn(f"goes on without a GPU, which is far slower: {why_none()}")


@functools.cache
def _warn(text: str) -> None:
    """Say it once per process, because several parts of a command ask for their device."""
    say(f"WARNING: {text}")
