"""Which share of the work is this process's, by flag or by the scheduler's variables; signals."""

import heapq
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.foundation.errors import SpeechkdError


@dataclass(frozen=True)
class ArrayTask:
    """Task `index`, counted from 0, of `count` tasks that share the work."""

    index: int
    count: int
    source: str
    """Where the numbers come from, for messages."""

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = ArrayTask(0, 1, "no array")


@dataclass(frozen=True)
class Scheduler:
    """The variables by which a scheduler tells a task its place; an absent one is ""."""

    name: str
    index: str
    first: str = ""
    last: str = ""
    step: str = ""
    count: str = ""
    default_first: int = 0
    not_a_task: str = ""
    """Value of the index in a job that is no array."""


# Set in the job by its author where the scheduler does not tell a task how many there are.
COUNT_VARIABLE = "SPEECHKD_ARRAY_TASKS"

# From each scheduler's manual: sbatch(1) "Job array", OpenPBS and Torque "Job arrays", SGE
# submit(1), LSF "Job array environment variables", AWS Batch "Array jobs", Kubernetes "Indexed
# Job". PBS, Torque and Kubernetes do not tell a task how many there are.
SCHEDULERS = (
    Scheduler(
        "Slurm",
        "SLURM_ARRAY_TASK_ID",
        first="SLURM_ARRAY_TASK_MIN",
        last="SLURM_ARRAY_TASK_MAX",
        step="SLURM_ARRAY_TASK_STEP",
        count="SLURM_ARRAY_TASK_COUNT",
    ),
    Scheduler("PBS", "PBS_ARRAY_INDEX"),
    Scheduler("Torque", "PBS_ARRAYID"),
    Scheduler(
        "SGE",
        "SGE_TASK_ID",
        first="SGE_TASK_FIRST",
        last="SGE_TASK_LAST",
        step="SGE_TASK_STEPSIZE",
        default_first=1,
        not_a_task="undefined",
    ),
    Scheduler(
        "LSF",
        "LSB_JOBINDEX",
        last="LSB_JOBINDEX_END",
        step="LSB_JOBINDEX_STEP",
        default_first=1,
        not_a_task="0",
    ),
    Scheduler("AWS Batch", "AWS_BATCH_JOB_ARRAY_INDEX", count="AWS_BATCH_JOB_ARRAY_SIZE"),
    Scheduler("Kubernetes", "JOB_COMPLETION_INDEX"),
)


def array_task(flag: str = "", environment: Mapping[str, str] | None = None) -> ArrayTask:
    """This process's place in a job array.

    Args:
        flag: `I/N` (I from 0), `auto/N` (I from the scheduler, N given), or "" for both from
            the scheduler (N from SPEECHKD_ARRAY_TASKS where that is set), and the whole work
            where there is none.
        environment: the process's variables; those of this process by default.

    Raises:
        SpeechkdError: the flag is not of that form, or a scheduler's variables do not tell.
    """
    environment = os.environ if environment is None else environment
    if not flag:
        return _without_flag(environment)
    index, slash, count = flag.partition("/")
    if not slash or not count.isdecimal() or not (index == "auto" or index.isdecimal()):
        raise SpeechkdError(f"--array-task is {flag!r}; it must be I/N or auto/N, such as 0/16.")
    if index == "auto":
        return _from_scheduler_or_refused(environment, int(count), f"--array-task {flag}")
    return _checked(ArrayTask(int(index), int(count), f"--array-task {flag}"))


def share(sizes: Sequence[int], task: ArrayTask) -> list[int]:
    """Indices of the items that belong to `task`, ascending.

    Each item goes, the largest first, to the task that has least so far: no two tasks differ by
    more than the largest item. The same for every task, whatever order they run in.

    Args:
        sizes: size of each item, in bytes.
        task: whose share.
    """
    loads = [(0, owner) for owner in range(task.count)]
    mine = []
    for item in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        load, owner = heapq.heappop(loads)
        heapq.heappush(loads, (load + sizes[item], owner))
        if owner == task.index:
            mine.append(item)
    return sorted(mine)


def _without_flag(environment: Mapping[str, str]) -> ArrayTask:
    count = environment.get(COUNT_VARIABLE, "")
    if not count:
        return _from_scheduler(environment, None) or WHOLE
    if not count.isdecimal():
        raise SpeechkdError(f"{COUNT_VARIABLE} is {count!r}; it must be the number of tasks.")
    return _from_scheduler_or_refused(environment, int(count), f"{COUNT_VARIABLE}={count}")


def _from_scheduler_or_refused(environment: Mapping[str, str], count: int, given: str) -> ArrayTask:
    task = _from_scheduler(environment, count)
    if task is None:
        known = ", ".join(s.index for s in SCHEDULERS)
        raise SpeechkdError(f"{given}: none of the variables {known} is set.")
    return task


def _from_scheduler(environment: Mapping[str, str], count: int | None) -> ArrayTask | None:
    for scheduler in SCHEDULERS:
        value = environment.get(scheduler.index, "")
        if value and value != scheduler.not_a_task:
            return _task(scheduler, environment, count)
    return None


def _task(scheduler: Scheduler, environment: Mapping[str, str], count: int | None) -> ArrayTask:
    def number(variable: str) -> int | None:
        text = environment.get(variable, "") if variable else ""
        if text and not text.isdecimal():
            raise SpeechkdError(f"{scheduler.name}: {variable} is {text!r}, not a number.")
        return int(text) if text else None

    source = f"{scheduler.name}'s {scheduler.index}={environment[scheduler.index]}"
    identifier = number(scheduler.index) or 0
    first = number(scheduler.first)
    first = scheduler.default_first if first is None else first
    step = number(scheduler.step) or 1
    last, told = number(scheduler.last), number(scheduler.count)
    if last is not None:
        spanned = (last - first) // step + 1
        if told not in (None, spanned):
            raise SpeechkdError(
                f"{source}: the array has gaps ({told} tasks between {first} and {last}), so a "
                "task's place in it is not known. Submit a range without gaps, or give "
                "--array-task I/N."
            )
        told = spanned
    if told is None and count is None:
        raise SpeechkdError(
            f"{source}, but {scheduler.name} does not say how many tasks there are. Give the "
            f"number: {COUNT_VARIABLE}=16 in the job's environment, or --array-task auto/16."
        )
    if told is not None and count not in (None, told):
        raise SpeechkdError(
            f"{source}: the array has {told} tasks, but {count} were given. Leave the number out, "
            "or give --array-task I/N."
        )
    return _checked(ArrayTask((identifier - first) // step, count or told or 0, source))


def _checked(task: ArrayTask) -> ArrayTask:
    if task.count < 1 or not 0 <= task.index < task.count:
        raise SpeechkdError(
            f"{task.source}: task {task.index} of {task.count} is not possible; tasks count from "
            "0, so the last of N is N-1."
        )
    return task
