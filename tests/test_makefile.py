"""Which build of torch `make install` takes, by the driver that nvidia-smi names."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FAILED = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


@pytest.fixture
def make(tmp_path):
    """What `make install` would do where nvidia-smi prints a text and ends with a status."""

    def run(*words: str, prints: str = "", status: int = 0) -> str:
        (tmp_path / "text").write_text(prints, encoding="utf-8")
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat '{tmp_path / 'text'}'\nexit {status}\n")
        program.chmod(0o755)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TORCH", "MAKE"))}
        environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
        command = ["make", "--always-make", "--dry-run", "install", f"VENV={tmp_path}/env", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    return run


def backend(output: str) -> str:
    """The backend that uv is asked for; `default` where pip alone installs torch."""
    if "--torch-backend=" not in output:
        assert "bin/pip install -q torch==" in output
        return "default"
    return output.partition("--torch-backend=")[2].split()[0]


@pytest.mark.parametrize(
    ("prints", "wanted", "why"),
    [
        ("580.65.06\n", "default", "because the driver is 580"),
        ("580.95.05\n580.95.05\n", "default", "because the driver is 580"),
        ("1000.10\n", "default", "because the driver is 1000"),
        ("579.99.01\n", "auto", "because driver 579 is older than CUDA 13 needs (580)"),
        ("570.124.06\n" * 8, "auto", "because driver 570 is older than CUDA 13 needs (580)"),
        ("90.1\n", "auto", "because driver 90 is older than CUDA 13 needs (580)"),
        ("", "cpu", "because no nvidia-smi names a driver"),
        ("No devices were found\n", "cpu", "because no nvidia-smi names a driver"),
        (FAILED, "cpu", "because no nvidia-smi names a driver"),
    ],
)
def test_the_driver_decides_the_build_and_a_line_says_why(make, prints, wanted, why):
    output = make(prints=prints, status=0 if prints[:1].isdecimal() else 9)
    assert backend(output) == wanted
    assert why in output


def test_without_nvidia_smi_it_is_the_cpu_build(make):
    assert backend(make(status=127)) == "cpu"


@pytest.mark.parametrize("prints", ["580.95.05\n", "570.124.06\n", ""])
def test_the_build_that_is_asked_for_wins(make, prints):
    for wanted in ("default", "cpu", "auto", "cu126"):
        output = make(f"TORCH_BACKEND={wanted}", prints=prints)
        assert backend(output) == wanted
        assert f"TORCH_BACKEND={wanted}, as asked" in output


def test_what_a_gpu_needs_and_cannot_be_had_ends_the_installation(make):
    """Only for a CPU may pip's build take the place of the one that uv cannot get."""

    def otherwise(output: str) -> str:
        return output.partition("--torch-backend=")[2].partition("||")[2].partition("touch")[0]

    assert "pip install -q torch==" in otherwise(make())
    old_driver = otherwise(make(prints="570.124.06\n"))
    assert "uv cannot get that build" in old_driver
    assert "exit 1" in old_driver
    assert "pip install" not in old_driver


def test_nothing_puts_another_torch_in_the_place_of_the_one_asked_for(make, tmp_path):
    output = make("TORCH=torch==2.11.0")
    after = output.partition("--torch-backend=")[2].splitlines()[1:]
    constrained = [line for line in after if " -c " in line]
    assert constrained
    assert all(f" -c {tmp_path}/env/constraints.txt " in line for line in constrained)
    copying = next(line for line in after if line.startswith("grep"))
    (tmp_path / "env").mkdir()
    subprocess.run(copying, shell=True, cwd=ROOT, check=True)  # noqa: S602 - a line of the Makefile
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    others = (tmp_path / "env" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line not in others] == ["torch==2.13.0"]
