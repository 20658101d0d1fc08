"""What a dry run says of the time, and that it changes nothing."""

import time

import pytest
import torch
from torch import nn

from pipeline.foundation.errors import SpeechkdError
from pipeline.training import timing
from pipeline.training.loop import Schedule, Workload

CPU = torch.device("cpu")


def schedule(total: int, max_steps: int = 0) -> Schedule:
    return Schedule(total, total, 2, 1.0, 0.0, 1e-6, 1.0, "float32", 0, max_steps, 0, 1, 1, 0, 0.0)


def workload(module: nn.Module, seconds: float = 0.0) -> Workload:
    def losses(batch, _measure):
        time.sleep(seconds)
        return {"loss": module(batch).sum()}

    return Workload(
        label="",
        module=module,
        losses=losses,
        epoch=lambda _: lambda place: torch.full((1, 2), float(place)),
        held_out=lambda: iter(()),
        tokens=lambda _: 1,
        less_memory="Sell something.",
    )


def test_the_time_of_all_steps_follows_from_the_quickest(capsys, monkeypatch):
    monkeypatch.setattr(timing, "seconds_of_steps", lambda *_: [9.0, 2.0, 3.0])
    timing.say_time(workload(nn.Linear(2, 1)), schedule(10_000, max_steps=1_000), CPU)
    said = " ".join(capsys.readouterr().err.split())
    assert "about 33 min 20 s for 1,000 steps (2.0 s each, judging by 3 steps)" in said


def test_no_more_steps_are_tried_than_there_are_and_no_weight_changes():
    module = nn.Linear(2, 1)
    before = module.weight.detach().clone()
    tried = timing.seconds_of_steps(workload(module, 0.01), schedule(2), CPU)
    assert len(tried) == 2
    assert min(tried) >= 0.01
    assert module.weight.equal(before)
    assert module.weight.grad is None


def test_all_processes_stop_with_the_first_that_has_had_enough(monkeypatch):
    monkeypatch.setattr(timing.processes, "any_of", lambda own, _: [not any(own)])  # another's
    assert len(timing.seconds_of_steps(workload(nn.Linear(2, 1)), schedule(3), CPU)) == 1


def test_memory_that_runs_out_is_told():
    def run_out(_batch, _measure):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    broken = workload(nn.Linear(2, 1))
    object.__setattr__(broken, "losses", run_out)
    with pytest.raises(SpeechkdError, match=r"training step\. Sell something"):
        timing.seconds_of_steps(broken, schedule(2), CPU)
