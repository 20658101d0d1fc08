"""`doctor` names what a machine lacks, and how to get it."""

import importlib.metadata
import os
import types
import urllib.error
from pathlib import Path

import pytest

from pipeline.foundation.errors import SpeechkdError
from stages.doctor import DoctorSettings, run


def examine(capsys, folder, **changes):
    run(DoctorSettings(folder=folder, network=False, **changes))
    return capsys.readouterr().out


def test_a_fit_machine_is_told_of(tmp_path, capsys):
    shown = examine(capsys, tmp_path / "not" / "made" / "yet")
    assert f"torch {importlib.metadata.version('torch')}" in shown
    assert f"{len(os.sched_getaffinity(0))} cores" in shown
    assert f"{tmp_path} can be written" in shown
    assert "MISSING" not in shown
    assert "hub  " not in shown
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_or_too_old_is_named_with_the_remedy(
    tmp_path, capsys, monkeypatch
):
    true_version = importlib.metadata.version

    def version(name):
        if name == "webdataset":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.0.1" if name == "zarr" else true_version(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    with pytest.raises(SpeechkdError, match="webdataset, zarr"):
        examine(capsys, tmp_path)
    shown = capsys.readouterr().out
    assert "pip install 'webdataset" in shown
    assert "is 2.0.1, wanted" in shown


def test_what_only_some_commands_need_is_no_failure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "needed for demo" in examine(capsys, tmp_path)


def test_a_gpu_without_a_compiler_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("pipeline.models.compiled.find_spec", lambda _: "a package")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert "uncompiled without the compiler gcc or clang" in examine(capsys, tmp_path)


CARDS = """\
0, NVIDIA H100 80GB HBM3, 580.65.06, 81559, 81079, 9.0, Default, Disabled
1, Tesla V100-SXM2-16GB, 580.65.06, 16384, 16000, 7.0, Exclusive_Process, [N/A]
2, NVIDIA L4, 580.65.06, 23034, 22000, 8.9, Prohibited, Enabled
"""


def test_gpus_are_told_without_a_context_on_any(tmp_path, capsys, monkeypatch):
    def forbidden(*_, **__):
        pytest.fail("a context was opened")

    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n/bin/cat <<'E'\n{CARDS}E\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_arch_list", lambda: ["sm_75", "sm_80", "sm_90"])
    for name in ("mem_get_info", "set_device", "init", "get_device_properties"):
        monkeypatch.setattr(f"torch.cuda.{name}", forbidden)
    told = examine(capsys, tmp_path)
    lines = {line[9:15].strip(): line for line in told.splitlines() if line[9:12] == "gpu"}
    assert lines["gpu 0"].startswith("ok")
    assert "NVIDIA H100 80GB HBM3, 85.0 of 85.5 GB free" in lines["gpu 0"]
    assert "compute capability 9.0, driver 580.65.06" in lines["gpu 0"]
    assert lines["gpu 1"].startswith("note")
    assert "has no kernels for it; its compute mode is Exclusive_Process" in lines["gpu 1"]
    assert "it has no bf16: the teacher runs in float16, students in float32" in lines["gpu 1"]
    assert "divided by MIG" in lines["gpu 2"]
    assert "lets no process use it" in lines["gpu 2"]
    assert "CUDA_VISIBLE_DEVICES=0,1 shows torch 2 of 3" in lines["gpus"]


def test_a_driver_that_is_too_old_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("pipeline.foundation.gpus._driver", lambda: (0, (12, 8)))
    told = examine(capsys, tmp_path)
    assert "knows CUDA up to 12.8. Update the driver to 580 or newer" in told


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SpeechkdError, match="folder"):
        examine(capsys, file)
    with pytest.raises(SpeechkdError, match="folder"):
        examine(capsys, Path("/proc/none"))


def test_a_hub_out_of_reach_is_told_with_what_to_do(tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    run(DoctorSettings(folder=tmp_path))
    assert "not reachable" in capsys.readouterr().out


def test_what_pretraining_needs_is_told(tmp_path, capsys, monkeypatch):
    """Room for frames: 100 per second, of 80 values of two bytes each."""
    for hours, sign in ((1_000, "ok"), (1, "note")):
        usage = types.SimpleNamespace(free=hours * 3600 * 100 * 80 * 2)
        monkeypatch.setattr("shutil.disk_usage", lambda _, usage=usage: usage)
        lines = examine(capsys, tmp_path).splitlines()
        (line,) = (line for line in lines if line.split()[1] == "pretrain")
        assert line.split()[0] == sign
        assert f"log-mels of {hours:,} hours of speech fit there (58 MB per hour" in line
        assert "extract-features" in line
        assert "extract-text" in line


def test_a_machine_without_a_gpu_is_told_what_is_slow_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "distill and pretrain-… are slow" in examine(capsys, tmp_path)
