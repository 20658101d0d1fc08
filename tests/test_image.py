"""What the Dockerfile says of CUDA: which torch, which driver, what the container toolkit reads.

Its shell is run with a `make` and a `python` that only tell what they were asked.
"""

import getpass
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.foundation.gpus import DRIVERS

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LOGICAL_LINES = re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M)).splitlines()
DEFAULT_CUDA = re.search(r"^ARG CUDA=(\d+)$", DOCKERFILE, flags=re.M)[1]
CUDAS = (*map(str, DRIVERS), "")
pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh")


def only(kind: str, part: str) -> str:
    """The text of the only instruction of a kind that has a part."""
    (line,) = [line for line in LOGICAL_LINES if line.startswith(f"{kind} ") and part in line]
    return line.removeprefix(f"{kind} ")


def shell(text: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run shell text with these variables alone; programs of `cwd` come before the usual ones."""
    environment = {"PATH": f"{cwd}:/usr/bin:/bin", **variables}
    return subprocess.run(
        ["sh", "-c", text], cwd=cwd, env=environment, capture_output=True, text=True
    )


def variables(cuda: str, cwd: Path) -> dict[str, str]:
    """The variables that an image for this CUDA sets, as the builder fills them in."""
    lines = only("ENV", "NVIDIA_REQUIRE_CUDA").split()
    pairs = dict(line.split("=", 1) for line in re.findall(r"\w+=\S+", " ".join(lines)))
    said = {name: shell(f'echo "{text}"', cwd, CUDA=cuda).stdout for name, text in pairs.items()}
    return {name: value.strip() for name, value in said.items()}


@pytest.mark.parametrize("cuda", CUDAS)
def test_a_driver_too_old_for_the_images_cuda_is_refused_when_a_container_starts(cuda, tmp_path):
    environment = variables(cuda, tmp_path)
    if cuda:
        assert environment["NVIDIA_REQUIRE_CUDA"] == f"cuda>={cuda}.0"
        assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
        assert environment["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
        build = f" --build-arg CUDA={cuda}" if cuda != DEFAULT_CUDA else ""
        line = rf"^#   docker build -t speechkd{build} \. +CUDA {cuda}, for drivers from (\d+) on$"
        assert re.search(line, DOCKERFILE, flags=re.M)[1] == str(DRIVERS[int(cuda)])
    else:
        assert {value for name, value in environment.items() if name.startswith("NVIDIA_")} == {""}
    assert environment["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib64"


def test_a_user_who_is_only_a_number_has_a_name_to_compile_for(tmp_path, monkeypatch):
    """`docker run --user 1234`: older versions of torch ask getpass for what they compile."""

    def nobody(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    environment = variables(DEFAULT_CUDA, tmp_path)
    monkeypatch.setattr(os, "environ", environment)
    assert getpass.getuser() == environment["USER"]


def test_both_stages_are_of_one_cuda_and_of_one_base():
    assert re.findall(r"^ARG CUDA.*$", DOCKERFILE, flags=re.M) == [f"ARG CUDA={DEFAULT_CUDA}"] * 2
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.M) == ["${BASE}"] * 2


@pytest.mark.parametrize(
    ("variables", "torch_asked", "backend"),
    [
        ({"CUDA": "13"}, None, "default"),
        ({"CUDA": "12"}, "torch==2.10.0", "default"),
        (
            {"CUDA": "12", "TORCH": "torch==2.9.1", "TORCH_BACKEND": "cu126"},
            "torch==2.9.1",
            "cu126",
        ),
        ({"CUDA": ""}, None, "cpu"),
        ({"CUDA": "", "TORCH": "torch==2.11.0"}, "torch==2.11.0", "cpu"),
    ],
)
def test_the_cuda_asked_for_decides_which_torch_make_installs(
    variables, torch_asked, backend, tmp_path
):
    (tmp_path / "make").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    (tmp_path / "make").chmod(0o755)
    (tmp_path / "rm").symlink_to("/bin/true")  # root's own cache stays
    text = only("RUN", "make install")
    done = shell(text, tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    asked = dict(word.split("=", 1) for word in done.stdout.splitlines() if "=" in word)
    assert asked.get("TORCH") == torch_asked
    assert asked["TORCH_BACKEND"] == backend


@pytest.mark.parametrize(
    ("cuda", "built", "fits"),
    [
        ("13", "13.0", True),
        ("13", "13.2", True),
        ("12", "12.8", True),
        ("13", "12.8", False),
        ("12", "13.0", False),
        ("1", "13.0", False),
        ("13", "no CUDA", False),
        ("", "no CUDA", True),
        ("", "13.0", True),  # pip's build serves a CPU where PyTorch's own index is out of reach
    ],
)
def test_a_torch_for_another_cuda_ends_the_build(cuda, built, fits, tmp_path):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {built}\n", encoding="utf-8")
    python.chmod(0o755)
    text = only("RUN", "torch.version.cuda").replace("/opt/venv/bin/python", str(python))
    done = shell(text, tmp_path, CUDA=cuda)
    assert (done.returncode == 0) == fits
    assert (
        fits or done.stdout == f"this torch is built for {built}, and the image for CUDA={cuda}\n"
    )
