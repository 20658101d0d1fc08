"""The general half of a run's record."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting
from pipeline.training.checkpoint import Progress
from pipeline.training.loop import Schedule
from pipeline.training.record import check_converged, ended_record, starting_record


@dataclass(frozen=True, kw_only=True)
class Baking(Settings):
    degrees: float = setting(180.0, help="Heat.", origin="paper")
    rack: str = setting("low", help="Rack.", origin="assumed")


SCHEDULE = Schedule(10, 20, 2, 1e-3, 0.01, 1e-6, 1.0, "float32", 0, 0, 0.0, 1, 1, 0, 0.0)


def test_a_record_holds_settings_schedule_and_what_the_method_adds_and_counts_sittings():
    first = starting_record(Baking(), {"degrees": 180.0}, None, SCHEDULE, {"cake": "carrot"})
    assert (first["status"], first["cake"]) == ("running", "carrot")
    assert (first["paper"], first["assumed"]) == ({"degrees": 180.0}, {"rack": "low"})
    assert first["plan"]["total_steps"] == 20
    second = starting_record(Baking(), {}, first, SCHEDULE, {})
    assert second["sittings"][0] == first["provenance"]
    assert len(second["sittings"]) == 2


@pytest.mark.parametrize(
    ("outcome", "status"), [("finished", "finished"), ("steps", "stopped"), ("hours", "stopped")]
)
def test_how_a_run_ended_is_plain_json(outcome, status):
    progress = Progress(step=5, validation=[{"loss": math.nan}, {"loss": 1.5}])
    record = ended_record({"status": "running"}, progress, outcome)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["status"], record["result"]["outcome"]) == (status, outcome)
    assert record["result"]["validation"] == [{"loss": None}, {"loss": 1.5}]


def test_a_model_that_diverged_is_not_handed_on():
    module = nn.Linear(2, 2)
    check_converged(
        module, Progress(validation=[{"loss/mlm": math.nan}, {"loss/mlm": 1.0}]), Path()
    )
    for validation in ([{"loss/mlm": math.nan}], [{"loss/mlm": math.inf}]):
        with pytest.raises(SpeechkdError, match="diverged"):
            check_converged(module, Progress(validation=validation), Path("run"))
    module.bias.data[0] = torch.nan
    with pytest.raises(SpeechkdError, match="run: training diverged"):
        check_converged(module, Progress(), Path("run"))
