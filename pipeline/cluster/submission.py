"""Handing the jobs of a run to Slurm, each after the one before, all of them or none."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.chain import Plan, StagePlan, read_plan_if_any, write_plan
from pipeline.cluster.goals import Goal
from pipeline.cluster.settings import ArraySettings
from pipeline.cluster.slurm import (
    Environment,
    Job,
    Resources,
    Submission,
    available,
    cancel,
    most_array_tasks,
    queue,
    script,
    submit,
)
from pipeline.foundation.errors import SpeechkdError, Unreachable
from pipeline.foundation.progress import say


@dataclass(frozen=True)
class Step:
    """A job, the goal that it works for, and what it asks of the cluster."""

    job: Job
    goal: Goal
    resources: Resources

    def __str__(self) -> str:
        resources, job = self.resources, self.job
        parts = [f"{job.stage}: {_counted(self.goal.total, self.goal.unit)}"]
        if job.array_tasks:
            at_once = min(job.at_once, job.array_tasks)
            parts.append(f"array of {job.array_tasks:,}, {at_once:,} at once")
        each = [
            _counted(resources.nodes, "nodes") if resources.nodes > 1 else "",
            _counted(resources.gpus, "GPUs") if resources.gpus else "",
            _counted(resources.cpus, "cores"),
            resources.memory,
            f"time limit {resources.time}",
            f"partition {resources.partition}" if resources.partition else "",
        ]
        return "; ".join([*parts, ", ".join(part for part in each if part)])


def _counted(number: int, unit: str) -> str:
    return f"{number:,} {unit if number != 1 else unit.removesuffix('s')}"


def scripts(settings: ArraySettings, steps: Sequence[Step]) -> dict[Path, str]:
    """The job script of each step, by the path that it will have.

    Raises:
        SpeechkdError: a `#SBATCH` line cannot hold a path or a value.
    """
    folder = _folder(settings)
    # not resolved: a virtual environment's python is a link out of it
    place = Environment(Path.cwd(), Path(sys.executable).absolute().parent, settings.container)
    return {
        folder / f"{step.job.stage.replace('-', '_')}.sbatch": script(
            step.job, step.resources, place, folder
        )
        for step in steps
    }


def submit_chain(settings: ArraySettings, steps: Sequence[Step]) -> list[Submission]:
    """Submit the steps, each after the one before, and write the record of the run.

    Raises:
        SpeechkdError: Slurm is not here, refuses a job, or still has one of the same stage.
    """
    texts = scripts(settings, steps)
    if not available():
        raise Unreachable(
            "there is no sbatch here. Run this on a login node of a Slurm cluster; --dry-run "
            "shows the scripts anywhere."
        )
    _check_array_sizes([step.job for step in steps], most_array_tasks())
    plan = read_plan_if_any(_folder(settings))
    _check_idle(plan, [step.job.stage for step in steps])
    after, submitted = list(settings.after), []
    try:
        for step, (path, text) in zip(steps, texts.items(), strict=True):
            submitted.append(submit(step.job, path, text, after))
            after = [submitted[-1].id]
    except SpeechkdError:
        if submitted:
            cancel([submission.id for submission in submitted])
            say("the stages that were already submitted are cancelled")
        raise
    new = [StagePlan(step.goal, job) for step, job in zip(steps, submitted, strict=True)]
    write_plan(plan.with_stages(new))
    return submitted


def _folder(settings: ArraySettings) -> Path:
    return (settings.run / "slurm").absolute()


def _check_array_sizes(jobs: Sequence[Job], most: int | None) -> None:
    """Refuse a chain of which Slurm would refuse a part, before any of it is submitted."""
    for job in jobs:
        if most is not None and job.array_tasks > most:
            raise SpeechkdError(
                f"{job.stage}: an array of {job.array_tasks:,} tasks, and this Slurm takes at most "
                f"{most:,} (MaxArraySize of `scontrol show config`). Give fewer --array-tasks: "
                "each then does more. Of a grid of students submit a part at a time."
            )


def _check_idle(plan: Plan, stages: Sequence[str]) -> None:
    """Refuse a second array while the first still works on the same."""
    ids = [stage.submission.id for stage in plan.stages if stage.goal.stage in stages]
    busy = sorted({job for job, _ in queue(ids)})
    if busy:
        raise SpeechkdError(
            f"job {', '.join(busy)} of this run is still in the queue. Wait for it, or take it out "
            f"first: scancel {' '.join(busy)}"
        )
