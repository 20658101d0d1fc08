"""How each array task of a submission stands, by the queue and by its log."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.cluster.slurm import Queued, Submission

WHY_CHARACTERS = 500
STARTS = re.compile(r"^array task \S+ starts at (\d+)", re.MULTILINE)
ENDS = re.compile(r"^array task \S+ (is done|failed with status \d+[^\n]*)$", re.MULTILINE)

State = Literal["waiting", "running", "done", "failed", "ended", "not started"]


@dataclass(frozen=True)
class TaskStatus:
    """How one array task stands.

    Attributes:
        index: its place in the array.
        state: `done`, `running` or `waiting`; `failed` if its log says so; `ended` if it left the
            queue without a word (it was killed); `not started` if it left the queue before it
            began.
        why: the error in its log, or the queue's reason.
        log: its log.
        started: when it first started, in seconds since 1970; None before that.
    """

    index: int
    state: State
    why: str
    log: Path
    started: float | None


def task_statuses(
    submission: Submission, queued: Mapping[tuple[str, int], Queued], logs: Path
) -> list[TaskStatus]:
    """How each array task of a submission stands; a job without an array counts as one task.

    Args:
        submission: the job or array.
        queued: what the queue holds, from `slurm.queue`.
        logs: folder of the logs.
    """
    statuses = []
    for index in range(max(1, submission.array_tasks)):
        suffix = f"_{index}" if submission.array_tasks else ""
        log = logs / f"{submission.stage}-{submission.id}{suffix}.log"
        started, end, error = _read_log(log)
        in_queue = queued.get((submission.id, index))
        state: State
        if end == "is done":
            state, why = "done", ""
        elif in_queue is not None and in_queue.state == "PENDING":
            state, why = "waiting", in_queue.reason
        elif in_queue is not None:
            state, why = "running", in_queue.state
        elif end.startswith("failed"):
            state, why = "failed", error or end
        elif started is None:
            state, why = "not started", "taken out of the queue before it started"
        else:
            state, why = "ended", f"ended without a word; the last line: {error or 'none'}"
        statuses.append(TaskStatus(index, state, why, log, started))
    return statuses


def _read_log(log: Path) -> tuple[float | None, str, str]:
    """When the task first started, how its latest start ended ("" if it did not), and its error."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None, "", ""
    starts = list(STARTS.finditer(text))
    if not starts:
        return None, "", ""
    since_start = text[starts[-1].end() :]
    end = ENDS.search(since_start)
    lines = [line for line in since_start.splitlines()[1:] if line.strip() and not ENDS.match(line)]
    return float(starts[0][1]), end[1] if end else "", _error(lines)[:WHY_CHARACTERS]


def _error(lines: list[str]) -> str:
    """The last error among a log's lines, with the lines that follow it; else the last line."""
    errors = [i for i, line in enumerate(lines) if line.startswith(("error: ", "slurmstepd"))]
    first_line = errors[-1] if errors else len(lines) - 1
    return " ".join(line.strip() for line in lines[max(0, first_line) :])
