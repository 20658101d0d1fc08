"""A run on a cluster: which jobs it has, and from its own results how far each stage has come."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.cluster.elements import Element, elements
from pipeline.cluster.slurm import Queued, Submission
from pipeline.foundation import atomic
from pipeline.foundation.errors import SpeechkdError

FORMAT = 1
TAIL_BYTES = 65_536

StageName = Literal["extract-teacher", "distill", "finetune", "report"]
UNITS = {
    "extract-teacher": "shards",
    "distill": "students",
    "finetune": "cells",
    "report": "report",
}


@dataclass(frozen=True)
class Goal:
    """What a stage is to bring about, and where to see how much of it is there.

    Locations are absolute paths or URLs.

    Attributes:
        stage: name of the stage.
        total: shards, students or cells in all.
        cache: of stage one, the teacher cache; its receipts count.
        students: of stage two, the run folders; their records count.
        results: of fine-tuning, the results folder; its cells count.
        labels: names of the checkpoints whose cells count.
        tasks: tasks whose cells count; all where there are none.
        seeds: seeds whose cells count.
        report: of the report, its folder.
    """

    stage: StageName
    total: int
    cache: str = ""
    students: Sequence[str] = ()
    results: str = ""
    labels: Sequence[str] = ()
    tasks: Sequence[str] = ()
    seeds: Sequence[int] = ()
    report: str = ""

    @property
    def unit(self) -> str:
        """What is counted."""
        return UNITS[self.stage]


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
        return replace(self, stages=tuple(by_name[name] for name in UNITS if name in by_name))


def read_plan(folder: Path) -> Plan:
    """Read the record of a run's jobs.

    Args:
        folder: where `plan.json` lies.

    Raises:
        SpeechkdError: there is none, or it is damaged.
    """
    path = folder / "plan.json"
    if not path.is_file():
        raise SpeechkdError(
            f"{folder}: nothing was submitted here. Give the folder that `speechkd slurm … --run` "
            "was given."
        )
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise SpeechkdError(f"{path} is of format {record['format']}, not {FORMAT}.")
        stages = tuple(
            StagePlan(Goal(**stage["goal"]), Submission(**stage["submission"]))
            for stage in record["stages"]
        )
        return Plan(folder, stages)
    except (ValueError, KeyError, TypeError) as error:
        raise SpeechkdError(f"{path} is damaged ({error!r}); submit again to renew it.") from error


def read_plan_if_any(folder: Path) -> Plan:
    """The record of a run's jobs, or an empty one."""
    if (folder / "plan.json").is_file():
        return read_plan(folder)
    return Plan(folder)


def write_plan(plan: Plan) -> None:
    """Write the record of a run's jobs."""
    record = {"format": FORMAT, "stages": [asdict(stage) for stage in plan.stages]}
    atomic.write_json(plan.folder / "plan.json", record)


@dataclass(frozen=True)
class Standing:
    """How a stage stands.

    Attributes:
        done: units that are there.
        elements: its elements.
        rate: units a second lately (steps, for students); 0 where unknown.
        rate_unit: what `rate` counts.
        seconds_left: at that rate; 0 where unknown.
        finished: whether all is done, whatever became of the elements.
    """

    done: int
    elements: Sequence[Element]
    rate: float
    rate_unit: str
    seconds_left: float
    finished: bool


@dataclass(frozen=True)
class _Progress:
    """Finished units and when they finished; or steps, where these tell more."""

    done: int
    times: Sequence[float] = ()
    steps_left: float = 0.0
    steps_a_second: float = 0.0


def stand(plan: Plan, stage: StagePlan, queued: Mapping[tuple[str, int], Queued]) -> Standing:
    """How a stage stands, by what it has left on disk, by its logs, and by the queue."""
    found = elements(stage.submission, queued, plan.folder / "logs")
    goal = stage.goal
    match goal.stage:
        case "extract-teacher":
            progress = _extracted(goal)
        case "distill":
            progress = _distilled(goal)
        case "finetune":
            progress = _finetuned(goal)
        case "report":
            progress = _reported(goal, stage.submission.submitted)
    running = sum(element.state == "running" for element in found)
    rate, left = progress.steps_a_second, progress.steps_left
    if goal.stage != "distill":
        left = goal.total - progress.done
        rate = _rate(progress.times, found) if running else 0.0
    return Standing(
        done=progress.done,
        elements=found,
        rate=rate if running else 0.0,
        rate_unit="steps" if goal.stage == "distill" else goal.unit,
        seconds_left=left / rate if running and rate else 0.0,
        finished=progress.done >= goal.total,
    )


def _rate(times: Sequence[float], found: Sequence[Element]) -> float:
    """Units a second since the first element of this submission started."""
    starts = [element.started for element in found if element.started is not None]
    if not starts:
        return 0.0
    lately = [moment for moment in times if moment >= min(starts)]
    return len(lately) / max(time.time() - min(starts), 1.0)


def _extracted(goal: Goal) -> _Progress:
    from pipeline.cache.store import TeacherCache

    try:
        finished = TeacherCache.open(goal.cache).finished()
    except SpeechkdError:  # not made yet
        return _Progress(0)
    return _Progress(len(finished), list(finished.values()))


def _distilled(goal: Goal) -> _Progress:
    """Finished students; steps left, those of students not begun taken to be as many as others'."""
    done, left, speed, known, unknown = 0, 0, 0.0, [], 0
    for student in goal.students:
        folder = Path(student)
        record = _json(folder / "run.json")
        total = record.get("plan", {}).get("total_steps", 0)
        if record.get("status") in ("finished", "stopped") and (folder / "student").is_dir():
            done += 1
        elif total:
            step, pace = _pace(folder / "metrics.jsonl")
            left += max(0, total - step)
            speed += pace
        else:
            unknown += 1
        known += [total] if total else []
    mean_steps = sum(known) / len(known) if known else 0.0
    return _Progress(done, steps_left=left + unknown * mean_steps, steps_a_second=speed)


def _finetuned(goal: Goal) -> _Progress:
    times = []
    for file in (Path(goal.results) / "cells").glob("*.json"):
        record = _json(file)
        if (
            record.get("checkpoint", {}).get("label") in goal.labels
            and record.get("seed") in goal.seeds
            and (not goal.tasks or record.get("task") in goal.tasks)
        ):
            times.append(file.stat().st_mtime)
    return _Progress(len(times), times)


def _reported(goal: Goal, submitted: float) -> _Progress:
    """A report counts if it is of this submission: an older one may lack what has come since."""
    path = Path(goal.report) / "report.md"
    return _Progress(int(path.is_file() and path.stat().st_mtime >= submitted))


def _json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _pace(path: Path) -> tuple[int, float]:
    """Last logged step of a run, and steps a second over the last logged lines."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return 0, 0.0
    logged = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            logged.append((int(entry["step"]), float(entry["seconds"])))
        except (ValueError, KeyError, TypeError):
            continue  # a torn first or last line, or one of validation
    if not logged:
        return 0, 0.0
    steps, seconds = logged[-1][0] - logged[0][0], logged[-1][1] - logged[0][1]
    return logged[-1][0], steps / seconds if seconds > 0 else 0.0
