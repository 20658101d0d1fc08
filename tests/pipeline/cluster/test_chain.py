"""How far a run has come, read from what it left on disk."""

import json
import os
import time

import pytest

from pipeline.cluster.chain import Plan, StagePlan, read_plan, stand, write_plan
from pipeline.cluster.goals import DistillationGoal, ExtractionGoal, FinetuningGoal, ReportGoal
from pipeline.cluster.slurm import Queued, Submission
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.foundation.folder import Folder
from tests.helpers.caches import make_cache

RUNNING = Queued("RUNNING", "None")


def stage(goal, array_tasks=1, submitted=0.0):
    return StagePlan(goal, Submission(goal.stage, "7", array_tasks, submitted))


def standing(tmp_path, goal, *, running=True, ago=100.0, **options):
    logs = tmp_path / "logs"
    logs.mkdir(exist_ok=True)
    started = int(time.time() - ago)
    (logs / f"{goal.stage}-7_0.log").write_text(f"array task 7_0 starts at {started} on n\n")
    queued = {("7", 0): RUNNING} if running else {}
    return stand(Plan(tmp_path), stage(goal, **options), queued)


def test_a_plan_returns_as_it_was_and_keeps_the_latest_job_of_each_stage(tmp_path):
    goal = DistillationGoal(("a", "b"))
    plan = Plan(tmp_path).with_stages([stage(ReportGoal("r")), stage(goal)])
    newer = StagePlan(goal, Submission("distill", "8", 2, 1.0, ("7",)))
    write_plan(plan.with_stages([newer]))
    found = read_plan(tmp_path)
    assert [s.goal.stage for s in found.stages] == ["distill", "report"]
    assert found.stages[0].submission.id == "8"
    assert tuple(found.stages[0].goal.students) == goal.students


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 9}', '{"format": 2, "stages": [3]}'])
def test_a_damaged_plan_is_refused(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(SpeechkdError, match=r"plan\.json"):
        read_plan(tmp_path)


def test_shards_count_by_receipts_and_the_rate_by_those_of_this_submission(tmp_path):
    cache = make_cache(tmp_path / "cache", [3, 3, 3, 3, 3])
    receipts = sorted((tmp_path / "cache" / "receipts").iterdir())
    receipts[4].unlink()
    os.utime(receipts[0], (1, 1))  # of an earlier submission
    found = standing(tmp_path, ExtractionGoal(5, cache.location))
    assert (found.done, found.finished) == (4, False)
    assert found.rate == pytest.approx(3 / 100, rel=0.05)
    assert found.seconds_left == pytest.approx(100 / 3, rel=0.05)
    idle = standing(tmp_path, ExtractionGoal(5, cache.location), running=False)
    assert (idle.rate, idle.seconds_left) == (0, 0)


def test_a_cache_that_is_not_made_yet_is_nothing_done(tmp_path):
    found = standing(tmp_path, ExtractionGoal(5, str(tmp_path / "none")))
    assert (found.done, found.seconds_left) == (0, 0)


def test_a_damaged_cache_is_an_error_and_not_nothing_done(tmp_path):
    cache = make_cache(tmp_path / "cache", [3])
    listed = tmp_path / "cache" / "manifest.jsonl"
    listed.write_text(listed.read_text().replace("s-0", "s-1"))
    with pytest.raises(Damaged, match="not a readable teacher cache"):
        standing(tmp_path, ExtractionGoal(1, cache.location))


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/cache", "pipe:cat x", "gopher://x/cache"])
def test_a_refused_location_is_an_error_and_not_nothing_done(tmp_path, url):
    with pytest.raises(SpeechkdError, match=r"refused|unknown scheme"):
        standing(tmp_path, ExtractionGoal(1, url))


def test_storage_that_lets_nobody_in_is_an_error_and_not_nothing_done(tmp_path, monkeypatch):
    def refuse(folder, name):
        raise PermissionError(13, "Access Denied")

    monkeypatch.setattr(Folder, "read", refuse)
    with pytest.raises(PermissionError):
        standing(tmp_path, ExtractionGoal(1, "memory://bucket/cache"))


def test_students_count_by_their_records_and_the_time_left_by_their_steps(tmp_path):
    for name, status, step in (("a", "finished", 1000), ("b", "running", 400)):
        (tmp_path / name / "student").mkdir(parents=True)
        record = {"status": status, "plan": {"total_steps": 1000}}
        (tmp_path / name / "run.json").write_text(json.dumps(record))
        lines = [{"step": s, "seconds": s / 20} for s in range(0, step + 1, 10)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / name / "metrics.jsonl").write_text(text + '{"step": 41')  # torn
    goal = DistillationGoal(tuple(str(tmp_path / n) for n in "abc"))
    found = standing(tmp_path, goal)
    assert found.done == 1
    assert found.rate == pytest.approx(20)
    assert found.seconds_left == pytest.approx((600 + 1000) / 20)


def test_cells_count_by_checkpoint_task_and_seed(tmp_path):
    cells = tmp_path / "results" / "cells"
    cells.mkdir(parents=True)
    for i, (label, task, seed) in enumerate(
        [("a", "x", 0), ("a", "x", 1), ("other", "x", 0), ("a", "other", 0), ("a", "x", 9)]
    ):
        record = {"checkpoint": {"label": label}, "task": task, "seed": seed}
        (cells / f"{i}.json").write_text(json.dumps(record))
    options = {"results": str(tmp_path / "results"), "labels": ("a",), "seeds": (0, 1)}
    goal = FinetuningGoal(4, tasks=("x", "y"), **options)
    assert standing(tmp_path, goal).done == 2
    assert standing(tmp_path, FinetuningGoal(2, tasks=(), **options)).done == 3  # any task


def test_a_report_of_an_earlier_submission_does_not_count(tmp_path):
    (tmp_path / "report.md").write_text("")
    goal = ReportGoal(str(tmp_path))
    assert standing(tmp_path, goal).finished
    assert not standing(tmp_path, goal, submitted=time.time() + 60).finished
