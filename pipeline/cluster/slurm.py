"""Job arrays on Slurm: scripts made from the templates in `stages/`, submitted and queued.

A script is a template's own text with three things filled in for one run: the `#SBATCH` lines, the
words of the command, and where speechkd is. Everything that comes from a user is quoted as one
shell word, or refused where Slurm has no way to quote it.
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
from pipeline.foundation.errors import SpeechkdError

RULE = "# ---- from here on the same for every run ----\n"
UNSAFE_IN_A_PATH = re.compile(r'[\x00-\x1f"%\\]')
PLAIN_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:@=/+*&|()\[\]-]*")
EXTRA_LINE = re.compile(r"--[a-z][a-z-]*(=[^\x00-\x1f\"'\\`$;#]+)?")
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Resources:
    """What one element of an array asks of the cluster.

    Attributes:
        time: limit of an element, as Slurm writes it (`minutes`, `h:mm:ss`, `d-hh:mm:ss`).
        memory: of a node, as Slurm writes it (`32G`).
        cpus: cores of a node.
        gpus: of a node; 0 asks for none.
        nodes: nodes of an element.
        partition: where to queue; "" for the cluster's default.
        account: whom to charge; "" for the user's default.
        warning_seconds: how long before the time limit an element is warned.
        requeue: whether Slurm may queue an element again.
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
        """Refuse what cannot stand in a `#SBATCH` line.

        Raises:
            SpeechkdError: a value with characters that no such setting has.
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
        template: the `.sbatch` file it is made from.
        words: arguments of the command.
        elements: size of the array; 0 for a job that is none.
        at_once: how many elements may run at a time.
        variables: shell variables set for this run, a list becoming an array.
    """

    stage: str
    template: Path
    words: Sequence[str]
    elements: int = 0
    at_once: int = 1
    variables: Mapping[str, str | int | Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Environment:
    """How a job finds speechkd.

    Attributes:
        folder: where the job runs, so that relative paths mean what they mean here.
        bin: folder of the `speechkd` command, put first on PATH.
        container: an image that Apptainer runs it in instead; "" for none.
    """

    folder: Path
    bin: Path
    container: str = ""


def script(job: Job, resources: Resources, environment: Environment, folder: Path) -> str:
    """The text of a job script.

    Args:
        job: what to run.
        resources: what it asks for.
        environment: where speechkd is.
        folder: where the script is to lie, its logs in `logs/` beside it.

    Raises:
        SpeechkdError: a path or value that a `#SBATCH` line cannot hold.
    """
    resources.check()
    for path in (folder, environment.folder):
        if UNSAFE_IN_A_PATH.search(str(path)):
            raise SpeechkdError(
                f"{str(path)!r} holds a character that Slurm cannot take in a path (a line break, "
                'a backslash, " or %). Use another folder.'
            )
    log = "%x-%A_%a.log" if job.elements else "%x-%j.log"
    options = [
        f"--job-name={job.stage}",
        f"--array=0-{job.elements - 1}%{job.at_once}" if job.elements else "",
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
            f"# Made by `speechkd slurm` from its {job.template.name}, whose head says more.\n",
            "# `sbatch` on this file at any later time does what is left to do.\n",
            *(f"#SBATCH {option}\n" for option in options if option),
            "\n",
            "" if environment.container else search,
            *(f"{name}={_shell_value(value)}\n" for name, value in variables.items()),
            f"set -- {shlex.join(job.words)}\n\n",
            RULE,
            job.template.read_text(encoding="utf-8").partition(RULE)[2],
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
        elements: size of the array; 0 for a job that is none.
        submitted: when, in seconds since 1970.
        after: ids of the jobs that must end well before.
    """

    stage: str
    id: str
    elements: int
    submitted: float
    after: tuple[str, ...] = ()


def submit(job: Job, path: Path, text: str, after: Sequence[str]) -> Submission:
    """Write a job script and hand it to Slurm.

    Raises:
        SpeechkdError: Slurm is not here or refuses the job; its own words are passed on.
    """
    (path.parent / "logs").mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, text)
    words = ["sbatch", "--parsable"]
    if after:
        # without the second, jobs behind a failed one would wait for ever
        words += [f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"]
    answer = _slurm([*words, str(path)], f"{path} was not submitted")
    number = answer.strip().partition(";")[0]
    return Submission(job.stage, number, job.elements, time.time(), tuple(after))


def cancel(ids: Sequence[str]) -> None:
    """Take jobs out of the queue."""
    _slurm(["scancel", *ids], "scancel")


@dataclass(frozen=True)
class Queued:
    """What the queue says of an element.

    Attributes:
        state: Slurm's word for it, such as `PENDING`.
        reason: why it waits.
    """

    state: str
    reason: str


def queue(ids: Sequence[str]) -> dict[tuple[str, int], Queued]:
    """Elements of these jobs that are in the queue, by job and index (0 where it is no array).

    Raises:
        SpeechkdError: Slurm does not answer.
    """
    if not ids:
        return {}
    words = ["squeue", "--noheader", "--array", "--format=%F|%K|%T|%r", f"--jobs={','.join(ids)}"]
    try:
        text = _slurm(words, "squeue")
    except SpeechkdError as error:
        if "Invalid job id" in str(error):  # all of them ended long ago
            return {}
        raise
    found = {}
    for line in text.splitlines():
        number, index, state, reason = line.split("|", 3)
        found[number, int(index) if index.isdecimal() else 0] = Queued(state, reason)
    return found


def available() -> bool:
    """Whether Slurm's commands are on this machine."""
    return all(shutil.which(name) for name in ("sbatch", "squeue", "scancel"))


def _slurm(words: Sequence[str], what: str) -> str:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
    except FileNotFoundError:
        raise SpeechkdError(
            f"there is no {words[0]} here. Run this on a login node of a Slurm cluster; "
            "--dry-run shows the scripts anywhere."
        ) from None
    except subprocess.TimeoutExpired:
        raise SpeechkdError(f"{what}: Slurm did not answer within {TIMEOUT_SECONDS} s.") from None
    if done.returncode:
        raise SpeechkdError(f"{what}: {done.stderr.strip() or f'status {done.returncode}'}")
    return done.stdout
