"""What can be told of GPUs without opening a context on one.

A context takes memory on its GPU, and fails where another process has the GPU to itself.
"""

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

LOADED_DRIVER = Path("/proc/driver/nvidia/version")
DRIVERS = {12: 525, 13: 580}
"""The oldest driver for each major version of CUDA (NVIDIA's CUDA compatibility guide)."""
NO_DEVICE = 100
DRIVER_ANSWERS = {
    802: "the machine's switches are not ready; is nvidia-fabricmanager running?",
    803: "the driver and its library differ in version; restart after an update of the driver",
    804: "a newer libcuda.so.1 than the driver's own is in the way, and this card refuses it",
    999: "the driver fails without a reason; dmesg may say more, and a restart often helps",
}
"""What `cuInit` answers (CUresult in NVIDIA's driver API), in words."""
BF16_FROM = (8, 0)
"""The compute capability that brought bf16."""
FIELDS = (
    "index,name,driver_version,memory.total,memory.free,compute_cap,compute_mode,mig.mode.current"
)


@dataclass(frozen=True)
class Card:
    """A GPU of this machine, whether this process may use it or not.

    Attributes:
        index: its number on this machine.
        name: the maker's.
        driver: version of the driver; empty if it is not known.
        total_bytes: its memory; None if it is not known.
        free_bytes: what of that is free; None if it is not known.
        capability: its compute capability, such as (9, 0); None if it is not known.
        compute_mode: `Default`, `Exclusive_Process` or `Prohibited`.
        sliced: whether it is divided into slices (MIG), of which a process sees one.
    """

    index: int
    name: str
    driver: str
    total_bytes: int | None
    free_bytes: int | None
    capability: tuple[int, int] | None
    compute_mode: str
    sliced: bool


def cards() -> list[Card]:
    """The GPUs of this machine as nvidia-smi lists them; without it those that torch sees."""
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            pass  # a driver that does not answer, or one too old for a field; torch is asked then
        else:
            lines = [line.split(", ") for line in done.stdout.splitlines()]
            return [_card(*line) for line in lines if len(line) == len(FIELDS.split(","))]
    if not torch.cuda.is_available():
        return []
    all_properties = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [
        Card(
            index,
            one.name,
            "",
            one.total_memory,
            None,
            (one.major, one.minor),
            "Default",
            "MIG" in one.name,
        )
        for index, one in enumerate(all_properties)
    ]


def _card(
    index: str, name: str, driver: str, total: str, free: str, capability: str, mode: str, mig: str
) -> Card:
    major, _, minor = capability.partition(".")
    return Card(
        index=int(index),
        name=name,
        driver=driver,
        total_bytes=int(total) * 2**20 if total.isdecimal() else None,
        free_bytes=int(free) * 2**20 if free.isdecimal() else None,
        capability=(int(major), int(minor)) if minor.isdecimal() else None,
        compute_mode=mode,
        sliced=mig == "Enabled",
    )


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """Compute capability of an NVIDIA GPU; None for any other device."""
    if device.type != "cuda" or torch.version.hip:
        return None
    return torch.cuda.get_device_capability(device)


def has_bf16(device: torch.device) -> bool:
    """Whether a device has bf16 arithmetic of its own; torch emulates it elsewhere, slowly."""
    capability = capability_of(device)
    return capability is None or capability >= BF16_FROM


def has_kernels(capability: tuple[int, int]) -> bool:
    """Whether this build of torch has kernels for a compute capability."""
    builds = [re.fullmatch(r"(sm|compute)_(\d+)(\d)\D?", b) for b in torch.cuda.get_arch_list()]
    known = [(m[1], (int(m[2]), int(m[3]))) for m in builds if m]
    return not known or any(
        # machine code runs on later cards of its generation, PTX on every later card
        version <= capability and (kind == "compute" or version[0] == capability[0])
        for kind, version in known
    )


def why_none() -> str:
    """Why torch finds no GPU, and what to do about it. To be asked where it finds none."""
    if torch.version.hip:
        return f"this build of torch is for ROCm {torch.version.hip}, and it finds no GPU"
    built = torch.version.cuda
    if built is None:
        remedy = ", but there is an NVIDIA driver: install torch's CUDA build"
        return f"this build of torch is for CPUs alone{remedy if LOADED_DRIVER.exists() else ''}"
    build = f"this build of torch is for CUDA {built}"
    driver = _driver()
    if driver is None:
        if LOADED_DRIVER.exists():
            return (
                f"{build}; the NVIDIA driver runs, but its library libcuda.so.1 is not here. Start "
                "the container with GPUs (docker --gpus all, apptainer --nv)"
            )
        return f"{build}, but this machine has no NVIDIA driver"
    answer, (major, minor) = driver
    wanted = int(built.partition(".")[0])
    if major < wanted:
        oldest = f" to {DRIVERS[wanted]} or newer" if wanted in DRIVERS else ""
        return (
            f"{build}, and the NVIDIA driver is too old for it: it knows CUDA up to "
            f"{major}.{minor}. Update the driver{oldest}, or install a build of torch for CUDA "
            f"{major}"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if answer == NO_DEVICE and visible is not None:
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU from this process"
    if answer == NO_DEVICE:
        return (
            f"{build}; the NVIDIA driver answers, but shows this process no GPU. On a cluster ask "
            "the scheduler for one (Slurm: --gres=gpu:1)"
        )
    if answer in DRIVER_ANSWERS:
        return f"{build}; {DRIVER_ANSWERS[answer]}"
    return f"{build}; it finds no GPU, and the driver answers {answer} (see CUresult of CUDA)"


def _driver() -> tuple[int, tuple[int, int]] | None:
    """What the driver answers when it is started, and the CUDA that it knows; None without one."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    start: Callable[[int], int] = library.cuInit
    number = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(number))
    return start(0), (number.value // 1000, number.value % 1000 // 10)
