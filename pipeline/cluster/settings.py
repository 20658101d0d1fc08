"""The settings of `speechkd slurm`: what an array task asks for, what an array consists of."""

import itertools
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.cluster.slurm import Resources
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import Settings, setting

TASK, GRID, RUNS, PLACE = "One array task", "The students", "The runs", "Where it runs"
TASKS_PER_PLACE = 4
"""Array tasks that an array has by default for each that runs at once: a place that is free early
takes the next one, and loading a model still costs little beside a task's work."""


@dataclass(frozen=True, kw_only=True)
class ArraySettings(Settings):
    """The settings of every submission."""

    words: list[str] = setting(
        help="After --: the words of the stage's own command.", argument=True
    )
    run: Path = setting(
        help="Folder of the run: scripts, logs and the record of jobs go to slurm/ in it."
    )
    at_once: int = setting(8, help="Array tasks that may run at a time.", minimum=1, panel=TASK)
    time: str = setting("08:00:00", help="Time limit of an array task.", panel=TASK)
    memory: str = setting("32G", help="Memory of an array task, on each node.", panel=TASK)
    cpus: int = setting(8, help="Cores of an array task, on each node.", minimum=1, panel=TASK)
    gpus: int = setting(1, help="GPUs of an array task, on each node.", minimum=0, panel=TASK)
    partition: str = setting("", help="Partition; the cluster's default if empty.", panel=PLACE)
    account: str = setting("", help="Whom to charge; your default if empty.", panel=PLACE)
    sbatch: list[str] = setting(
        [], help="A further option of sbatch, such as --sbatch=--constraint=a100.", panel=PLACE
    )
    warning_seconds: int = setting(
        120,
        help="How long before its time limit an array task is warned, so that it saves and queues "
        "again; Slurm may warn it a minute earlier.",
        unit="s",
        minimum=1,
        panel=TASK,
    )
    requeue: bool = setting(
        True, help="Let Slurm queue an array task again (time limit, preemption, a dead node)."
    )
    container: str = setting(
        "",
        help="An image in which Apptainer runs it; by default the Python of this command runs it.",
        panel=PLACE,
    )
    after: list[str] = setting([], help="Job that must end well first.", panel=PLACE)
    dry_run: bool = setting(False, help="Print what would be submitted, and do nothing.")

    def resources(self, **others: Any) -> Resources:
        """What an array task asks of the cluster, with other values for some fields."""
        return self.part(Resources, **{"nodes": 1, "extra": self.sbatch, **others})


@dataclass(frozen=True, kw_only=True)
class ShareSettings(ArraySettings):
    """An array whose tasks share out the work."""

    array_tasks: int = setting(
        0,
        help=f"Tasks of the array; 0: {TASKS_PER_PLACE} for each that runs at once, but no more "
        "than there is work.",
        minimum=0,
        panel=TASK,
        formerly="--elements",
    )


@dataclass(frozen=True, kw_only=True)
class TrainingArraySettings(ArraySettings):
    """An array whose tasks train one model each."""

    nodes: int = setting(1, help="Nodes of an array task.", minimum=1, panel=TASK)
    processes: int = setting(
        0, help="Processes of an array task on each node; 0: one per GPU.", minimum=0, panel=TASK
    )


@dataclass(frozen=True, kw_only=True)
class GridSettings(TrainingArraySettings):
    """An array with one task per student."""

    kd: list[str] = setting(
        ["none", "nst", "crd"],
        help="Objectives, separated by commas; nst+crd is one student with both, and crd:10 one "
        "whose weight γ is 10 (nst:10+crd:1).",
        panel=GRID,
    )
    student_seeds: str = setting(
        "0", help="Seeds of students: a range, a list with commas, or both.", panel=GRID
    )
    control: list[Literal["real", "shuffled", "random"]] = setting(
        ["real"], help="Teacher vectors; has no effect on none.", panel=GRID
    )

    def students(self) -> list[str]:
        """Objective (with its weight, if it has one), control and seed of each student, by slashes.

        Raises:
            SpeechkdError: only some of a student's objectives have a weight.
        """
        for kd in ",".join(self.kd).split(","):
            weighted = [":" in part for part in kd.split("+")]
            if any(weighted) and not all(weighted):
                raise SpeechkdError(f"--kd {kd}: give each objective of a student its γ, or none.")
        students: dict[str, None] = {}
        for kd in ",".join(self.kd).split(","):
            for control in self.control:
                for seed in parse_seeds(self.student_seeds):
                    students[f"{kd}/{'real' if kd == 'none' else control}/{seed}"] = None
        return list(students)


@dataclass(frozen=True)
class GridRun:
    """One run of a grid.

    Attributes:
        name: of its folder.
        seed: of it.
        values: of the flags that vary.
    """

    name: str
    seed: int
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunGridSettings(TrainingArraySettings):
    """An array with one task per run of pre-training."""

    seeds: str = setting(
        "0",
        help="Seeds of the runs: a range, a list with commas, or both. {seed} in a word after -- "
        "stands for each run's own.",
        panel=RUNS,
    )
    vary: list[str] = setting(
        [],
        help="An option of the command and its values, such as align=seq,tok; one run for each. "
        "Repeat it for another option: every value meets every other. A value that is a list is "
        "joined by +, as in losses=mlm,mlm+mam.",
        panel=RUNS,
    )

    def check(self) -> None:
        """Refuse what names no option or no value."""
        flags = self.flags()
        for text in self.vary:
            name, _, values = text.partition("=")
            if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or not all(values.split(",")):
                raise SpeechkdError(
                    f"--vary is {text!r}; write an option and its values, such as align=seq,tok."
                )
        if own := {"--seed", "--out"} & {*flags}:
            raise SpeechkdError(
                f"--vary names {own.pop()}; --seeds gives the seeds, and each run has its own "
                "folder."
            )
        if twice := [flag for flag in flags if flags.count(flag) > 1]:
            raise SpeechkdError(f"--vary names {twice[0]} twice; give all of its values at once.")

    def flags(self) -> list[str]:
        """The options that vary."""
        return [f"--{text.partition('=')[0]}" for text in self.vary]

    def runs(self, lists: Collection[str] = ()) -> list[GridRun]:
        """Every run, by values and then by seed.

        Args:
            lists: options whose values are lists, joined by commas.

        Raises:
            SpeechkdError: two runs would have one folder.
        """
        choices = [list(dict.fromkeys(t.partition("=")[2].split(","))) for t in self.vary]
        runs: dict[str, GridRun] = {}
        for values in itertools.product(*choices):
            exact = tuple(
                value.replace("+", ",") if flag in lists else value
                for flag, value in zip(self.flags(), values, strict=True)
            )
            for seed in parse_seeds(self.seeds):
                words = (re.sub(r"[^\w.+:-]", "_", value) for value in values)
                name = "-".join([*words, f"seed{seed}"])
                if name in runs:
                    raise SpeechkdError(f"--vary: two runs would have the folder {name}.")
                runs[name] = GridRun(name, seed, exact)
        return list(runs.values())


@dataclass(frozen=True, kw_only=True)
class AllSettings(GridSettings, ShareSettings):
    """A chain of all stages."""


@dataclass(frozen=True, kw_only=True)
class StatusSettings(Settings):
    """The settings of `speechkd slurm status`."""

    run: Path = setting(help="Folder of the run.", argument=True)
    follow: bool = setting(False, help="Look again and again until nothing runs or waits.")
    every: float = setting(10, help="How often.", unit="s", minimum=0.1)
