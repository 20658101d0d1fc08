"""Room in memory and on the disk, before the first step."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.foundation.errors import SpeechkdError
from pipeline.training.preflight import check_disk, say_memory


def say(capsys, **changes):
    values = {"step_bytes": 10**9, "other_bytes": 10**8, "device": torch.device("cpu")}
    say_memory(nn.Linear(1, 1), "data on the moon", remedy="Buy some.", **{**values, **changes})
    return capsys.readouterr().err


def test_memory_that_suffices_is_told_and_memory_that_does_not_is_warned_of(capsys, monkeypatch):
    monkeypatch.setattr("pipeline.training.preflight.resident_bytes", lambda: 5 * 10**8)
    monkeypatch.setattr("pipeline.training.preflight.available_bytes", lambda: 2 * 10**9)
    enough = say(capsys)
    assert "memory: data on the moon; gradients and optimiser 0.00 GB, a step 1.00 GB" in enough
    assert "holds 0.50 GB now and at most 1.90 GB later" in enough
    assert "WARNING" not in enough
    assert "2.00 GB are free. Buy some." in say(capsys, step_bytes=2 * 10**9)


def test_a_disk_without_room_for_the_checkpoints_is_refused(tmp_path, monkeypatch):
    module = nn.Linear(1000, 1000, bias=False)  # 12 MB with both moments
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=47_000_000))
    check_disk(tmp_path / "not" / "yet", 1, module)
    with pytest.raises(SpeechkdError, match=r"47 MB free, but .* need 48 MB.*lower --keep"):
        check_disk(tmp_path / "not" / "yet", 2, module)
