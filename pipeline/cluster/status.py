"""The page of a run on a cluster: how each stage stands, and what did not end well."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.cluster.chain import Plan, StagePlan, Standing, read_plan, stand
from pipeline.cluster.elements import Element, count
from pipeline.cluster.slurm import queue
from pipeline.foundation.progress import duration

ENDED_BADLY = ("failed", "ended", "not started")
FILE_WIDTH = 140
NAMED = 10  # elements of a stage that are named with their errors


@dataclass(frozen=True)
class Page:
    """How a run stands.

    Attributes:
        table: a row a stage.
        failed: the elements that did not end well, a line each, with their errors and logs.
        active: whether anything runs or waits.
    """

    table: Table
    failed: Sequence[str]
    active: bool


def show(folder: Path, every_seconds: float | None) -> Sequence[str]:
    """Print how a run stands, and return the lines of what did not end well.

    Args:
        folder: where the record of the run's jobs lies.
        every_seconds: look again so often until nothing runs or waits, redrawing the table on a
            terminal; None to look once.

    Raises:
        SpeechkdError: there is no such record, or Slurm does not answer.
    """
    console = Console(highlight=False)
    if not console.is_terminal:  # whose width is not known: leave each row on its line
        console.width = max(console.width, FILE_WIDTH)
    page = make_page(read_plan(folder))
    if every_seconds is not None:
        with Live(page.table, console=console, auto_refresh=False, transient=True) as live:
            while page.active:
                time.sleep(every_seconds)
                page = make_page(read_plan(folder))
                live.update(page.table, refresh=True)
    console.print(page.table)
    return page.failed


def make_page(plan: Plan) -> Page:
    """How the run stands now."""
    queued = queue([stage.submission.id for stage in plan.stages])
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("job", no_wrap=True)
    for name in ("done", "running", "waiting", "failed", "rate", "time left"):
        table.add_column(name, justify="right")
    table.add_column("waits for", overflow="fold")
    failed, active = [], False
    for stage in plan.stages:
        standing = stand(plan, stage, queued)
        states = count(standing.elements)
        bad = [] if standing.finished else _ended_badly(standing)
        begun = [element for element in bad if element.state != "not started"]
        active = active or bool(states["running"] or states["waiting"])
        table.add_row(
            stage.goal.stage,
            stage.submission.id,
            f"{standing.done:,} of {stage.goal.total:,} {stage.goal.unit}",
            f"{states['running']:,}",
            f"{states['waiting']:,}",
            f"{len(begun):,}",
            f"{standing.rate * 3600:,.1f} {standing.rate_unit}/h" if standing.rate else "",
            duration(standing.seconds_left) if standing.seconds_left else "",
            _waits_for(standing),
        )
        failed += _told(stage, begun, len(bad) - len(begun))
    return Page(table, failed, active)


def _ended_badly(standing: Standing) -> list[Element]:
    return [element for element in standing.elements if element.state in ENDED_BADLY]


def _waits_for(standing: Standing) -> str:
    """Slurm's commonest word for why elements wait, such as Dependency or Resources."""
    reasons = Counter(element.why for element in standing.elements if element.state == "waiting")
    return reasons.most_common(1)[0][0] if reasons else ""


def _told(stage: StagePlan, begun: Sequence[Element], never_begun: int) -> list[str]:
    """A line for each of the first elements that ended badly, and for those that never began."""
    lines = []
    for element in begun[:NAMED]:
        which = f" element {element.index}" if stage.submission.elements else ""
        lines.append(f"  {stage.goal.stage}{which}: {element.state}: {element.why} ({element.log})")
    if len(begun) > NAMED:
        others = ",".join(str(element.index) for element in begun[NAMED:])
        lines.append(f"  {stage.goal.stage}: {len(begun) - NAMED:,} more, elements {others}")
    if never_begun:
        lines.append(
            f"  {stage.goal.stage}: {never_begun:,} never started: cancelled, or a stage before "
            "failed"
        )
    return lines
