"""The log of a run: one truth in two files, and warnings that come once."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.training.checkpoint import Progress
from pipeline.training.log import TrainingLog, Words, read_metrics


def note(values, decimals):
    return f"mlm {values['loss/mlm']:.{decimals}f}"


def warnings(values):
    return {"large": "it is large"} if values["loss/mlm"] > 10 else {}


def make(folder, progress=None, **changes):
    options = {
        "words": Words(note, warnings), "quiet_steps": 0, "flops_per_token": 1e6,
        "peak_flops": None, **changes,
    }  # fmt: skip
    return TrainingLog(folder, progress or Progress(), **options)


def test_lines_and_tensorboard_say_the_same(tmp_path):
    log = make(tmp_path, peak_flops=1e9)
    for step in (1, 2):
        progress = Progress(step=step, tokens=500 * step, seconds=2.0 * step)
        log.step(progress, 0, {"loss/mlm": 3.0 / step}, gradient_norm=0.5, learning_rate=1e-4)
    log.validation(Progress(step=2), 0, {"loss/mlm": 2.0})
    log.close()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 2]
    assert lines[1]["tokens_per_s"] == 250
    assert lines[1]["mfu"] == pytest.approx(0.25)
    assert lines[2]["validation/loss/mlm"] == 2.0
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/mlm")] == [(1, 3.0), (2, 1.5)]


def test_going_on_drops_the_steps_after_the_checkpoint(tmp_path):
    log = make(tmp_path)
    for step in range(1, 8):
        log.step(Progress(step=step), 0, {"loss/mlm": 1.0}, 0.1, 0.1)
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "torn')
    make(tmp_path, Progress(step=5)).close()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5]


def test_values_that_are_not_finite_are_null_in_the_file(tmp_path):
    log = make(tmp_path)
    log.step(Progress(step=1), 0, {"loss/mlm": float("nan")}, float("inf"), 0.1)
    log.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    found = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["loss/mlm"] is None
    assert found["gradient/norm"] is None


def test_warnings_come_once_and_not_before_the_warm_up_ends(tmp_path, capsys):
    log = make(tmp_path, quiet_steps=1)
    log.step(Progress(step=1), 0, {"loss/mlm": 11.0}, 0.1, 0.1)
    assert capsys.readouterr().err == ""
    for step in (2, 3):
        log.step(Progress(step=step), 0, {"loss/mlm": 11.0}, 0.1, 0.1)
    assert capsys.readouterr().err.count("WARNING: it is large") == 1
    log.close()


def test_the_method_says_what_is_told_of_its_losses(tmp_path, capsys):
    log = make(tmp_path)
    log.step(Progress(step=1, tokens=10, seconds=1.0), 0, {"loss/mlm": 2.5}, 0.1, 0.1)
    assert log.note() == "mlm 2.500, 10 tokens/s"
    log.validation(Progress(step=1), 0, {"loss/mlm": 2.5})
    assert "epoch 1: held out mlm 2.5000" in capsys.readouterr().err
    log.close()


def test_a_process_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = make(None)
    log.step(Progress(step=1), 0, {"loss/mlm": 1.0}, 0.1, 0.1)
    log.validation(Progress(step=1), 0, {"loss/mlm": 1.0})
    log.close()
    assert list(tmp_path.iterdir()) == []
