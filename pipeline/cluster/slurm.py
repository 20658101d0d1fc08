"""Job arrays on Slurm: writing job scripts, submitting them, asking the queue.

A script is `#SBATCH` lines, shell variables and words for one run, followed by a body that is the
same for every run. Everything that comes from a user is quoted as one shell word, or refused if
Slurm has no way to quote it.
"""

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.foundation import atomic
from pipeline.foundation.errors import NotThere, SpeechkdError, Unreachable

UNSAFE_IN_A_PATH = re.compile(r'[\x00-\x1f"%\\]')
PLAIN_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:@=/+*&|()\[\]-]*")
EXTRA_LINE = re.compile(r"--[a-z][a-z-]*(=[^\x00-\x1f\"'\\`$;#]+)?")
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Resources:
    """What one array task asks of the cluster.

    Attributes:
        time: limit of an array task, as Slurm writes it (`minutes`, `h:mm:ss`, `d-hh:mm:ss`).
        memory: of a node, as Slurm writes it (`32G`).
        cpus: cores of a node.
        gpus: of a node; 0 asks for none.
        nodes: nodes of an array task.
        partition: where to queue; "" for the cluster's default.
        account: whom to charge; "" for the user's default.
        warning_seconds: how long before the time limit an array task is warned.
        requeue: whether Slurm may queue an array task again.
        extra: further `#SBATCH` options, such as `--constraint=a100`.
    """

    time: str
    memory: str
    cpus: int
    gpus: int
    nodes: int = 1
    partition: str = ""
    account: str = ""
    warning_seconds: int = 120
    requeue: bool = True
    extra: Sequence[str] = ()

    def check(self) -> None:
        """Check that every value can stand in a `#SBATCH` line.

        Raises:
            SpeechkdError: a value has characters that no such setting has.
        """
        for name in ("time", "memory", "partition", "account"):
            value = getattr(self, name)
            if value and not PLAIN_VALUE.fullmatch(value):
                raise SpeechkdError(f"--{name} is {value!r}; that is no value for Slurm.")
        for line in self.extra:
            if not EXTRA_LINE.fullmatch(line):
                raise SpeechkdError(
                    f"--sbatch is {line!r}; write one option of sbatch, such as "
                    "--sbatch=--constraint=a100."
                )


