"""The record of a run on a cluster: the latest job of each stage, and how each stage stands."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.cluster.array_tasks import TaskStatus, task_statuses
from pipeline.cluster.goals import GOALS, Goal
from pipeline.cluster.slurm import Queued, Submission
from pipeline.foundation import atomic
from pipeline.foundation.errors import Damaged, NotThere

FORMAT = 2
AGAIN = "Delete the file and submit again."


@dataclass(frozen=True)
class StagePlan:
    """A stage's goal and its latest job."""

    goal: Goal
    submission: Submission


@dataclass(frozen=True)
class Plan:
    """The stages of a run, in their order.

    Attributes:
        folder: where scripts, logs and this record lie.
        stages: the latest job of each stage.
    """

    folder: Path
    stages: tuple[StagePlan, ...] = ()

    def with_stages(self, new: Sequence[StagePlan]) -> "Plan":
        """The plan with these stages in place of those of the same name."""
        by_name = {stage.goal.stage: stage for stage in (*self.stages, *new)}
        return replace(self, stages=tuple(by_name[name] for name in GOALS if name in by_name))


def read_plan(folder: Path) -> Plan:
    """Read the record of a run's jobs.

    Args:
        folder: where `plan.json` lies.

    Raises:
        NotThere: there is none.
        Damaged: it is damaged, or of another format.
    """
    path = folder / "plan.json"
    if not path.is_file():
        raise NotThere(
            f"{folder}: nothing was submitted here. Give the folder that `speechkd slurm … --run` "
            "was given."
        )
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise Damaged(f"{path} is of format {record['format']}, not {FORMAT}. {AGAIN}")
        stages = tuple(
            StagePlan(GOALS[stage["stage"]](**stage["goal"]), Submission(**stage["submission"]))
            for stage in record["stages"]
        )
        return Plan(folder, stages)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} is damaged ({error!r}). {AGAIN}") from error


def read_plan_if_any(folder: Path) -> Plan:
    """The record of a run's jobs, or an empty one."""
    try:
        return read_plan(folder)
    except NotThere:
        return Plan(folder)


def write_plan(plan: Plan) -> None:
    """Write the record of a run's jobs."""
    stages = [
        {
            "stage": stage.goal.stage,
            "goal": dict(vars(stage.goal)),
            "submission": asdict(stage.submission),
        }
        for stage in plan.stages
    ]
    atomic.write_json(plan.folder / "plan.json", {"format": FORMAT, "stages": stages})


@dataclass(frozen=True)
class Standing:
    """How a stage stands.

    Attributes:
        done: units that are there.
        tasks: its array tasks.
        rate: units (for students: steps) per second lately; 0 if unknown or nothing runs.
        seconds_left: at that rate; 0 if unknown.
        finished: whether all is done, whatever became of the array tasks.
    """

    done: int
    tasks: Sequence[TaskStatus]
    rate: float
    seconds_left: float
    finished: bool


def stand(plan: Plan, stage: StagePlan, queued: Mapping[tuple[str, int], Queued]) -> Standing:
    """How a stage stands, by what it has left in storage, by its logs, and by the queue.

    Raises:
        SpeechkdError: what is in storage is damaged or cannot be reached.
    """
    goal, submission = stage.goal, stage.submission
    tasks = task_statuses(submission, queued, plan.folder / "logs")
    progress = goal.progress()
    times = [moment for moment in progress.times if goal.lasting or moment >= submission.submitted]
    remaining, rate = progress.steps_left, progress.steps_per_second
    if remaining is None:
        remaining, rate = goal.total - len(times), _rate(times, tasks)
    if not any(task.state == "running" for task in tasks):
        rate = 0.0
    return Standing(
        done=len(times),
        tasks=tasks,
        rate=rate,
        seconds_left=remaining / rate if rate else 0.0,
        finished=len(times) >= goal.total,
    )


def _rate(times: Sequence[float], tasks: Sequence[TaskStatus]) -> float:
    """Units finished per second since the first array task started; 0 before that."""
    started = min((task.started for task in tasks if task.started is not None), default=None)
    if started is None:
        return 0.0
    lately = [moment for moment in times if moment >= started]
    return len(lately) / max(time.time() - started, 1.0)
