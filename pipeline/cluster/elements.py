"""How each element of a job array stands, by the queue and by its log."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.cluster.slurm import Queued, Submission

WHY_CHARACTERS = 500

State = Literal["waiting", "running", "done", "failed", "ended", "not started"]


@dataclass(frozen=True)
class Element:
    """How an element of an array stands.

    Attributes:
        index: its place in the array.
        state: `done`, `running`, `waiting`; `failed` where its log says so, `ended` where it left
            the queue without a word (killed), `not started` where it left it before it began.
        why: the error in its log, or what the queue says.
        log: its log.
        started: when it first started, in seconds since 1970; None before that.
    """

    index: int
    state: State
    why: str
    log: Path
    started: float | None


def elements(
    submission: Submission, queued: Mapping[tuple[str, int], Queued], logs: Path
) -> list[Element]:
    """How each element of a submission stands, by the queue and its log."""
    found = []
    for index in range(max(1, submission.elements)):
        suffix = f"_{index}" if submission.elements else ""
        log = logs / f"{submission.stage}-{submission.id}{suffix}.log"
        started, end, error = _read_log(log)
        now = queued.get((submission.id, index))
        state: State
        if end == "is done":
            state, why = "done", ""
        elif now is not None and now.state == "PENDING":
            state, why = "waiting", now.reason
        elif now is not None:
            state, why = "running", now.state
        elif end.startswith("failed"):
            state, why = "failed", error or end
        elif started is None:
            state, why = "not started", "taken out of the queue before it started"
        else:
            state, why = "ended", f"ended without a word; the last line: {error or 'none'}"
        found.append(Element(index, state, why, log, started))
    return found


def count(states: Sequence[Element]) -> Counter[State]:
    """Number of elements in each state."""
    return Counter(element.state for element in states)


STARTS = re.compile(r"^element \S+ starts at (\d+)", re.MULTILINE)
ENDS = re.compile(r"^element \S+ (is done|failed with status \d+[^\n]*)$", re.MULTILINE)


def _read_log(log: Path) -> tuple[float | None, str, str]:
    """When it first started, how its latest sitting ended ("" if it did not), and the error."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None, "", ""
    starts = list(STARTS.finditer(text))
    if not starts:
        return None, "", ""
    sitting = text[starts[-1].end() :]
    end = ENDS.search(sitting)
    told = [line for line in sitting.splitlines()[1:] if line.strip() and not ENDS.match(line)]
    errors = [i for i, line in enumerate(told) if line.startswith(("error: ", "slurmstepd"))]
    # an error's own lines follow it to the end; what is no error ends in its last line
    why = " ".join(line.strip() for line in told[errors[-1] if errors else -1 :])
    return float(starts[0][1]), end[1] if end else "", why[:WHY_CHARACTERS]
