"""`doctor` names what a machine lacks, and how to get it."""

import importlib.metadata
import os
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
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert "uncompiled without the compiler gcc or clang" in examine(capsys, tmp_path)


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
