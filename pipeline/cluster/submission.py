"""The jobs of a run, handed to Slurm one behind the other, all of them or none."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.chain import Goal, Plan, StagePlan, read_plan_if_any, write_plan
from pipeline.cluster.settings import ArraySettings
from pipeline.cluster.slurm import (
    Environment,
    Job,
    Resources,
    available,
    cancel,
    queue,
    script,
    submit,
)
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import say


@dataclass(frozen=True)
class Step:
    """A job, where to see how far it has come, and what it asks for."""

    job: Job
    goal: Goal
    resources: Resources

    def script_in(self, folder: Path) -> Path:
        """The file that its script has in this folder."""
        return folder / f"{self.job.stage.replace('-', '_')}.sbatch"

    def __str__(self) -> str:
        asked, job = self.resources, self.job
        parts = [f"{job.stage}: {_counted(self.goal.total, self.goal.unit)}"]
        if job.elements:
            parts.append(f"array of {job.elements:,}, {min(job.at_once, job.elements):,} at once")
        each = [
            _counted(asked.nodes, "nodes") if asked.nodes > 1 else "",
            _counted(asked.gpus, "GPUs") if asked.gpus else "",
            _counted(asked.cpus, "cores"),
            asked.memory,
            f"time limit {asked.time}",
            f"partition {asked.partition}" if asked.partition else "",
        ]
        return "; ".join([*parts, ", ".join(part for part in each if part)])


def _counted(number: int, unit: str) -> str:
    return f"{number:,} {unit if number != 1 else unit.removesuffix('s')}"


def submit_chain(settings: ArraySettings, steps: Sequence[Step]) -> None:
    """Print what will be done, and submit the steps, each after the one before.

    Raises:
        SpeechkdError: Slurm is not here, refuses a job, or still has one of the same stage.
    """
    folder = (settings.run / "slurm").absolute()
    # not resolved: a virtual environment's python is a link out of it
    place = Environment(Path.cwd(), Path(sys.executable).absolute().parent, settings.container)
    texts = [script(step.job, step.resources, place, folder) for step in steps]
    if settings.dry_run:
        for step, text in zip(steps, texts, strict=True):
            print(f"==> {step.script_in(folder)}\n{text}")
    for step in steps:
        say(str(step))
    if settings.dry_run:
        say("nothing submitted (--dry-run)")
        return
    if not available():
        raise SpeechkdError(
            "there is no sbatch here. Run this on a login node of a Slurm cluster; --dry-run "
            "shows the scripts anywhere."
        )
    plan = read_plan_if_any(folder)
    _check_idle(plan, [step.job.stage for step in steps])
    after, submitted = list(settings.after), []
    try:
        for step, text in zip(steps, texts, strict=True):
            submitted.append(submit(step.job, step.script_in(folder), text, after))
            after = [submitted[-1].id]
    except SpeechkdError:
        if submitted:
            cancel([submission.id for submission in submitted])
            say("the stages that were already submitted are cancelled")
        raise
    new = [StagePlan(s.goal, done) for s, done in zip(steps, submitted, strict=True)]
    write_plan(plan.with_stages(new))
    for submission in submitted:
        print(f"{submission.stage}  job {submission.id}")
    say(f"watch it: speechkd slurm status {shlex.quote(str(settings.run))} --follow")


def _check_idle(plan: Plan, stages: Sequence[str]) -> None:
    """Refuse a second array beside one that still works on the same."""
    ids = [stage.submission.id for stage in plan.stages if stage.goal.stage in stages]
    busy = sorted({job for job, _ in queue(ids)})
    if busy:
        raise SpeechkdError(
            f"job {', '.join(busy)} of this run is still in the queue. Wait for it, or take it out "
            f"first: scancel {' '.join(busy)}"
        )
