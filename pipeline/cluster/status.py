"""The page of a run on a cluster: how each stage stands, and what did not end well."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from pipeline.cluster.array_tasks import TaskStatus
from pipeline.cluster.chain import Plan, StagePlan, Standing, stand
from pipeline.cluster.slurm import queue
from pipeline.foundation.progress import duration

ENDED_BADLY = ("failed", "ended", "not started")
NAMED = 10  # array tasks of a stage that are named with their errors


@dataclass(frozen=True)
class Page:
    """How a run stands.

    Attributes:
        table: one row per stage.
        failed: one line per array task that did not end well, with its error and its log.
        active: whether anything runs or waits.
    """

    table: Table
    failed: Sequence[str]
    active: bool


def make_page(plan: Plan) -> Page:
    """How the run stands now.

    Raises:
        SpeechkdError: Slurm does not answer; or the cache is damaged or cannot be reached.
    """
    queued = queue([stage.submission.id for stage in plan.stages])
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("job", no_wrap=True)
    for name in ("done", "running", "waiting", "failed", "rate", "time left"):
        table.add_column(name, justify="right")
    table.add_column("waits for", overflow="fold")
    failed, active = [], False
    for stage in plan.stages:
        goal, standing = stage.goal, stand(plan, stage, queued)
        states = Counter(task.state for task in standing.tasks)
        bad = [task for task in standing.tasks if task.state in ENDED_BADLY]
        bad = [] if standing.finished else bad
        begun = [task for task in bad if task.state != "not started"]
        active = active or bool(states["running"] or states["waiting"])
        table.add_row(
            goal.stage,
            stage.submission.id,
            f"{standing.done:,} of {goal.total:,} {goal.unit}",
            f"{states['running']:,}",
            f"{states['waiting']:,}",
            f"{len(begun):,}",
            f"{standing.rate * 3600:,.1f} {goal.rate_unit}/h" if standing.rate else "",
            duration(standing.seconds_left) if standing.seconds_left else "",
            _waits_for(standing),
        )
        failed += _describe(stage, begun, len(bad) - len(begun))
    return Page(table, failed, active)


def _waits_for(standing: Standing) -> str:
    """Slurm's commonest reason why array tasks wait, such as Dependency or Resources."""
    reasons = Counter(task.why for task in standing.tasks if task.state == "waiting")
    return reasons.most_common(1)[0][0] if reasons else ""


def _describe(stage: StagePlan, begun: Sequence[TaskStatus], never_begun: int) -> list[str]:
    """A line per array task that ended badly, for the first of them; then the others, in short."""
    lines = []
    for task in begun[:NAMED]:
        which = f" array task {task.index}" if stage.submission.array_tasks else ""
        lines.append(f"  {stage.goal.stage}{which}: {task.state}: {task.why} ({task.log})")
    if len(begun) > NAMED:
        others = ",".join(str(task.index) for task in begun[NAMED:])
        lines.append(f"  {stage.goal.stage}: {len(begun) - NAMED:,} more, array tasks {others}")
    if never_begun:
        lines.append(
            f"  {stage.goal.stage}: {never_begun:,} never started: cancelled, or a stage before "
            "failed"
        )
    return lines
