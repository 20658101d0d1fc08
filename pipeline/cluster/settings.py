"""The settings of `speechkd slurm`: what an element asks for, what an array is made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.cluster.slurm import Resources
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import Settings, setting

ELEMENT, GRID, PLACE = "One element", "The students", "Where it runs"
ELEMENTS_EACH_PLACE = 4
"""By default an array has so many elements for each that runs at once: a place that is free early
takes the next, and loading a model still costs little beside an element's work."""


@dataclass(frozen=True, kw_only=True)
class ArraySettings(Settings):
    """What every submission shares."""

    words: list[str] = setting(
        help="After --: the words that follow the stage's own command.", argument=True
    )
    run: Path = setting(
        help="Folder of the run: scripts, logs and the record of jobs go to slurm/ in it."
    )
    at_once: int = setting(8, help="Elements that may run at a time.", minimum=1, panel=ELEMENT)
    time: str = setting("08:00:00", help="Time limit of an element.", panel=ELEMENT)
    memory: str = setting("32G", help="Memory of an element, on each node.", panel=ELEMENT)
    cpus: int = setting(8, help="Cores of an element, on each node.", minimum=1, panel=ELEMENT)
    gpus: int = setting(1, help="GPUs of an element, on each node.", minimum=0, panel=ELEMENT)
    partition: str = setting("", help="Partition; the cluster's default if empty.", panel=PLACE)
    account: str = setting("", help="Whom to charge; your default if empty.", panel=PLACE)
    sbatch: list[str] = setting(
        [], help="A further option of sbatch, such as --sbatch=--constraint=a100.", panel=PLACE
    )
    warning_seconds: int = setting(
        120,
        help="How long before its time limit an element is told to save and to queue again; "
        "Slurm may tell it a minute earlier.",
        unit="s",
        minimum=1,
        panel=ELEMENT,
    )
    requeue: bool = setting(
        True, help="Let Slurm queue an element again (time limit, preemption, a dead node)."
    )
    container: str = setting(
        "", help="An image that Apptainer runs it in; else the Python of this command.", panel=PLACE
    )
    after: list[str] = setting([], help="Job that must have ended well before.", panel=PLACE)
    dry_run: bool = setting(False, help="Print what would be submitted, and do nothing.")

    def resources(self) -> Resources:
        """What an element asks of the cluster."""
        return Resources(
            time=self.time,
            memory=self.memory,
            cpus=self.cpus,
            gpus=self.gpus,
            partition=self.partition,
            account=self.account,
            warning_seconds=self.warning_seconds,
            requeue=self.requeue,
            extra=self.sbatch,
        )


@dataclass(frozen=True, kw_only=True)
class ShareSettings(ArraySettings):
    """An array whose elements share out the work."""

    elements: int = setting(
        0,
        help=f"Elements of the array; 0: {ELEMENTS_EACH_PLACE} for each that runs at once, but no "
        "more than there is work.",
        minimum=0,
        panel=ELEMENT,
    )


@dataclass(frozen=True, kw_only=True)
class GridSettings(ArraySettings):
    """An array with an element a student."""

    kd: list[str] = setting(
        ["none", "nst", "crd"],
        help="Objectives, by commas; nst+crd is one student with both.",
        panel=GRID,
    )
    student_seeds: str = setting(
        "0", help="Seeds of students: a range, a list by commas, or both.", panel=GRID
    )
    control: list[Literal["real", "shuffled", "random"]] = setting(
        ["real"], help="Teacher vectors; does not apply to none.", panel=GRID
    )
    nodes: int = setting(1, help="Nodes of a student.", minimum=1, panel=ELEMENT)
    processes: int = setting(
        0, help="Processes of a student on each node; 0: one a GPU.", minimum=0, panel=ELEMENT
    )

    def students(self) -> list[str]:
        """Objective, control and seed of each student, by slashes."""
        found: dict[str, None] = {}
        for kd in (name for given in self.kd for name in given.split(",")):
            for control in self.control:
                for seed in parse_seeds(self.student_seeds):
                    found[f"{kd}/{'real' if kd == 'none' else control}/{seed}"] = None
        return list(found)


@dataclass(frozen=True, kw_only=True)
class AllSettings(GridSettings, ShareSettings):
    """A chain of all stages."""


@dataclass(frozen=True, kw_only=True)
class StatusSettings(Settings):
    """What `speechkd slurm status` looks at."""

    run: Path = setting(help="Folder of the run.", argument=True)
    follow: bool = setting(False, help="Keep looking until nothing runs or waits.")
    every: float = setting(10, help="How often.", unit="s", minimum=0.1)
