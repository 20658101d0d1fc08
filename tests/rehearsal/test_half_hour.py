"""bench/gpu.py, the half hour on a GPU: it runs on a CPU in tiny form, and survives what fails."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench import gpu, projections
from tests.rehearsal.device import CUDA, missing, pretended

ROOT = Path(__file__).parents[2]


def run(*words):
    return subprocess.run(
        [sys.executable, "bench/gpu.py", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_all_parts_run_on_a_cpu(tmp_path):
    done = run("--tiny", "--out", str(tmp_path / "gpu.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["parts"].keys() == gpu.PARTS.keys()
    for name, part in record["parts"].items():
        assert not [line for line in part["lines"] if line["passed"] is False]
        assert len(part["lines"]) >= 2, f"{name} gives nothing but its time"
        assert f"{name}: decides " in done.stdout
    assert record["versions"]["torch"] == torch.__version__


def broken(_):
    raise ValueError("this part is broken\nand says so at length")


def killed(_):
    os._exit(3)


def asleep(sitting):
    sitting.check("woke up", "yes", True)
    time.sleep(600)


@pytest.mark.parametrize(
    ("part", "minutes", "name", "value"),
    [
        (broken, 9, "the part as a whole", "ValueError: this part is broken"),
        (killed, 9, "its process", "ended with status 3"),
        (asleep, 0.03, "time", "stopped after 0.03 min"),
    ],
)
def test_a_part_that_fails_ends_nothing_else(monkeypatch, tmp_path, part, minutes, name, value):
    monkeypatch.setitem(gpu.PARTS, "env", gpu.Part(part, "nothing", minutes))
    lines = gpu.run_part("env", torch.device("cpu"), True, tmp_path / "log")
    failed = [line for line in lines if line.passed is False]
    assert [(line.name, line.value) for line in failed] == [(name, value)]
    assert lines[-1].name == "took, s"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.skipif(bool(missing()), reason=f"this torch has no {missing()}")
@pytest.mark.parametrize("name", ["env", "sdpa", "parity", "train", "what_if", "finetune"])
def test_the_branches_for_a_gpu_run_on_a_pretended_one(name, tmp_path, monkeypatch):
    lines = []
    for function in ("empty_cache", "reset_peak_memory_stats", "set_sync_debug_mode"):
        monkeypatch.setattr(torch.cuda, function, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 10**9)
    with pretended():
        gpu.PARTS[name].run(gpu.Sitting(name, CUDA, True, tmp_path, lines.append))
    # a CPU has none of these kernels, drops weights otherwise, and computes in no time worth a peak
    unknown = ("efficient", "cuDNN", "measured / peak", "what compiling needs")
    failed = [line for line in lines if line.passed is False and not line.name.startswith(unknown)]
    assert failed == []
    assert len(lines) > 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_the_full_size_is_refused():
    done = run()
    assert done.returncode == 1
    assert "torch finds no GPU: " in done.stderr
    assert "Or --tiny, which runs the same on a CPU." in done.stderr


def test_the_projections_on_the_page_are_those_of_the_code():
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert projections.page() in page, "python bench/gpu.py --project prints what belongs there"


def test_projections_are_in_proportion():
    student = projections.bert_base()
    h100, h200 = (next(c for c in projections.CARDS if c.name == n) for n in ("H100 SXM", "H200"))
    assert projections.clips_that_fit(student, h200, True) > projections.clips_that_fit(
        student, h100, True
    )
    whole, part = (projections.stage_two_seconds(student, h100, h, 0.4) for h in (6_000, 100))
    assert whole == pytest.approx(60 * part)
    # 1,440,000 windows of 344 GFLOP on 989 TFLOP/s, of which 40 % are reached
    assert projections.stage_one_seconds(h100, 6_000, 0.4) == pytest.approx(
        1.44e6 * 344e9 / (0.4 * 989e12), rel=0.01
    )
