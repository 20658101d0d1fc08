"""The share of the work that one array task does, by flag or by the scheduler's variables."""

import heapq
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.foundation.errors import SpeechkdError


@dataclass(frozen=True)
class ArrayTask:
    """Array task `index`, counted from 0, of `count` that share the work."""

    index: int
    count: int
    source: str
    """The origin of the numbers, for messages."""

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = ArrayTask(0, 1, "no array")


@dataclass(frozen=True)
class Scheduler:
    """The variables that tell an array task its place; "" if a scheduler lacks one."""

    name: str
    index: str
    first: str = ""
    last: str = ""
    step: str = ""
    count: str = ""
    default_first: int = 0
    not_a_task: str = ""
    """Value of the index in a job without an array."""


# The author of a job sets it if the scheduler does not tell an array task how many there are.
COUNT_VARIABLE = "SPEECHKD_ARRAY_TASKS"

# From each scheduler's manual: sbatch(1) "Job array", OpenPBS and Torque "Job arrays", SGE
# submit(1), LSF "Job array environment variables", AWS Batch "Array jobs", Kubernetes "Indexed
# Job". PBS, Torque and Kubernetes do not tell an array task how many there are.
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
        flag: `I/N` (I from 0); `auto/N` (I from the scheduler); or "" to take both from the
            scheduler (N from SPEECHKD_ARRAY_TASKS if that is set). Without a scheduler "" means
            the whole work.
        environment: variables of a process; this process's own by default.

    Raises:
        SpeechkdError: the flag has another form, or a scheduler's variables do not suffice.
    """
    environment = os.environ if environment is None else environment
    if not flag:
        return _without_flag(environment)
    index, slash, count = flag.partition("/")
    if not slash or not count.isdecimal() or not (index == "auto" or index.isdecimal()):
        raise SpeechkdError(f"--array-task is {flag!r}; it must be I/N or auto/N, such as 0/16.")
    if index == "auto":
        return _from_scheduler_or_refuse(environment, int(count), f"--array-task {flag}")
    return _checked(ArrayTask(int(index), int(count), f"--array-task {flag}"))


def share(sizes: Sequence[int], task: ArrayTask) -> list[int]:
    """Indices of the items that belong to `task`, ascending.

    The items are dealt out from the largest to the smallest, each to the task with the least so
    far. So no two tasks differ by more than the largest item. Every task computes the same shares.

    Args:
        sizes: size of each item, in bytes.
        task: the array task whose share is wanted.
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
        raise SpeechkdError(f"{COUNT_VARIABLE} is {count!r}; it must be the number of array tasks.")
    return _from_scheduler_or_refuse(environment, int(count), f"{COUNT_VARIABLE}={count}")


def _from_scheduler_or_refuse(environment: Mapping[str, str], count: int, origin: str) -> ArrayTask:
    task = _from_scheduler(environment, count)
    if task is None:
        known = ", ".join(s.index for s in SCHEDULERS)
        raise SpeechkdError(f"{origin}: none of the variables {known} is set.")
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
    last, count_in_array = number(scheduler.last), number(scheduler.count)
    if last is not None:
        spanned = (last - first) // step + 1
        if count_in_array not in (None, spanned):
            raise SpeechkdError(
                f"{source}: the array has gaps ({count_in_array} tasks between {first} and "
                f"{last}), so a task's place in it is not known. Submit a range without gaps, or "
                "give --array-task I/N."
            )
        count_in_array = spanned
    if count_in_array is None and count is None:
        raise SpeechkdError(
            f"{source}, but {scheduler.name} does not say how many tasks there are. Give the "
            f"number: {COUNT_VARIABLE}=16 in the job's environment, or --array-task auto/16."
        )
    if count_in_array is not None and count not in (None, count_in_array):
        raise SpeechkdError(
            f"{source}: the array has {count_in_array} tasks, but {count} were given. Leave the "
            "number out, or give --array-task I/N."
        )
    return _checked(ArrayTask((identifier - first) // step, count or count_in_array or 0, source))


def _checked(task: ArrayTask) -> ArrayTask:
    if task.count < 1 or not 0 <= task.index < task.count:
        raise SpeechkdError(
            f"{task.source}: array task {task.index} of {task.count} is not possible; they count "
            "from 0, so the last of N is N-1."
        )
    return task
