"""What is different in the processes beside the first, and what they tell each other."""

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, nn

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import say
from pipeline.training import processes
from pipeline.training.run_folder import RunFolder
from tests.helpers.processes import PATIENCE_SECONDS, free_ports


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_speaks_and_writes(tmp_path, monkeypatch, capsys, rank):
    monkeypatch.setattr(processes, "rank", lambda: rank)
    with processes.joined(torch.device("cpu")), RunFolder(tmp_path / "run", "model") as folder:
        say("a word")
        assert folder.prepare({}, "auto") is None
        folder.claim()
        folder.write_record({"identity": {}, "status": "running"})
    assert (capsys.readouterr().err == "a word\n") == (rank == 0)
    assert (tmp_path / "run").exists() == (rank == 0)
    say("and again")
    assert capsys.readouterr().err == "and again\n"


def test_a_function_of_the_main_process_gives_none_elsewhere(monkeypatch):
    double = processes.on_main(lambda value: 2 * value)
    assert double(4) == 8
    monkeypatch.setattr(processes, "rank", lambda: 1)
    assert double(4) is None


def test_flags_of_one_process_are_its_own():
    flags = [torch.tensor(True), False, True]
    assert processes.any_of(flags, torch.device("cpu")) == [True, False, True]


def test_means_of_one_process_are_its_values_to_the_bit():
    values = {"a": torch.tensor(0.1), "b": torch.tensor(0.1, dtype=torch.float64)}
    assert processes.means(values) == {name: float(value) for name, value in values.items()}
    assert processes.means({}) == {}


def test_processes_that_cannot_join_are_told_why(monkeypatch):
    def refuse(*_, **options):
        assert options["device_id"] == torch.device("cuda:0")
        raise distributed.DistBackendError("Duplicate GPU detected : rank 1 and rank 0")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "init_process_group", refuse)
    with (
        pytest.raises(SpeechkdError, match=r"2 processes cannot join on cuda:0.*Duplicate GPU"),
        processes.joined(torch.device("cuda:0")),
    ):
        pass


class _Two(nn.Module):
    """A weight, and a buffer that differs between the processes."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start))
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x


def _in_each_process(folder: Path) -> None:
    """Body of a process of the test below: train four steps, and write down what happened."""
    from pipeline.training.checkpoint import Checkpoints, Progress
    from pipeline.training.loop import Schedule, Workload, make_optimizer, train

    calls: list[int] = []
    reduce = distributed.all_reduce

    def counted(tensor: torch.Tensor, *args: object, **options: object) -> object:
        calls.append(tensor.numel())
        return reduce(tensor, *args, **options)

    distributed.all_reduce = counted
    warnings.simplefilter("error", FutureWarning)
    cpu = torch.device("cpu")
    with processes.joined(cpu):
        rank = processes.rank()
        module = _Two(1.0)
        wrapped = processes.averaging_gradients(module)

        def losses(step: int, measure: bool) -> dict[str, torch.Tensor]:
            loss = wrapped(torch.tensor(1.0 + rank)).square()
            if step == 1 and rank == 1:  # one of the processes has a loss that is not a number
                loss = loss * math.nan
            return {"loss": loss, "loss/other": loss.detach() + 1}

        schedule = Schedule(
            steps_per_epoch=100, total_steps=100, warmup_steps=1, learning_rate=0.1,
            weight_decay=0.0, adam_epsilon=1e-8, clip_norm=0.0, precision="float32", seed=0,
            max_steps=4, max_hours=0.0, log_every=3, measure_every=3, checkpoint_steps=0,
            checkpoint_minutes=0.0,
        )  # fmt: skip
        workload = Workload(
            label="t", module=module, losses=losses, epoch=lambda _: lambda step: step,
            held_out=lambda: iter(()), tokens=lambda _: 1, less_memory="",
        )  # fmt: skip
        logged: list[dict[str, float]] = []
        log = SimpleNamespace(step=lambda *values: logged.append(values[2]), note=lambda: "")
        progress = Progress()
        optimizer = make_optimizer(module, schedule)
        checkpoints = Checkpoints(folder / f"checkpoints-{rank}", 1)
        ending = train(workload, schedule, checkpoints, log, progress, optimizer, cpu)

        value = torch.tensor(2.0 + rank, requires_grad=True)
        total = processes.differentiable_sum(value)
        ((1 + rank) * total).backward()
        flags = processes.any_of([rank == 0, torch.tensor(rank == 1), False], cpu)
        report = {
            "calls": calls, "ending": ending, "skipped": progress.skipped, "logged": logged,
            "weight": float(module.weight), "total": float(total), "gradient": float(value.grad),
            "flags": flags,
        }  # fmt: skip
        (folder / f"{rank}.json").write_text(json.dumps(report))


def test_one_message_settles_all_flags_of_a_step(tmp_path):
    """Two processes under Gloo: one all-reduce per step, one more where a step is logged."""
    script = (
        "from pathlib import Path\n"
        "from tests.pipeline.training.test_processes import _in_each_process\n"
        f"_in_each_process(Path({str(tmp_path)!r}))\n"
    )
    (port,) = free_ports(1)
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, **group, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    errors = [process.communicate(timeout=PATIENCE_SECONDS)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    assert "FutureWarning" not in "".join(errors)
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    # steps 0 and 3 are logged; the flags are four in one message; the sum is forward and backward
    assert one["calls"] == [4, 2, 4, 4, 4, 2, 1, 1, 3]
    assert one == two
    assert one["ending"] == "steps"
    assert one["skipped"] == 1
    assert one["logged"][0] == {"loss": 2.5, "loss/other": 3.5}
    assert (one["total"], one["gradient"]) == (5.0, 3.0)
    assert one["flags"] == [True, True, False]
