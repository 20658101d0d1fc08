"""The page of a run: its rows, and its lines for array tasks that ended badly."""

import pytest
from rich.console import Console

from pipeline.cluster.chain import Plan, StagePlan, write_plan
from pipeline.cluster.goals import DistillationGoal
from pipeline.cluster.slurm import Queued, Submission
from pipeline.cluster.status import make_page
from pipeline.foundation.errors import SpeechkdError
from stages.slurm import StatusSettings, status


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page of an array of distill with these logs and this queue: its rows, and the rest."""

    def made(logs, queued, tasks):
        (tmp_path / "logs").mkdir()
        for index, text in logs.items():
            start = f"array task 7_{index} starts at 1700000000 on node, restart 0\n"
            (tmp_path / "logs" / f"distill-7_{index}.log").write_text(start + text)
        answer = {("7", i): q for i, q in queued.items()}
        monkeypatch.setattr("pipeline.cluster.status.queue", lambda _: answer)
        goal = DistillationGoal(("a",) * tasks)
        plan = Plan(tmp_path, (StagePlan(goal, Submission("distill", "7", tasks, 0.0)),))
        write_plan(plan)
        found = make_page(plan)
        console = Console(width=120)
        with console.capture() as shown:
            console.print(found.table)
        return shown.get().splitlines(), found

    return made


def test_a_row_counts_array_tasks_and_says_what_they_wait_for(page):
    waiting = {3: Queued("PENDING", "Resources"), 4: Queued("PENDING", "Priority")}
    queued = {2: Queued("RUNNING", "None"), **waiting, 5: Queued("PENDING", "Priority")}
    rows, found = page({0: "array task 7_0 is done\n", 2: ""}, queued, 6)
    assert " ".join(rows[1].split()) == "distill 7 0 of 6 students 1 3 0 Priority"
    assert found.active
    assert found.failed == ["  distill: 1 never started: cancelled, or a stage before failed"]


def test_many_failures_are_named_in_short(page):
    logs = {i: f"error: cause {i}\narray task 7_{i} failed with status 1\n" for i in range(14)}
    rows, found = page(logs, {}, 14)
    assert rows[1].split()[-1] == "14"
    assert not found.active
    assert len(found.failed) == 11
    assert "distill array task 9: failed: error: cause 9" in found.failed[9]
    assert found.failed[10] == "  distill: 4 more, array tasks 10,11,12,13"


def test_in_a_file_or_a_narrow_terminal_nothing_is_cut(page, tmp_path, capsys):
    queued = {0: Queued("RUNNING", "None"), 1: Queued("PENDING", "AssocGrpGRESMinutes")}
    _, found = page({0: ""}, queued, 10_000)
    run = tmp_path / "run"
    run.mkdir()
    (run / "slurm").symlink_to(tmp_path)
    with pytest.raises(SpeechkdError, match="9,998 never started"):
        status(StatusSettings(run=run))
    assert "0 of 10,000 students" in capsys.readouterr().out
    console = Console(width=80)
    with console.capture() as shown:
        console.print(found.table)
    assert "…" not in shown.get()
