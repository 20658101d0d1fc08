"""A checkpoint is loaded as it was saved, or its damage is named; a kill costs no more than one."""

import os
import shutil
import signal

import pytest
import torch
from torch import nn

from pipeline.foundation import atomic
from pipeline.foundation.errors import SpeechkdError
from pipeline.training.checkpoint import Checkpoints, Progress


class Tied(nn.Module):
    """Two names for one tensor, as a masked-LM model's embeddings have, and a buffer."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Linear(4, 6), nn.Linear(4, 6)
        self.out.weight = self.embed.weight
        self.register_buffer("seen", torch.tensor([float("nan")]))


def trained(steps=3, seed=0):
    torch.manual_seed(seed)
    module = Tied()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)
    for _ in range(steps):
        (module.embed(torch.randn(5, 4)) + module.out(torch.randn(5, 4))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return module, optimizer


def test_what_is_loaded_is_what_was_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    module, optimizer = trained()
    module.seen.fill_(2.5)
    progress = Progress(step=3, tokens=99, seconds=1.5, skipped=1, validation=[{"loss": 0.1}])
    path = checkpoints.save(module, optimizer, progress)
    assert checkpoints.latest() == path

    other, other_optimizer = trained(steps=1, seed=1)
    assert checkpoints.load(path, other, other_optimizer) == progress
    assert other.out.weight is other.embed.weight
    for name, value in module.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    for mine, theirs in zip(
        optimizer.state_dict()["state"].values(),
        other_optimizer.state_dict()["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_only_the_latest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    module, optimizer = trained()
    for step in (9, 10, 100, 2_000_000_000):
        checkpoints.save(module, optimizer, Progress(step=step))
    assert [p.name for p in checkpoints.all()] == ["step-000000100", "step-2000000000"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [p.name for p in checkpoints.all()]


def test_a_kill_while_writing_leaves_the_earlier_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    module, optimizer = trained()
    first = checkpoints.save(module, optimizer, Progress(step=1))

    child = os.fork()
    if child == 0:
        atomic.sync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        checkpoints.save(module, optimizer, Progress(step=2))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert checkpoints.latest() == first
    assert len(list(tmp_path.iterdir())) == 2, "the remains are there"
    second = checkpoints.save(module, optimizer, Progress(step=3))
    assert list(tmp_path.iterdir()) == [second], "and are swept up"


def test_damage_is_named_with_its_remedy(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    module, optimizer = trained()
    for name in ("model.safetensors", "optimizer.pt", "progress.json"):
        path = checkpoints.save(module, optimizer, Progress(step=1))
        (path / name).write_bytes((path / name).read_bytes()[:20])
        with pytest.raises(SpeechkdError, match="Delete this folder"):
            checkpoints.load(path, module, optimizer)
        shutil.rmtree(path)
    assert checkpoints.latest() is None


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    path = checkpoints.save(*trained(), Progress(step=1))
    other = nn.Linear(3, 3)
    with pytest.raises(SpeechkdError, match="cannot be loaded"):
        checkpoints.load(path, other, torch.optim.AdamW(other.parameters()))


def test_optimiser_state_is_read_without_unpickling_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    checkpoints = Checkpoints(tmp_path, keep=2)
    module, optimizer = trained()
    path = checkpoints.save(module, optimizer, Progress(step=1))
    torch.save(Evil(), path / "optimizer.pt")
    with pytest.raises(SpeechkdError, match="cannot be loaded"):
        checkpoints.load(path, module, optimizer)


def test_a_checkpoint_is_due_by_steps_or_by_time(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("pipeline.training.checkpoint.time.monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert [step for step in range(1, 10) if checkpoints.due(step, 4, 0)] == [4, 8]
    assert not any(checkpoints.due(step, 0, 0) for step in range(1, 10))
    now[0] += 61
    assert checkpoints.due(1, 0, 1.0)
    checkpoints.save(*trained(), Progress(step=1))
    assert not checkpoints.due(2, 0, 1.0)


def test_going_on_without_a_checkpoint_is_a_beginning(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path, keep=2)
    module, optimizer = trained()
    assert checkpoints.resume(module, optimizer) == Progress()
    assert capsys.readouterr().err == ""
    checkpoints.save(module, optimizer, Progress(step=7))
    assert checkpoints.resume(*trained(seed=1)) == Progress(step=7)
    assert "goes on from" in capsys.readouterr().err