@dataclass(frozen=True)
class Job:
    """One stage as Slurm is to run it.

    Attributes:
        stage: name of the stage and of the job.
        body: shell that runs the stage with the words and variables.
        words: the script's arguments, `"$@"` in the body.
        array_tasks: size of the array; 0 for a job without an array.
        at_once: how many array tasks may run at a time.
        variables: shell variables of this run; a list becomes an array.
    """

    stage: str
    body: str
    words: Sequence[str]
    array_tasks: int = 0
    at_once: int = 1
    variables: Mapping[str, str | int | Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Environment:
    """How a job finds speechkd.

    Attributes:
        folder: where the job runs, so that relative paths mean what they mean here.
        bin: folder of the `speechkd` command; it comes first on PATH.
        container: an image in which Apptainer runs it instead; "" for none.
    """

    folder: Path
    bin: Path
    container: str = ""


def script(job: Job, resources: Resources, environment: Environment, folder: Path) -> str:
    """The text of a job script.

    Args:
        job: what to run.
        resources: what the job asks for.
        environment: where speechkd is.
        folder: where the script will lie, with its logs in `logs/` beside it.

    Raises:
        SpeechkdError: a `#SBATCH` line cannot hold a path or a value.
    """
    resources.check()
    for path in (folder, environment.folder):
        if UNSAFE_IN_A_PATH.search(str(path)):
            raise SpeechkdError(
                f"{str(path)!r} holds a character that Slurm cannot take in a path (a line break, "
                'a backslash, " or %). Use another folder.'
            )
    log = "%x-%A_%a.log" if job.array_tasks else "%x-%j.log"
    options = [
        f"--job-name={job.stage}",
        f"--array=0-{job.array_tasks - 1}%{job.at_once}" if job.array_tasks else "",
        f"--partition={resources.partition}" if resources.partition else "",
        f"--account={resources.account}" if resources.account else "",
        f"--nodes={resources.nodes}",
        "--ntasks-per-node=1",
        f"--gpus-per-node={resources.gpus}" if resources.gpus else "",
        f"--cpus-per-task={resources.cpus}",
        f"--mem={resources.memory}",
        f"--time={resources.time}",
        f"--signal=B:USR2@{resources.warning_seconds}",
        "--requeue" if resources.requeue else "--no-requeue",
        "--open-mode=append",
        f'--chdir="{environment.folder}"',
        f'--output="{folder / "logs" / log}"',
        *resources.extra,
    ]
    inside = ["apptainer", "exec", "--nv", environment.container] if environment.container else []
    variables: dict[str, str | int | Sequence[str]] = {"inside": inside, **job.variables}
    search = f'PATH={shlex.quote(str(environment.bin))}":$PATH"\n'
    return "".join(
        [
            "#!/usr/bin/env bash\n",
            "# Written by `speechkd slurm`; docs/cluster.md says more.\n",
            "# `sbatch` on this file at any later time does what is left to do.\n",
            *(f"#SBATCH {option}\n" for option in options if option),
            "\n",
            "" if environment.container else search,
            *(f"{name}={_shell_value(value)}\n" for name, value in variables.items()),
            f"set -- {shlex.join(job.words)}\n\n",
            job.body,
        ]
    )


def _shell_value(value: str | int | Sequence[str]) -> str:
    if isinstance(value, str | int):
        return shlex.quote(str(value))
    return f"({shlex.join(value)})"


@dataclass(frozen=True)
class Submission:
    """A job that Slurm has taken.

    Attributes:
        stage: name of the stage.
        id: Slurm's number of the job or array.
        array_tasks: size of the array; 0 for a job without an array.
        submitted: when, in seconds since 1970.
        after: ids of the jobs that must end well first.
    """

    stage: str
    id: str
    array_tasks: int
    submitted: float
    after: tuple[str, ...] = ()


def submit(job: Job, path: Path, text: str, after: Sequence[str]) -> Submission:
    """Write a job script and hand it to Slurm.

    Raises:
        SpeechkdError: Slurm is not here or refuses the job; the message has Slurm's own words.
    """
    (path.parent / "logs").mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, text)
    words = ["sbatch", "--parsable"]
    if after:
        # without the second option, the jobs after a failed one would wait for ever
        words += [f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"]
    answer = _slurm([*words, str(path)], f"{path} was not submitted")
    number = answer.strip().partition(";")[0]
    return Submission(job.stage, number, job.array_tasks, time.time(), tuple(after))


def cancel(ids: Sequence[str]) -> None:
    """Take jobs out of the queue."""
    _slurm(["scancel", *ids], "scancel")


@dataclass(frozen=True)
class Queued:
    """What the queue says of an array task.

    Attributes:
        state: Slurm's word for it, such as `PENDING`.
        reason: why it waits.
    """

    state: str
    reason: str


def queue(ids: Sequence[str]) -> dict[tuple[str, int], Queued]:
    """Array tasks of these jobs that are in the queue, by job and index.

    A job without an array has one task, of index 0.

    Raises:
        SpeechkdError: Slurm does not answer, or refuses.
    """
    if not ids:
        return {}
    words = ["squeue", "--noheader", "--array", "--format=%F|%K|%T|%r", f"--jobs={','.join(ids)}"]
    try:
        text = _slurm(words, "squeue")
    except NotThere:  # all of them ended long ago
        return {}
    tasks = {}
    for line in text.splitlines():
        number, index, state, reason = line.split("|", 3)
        tasks[number, int(index) if index.isdecimal() else 0] = Queued(state, reason)
    return tasks


def most_array_tasks() -> int | None:
    """The most array tasks that this Slurm takes in one job; None if it does not say.

    Indices of array tasks lie below `MaxArraySize` (`man slurm.conf`).
    """
    try:
        text = _slurm(["scontrol", "show", "config"], "scontrol")
    except SpeechkdError:
        return None  # whatever is wrong, sbatch will say it
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", text, flags=re.MULTILINE)
    return int(found[1]) if found else None


def available() -> bool:
    """Whether Slurm's commands are on this machine."""
    return all(shutil.which(name) for name in ("sbatch", "squeue", "scancel"))


def _slurm(words: Sequence[str], what: str) -> str:
    """What a command of Slurm prints.

    Raises:
        NotThere: Slurm does not know such a job any more.
        Unreachable: Slurm does not answer, or is not here.
        SpeechkdError: Slurm refuses.
    """
    try:
        result = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
    except FileNotFoundError:
        raise Unreachable(
            f"there is no {words[0]} here. Run this on a login node of a Slurm cluster; "
            "--dry-run shows the scripts anywhere."
        ) from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{what}: Slurm did not answer within {TIMEOUT_SECONDS} s.") from None
    if result.returncode:
        # Slurm has one exit status for all failures: only its words tell them apart
        kind = NotThere if "Invalid job id" in result.stderr else SpeechkdError
        raise kind(f"{what}: {result.stderr.strip() or f'status {result.returncode}'}")
    return result.stdout
