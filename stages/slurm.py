"""Hand the stages to Slurm as job arrays, and show from their results how they stand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import SpeechkdError
from pipeline.finetune_settings import FinetuneSettings, parse_seeds
from pipeline.settings import Settings, setting
from stages.distill import DistillSettings
from stages.extract_teacher import ExtractSettings
from stages.finetune import MoseiSettings, mosei_grid
from stages.finetune_table import TableSettings
from stages.options import parse

if TYPE_CHECKING:
    from pipeline.chain import Goal, Plan
    from pipeline.slurm import Environment, Job, Resources

ELEMENT, GRID, PLACE = "One element", "The students", "Where it runs"
TEMPLATES = Path(__file__).parent
FINETUNE: dict[str, type[FinetuneSettings]] = {"mosei": MoseiSettings, "table": TableSettings}
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

    def resources(self) -> "Resources":
        """What an element asks of the cluster."""
        from pipeline.slurm import Resources

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
        found = {}
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


def extract_teacher(settings: ShareSettings) -> None:
    """Submit stage one as a job array: each element extracts its share of the shards.

    After -- come the words of `speechkd extract-teacher`. They are checked before anything is
    submitted. Submitting it again at any later time does what is left.

    Example: speechkd slurm extract-teacher --run RUN --at-once 4 -- shards/manifest.jsonl
    --cache RUN/cache
    """
    _submit(settings, [_extraction(settings, settings.words)])


def distill(settings: GridSettings) -> None:
    """Submit stage two as a job array: each element trains one student.

    A student is an objective, a control and a seed; its folder is RUN/students/KD-CONTROL-seedN.
    After -- come the other words of `speechkd distill`. With several GPUs or nodes an element
    starts torchrun. Submitting it again at any later time does what is left.

    Example: speechkd slurm distill --run RUN --kd none,crd --student-seeds 0-2 -- RUN/cache
    """
    step = _distillation(settings, settings.words)
    if not settings.after:
        _check_cache(step.goal.cache)
    _submit(settings, [step])


def finetune(settings: ShareSettings) -> None:
    """Submit fine-tuning as a job array: each element takes its share of the cells.

    After -- come the words of `speechkd finetune`. Submitting it again at any later time does what
    is left.

    Example: speechkd slurm finetune --run RUN -- mosei --data label.csv
    --checkpoint RUN/students/crd-real-seed0 --out RUN/results
    """
    _submit(settings, [_finetuning(settings, settings.words)])


def everything(settings: AllSettings) -> None:
    """Submit all stages as a chain, from tar shards to a report.

    The words of each stage stand after a -- of their own, without what `all` sets itself: the
    cache is RUN/cache, students are in RUN/students, results in RUN/results, the report in
    RUN/report, and every student is fine-tuned. A stage starts when all of the one before it
    ended well; the last job checks the cache and writes the report.

    Example: speechkd slurm all --run RUN --kd none,crd -- extract-teacher shards/manifest.jsonl
    -- distill --epochs 40 -- finetune mosei --data label.csv
    """
    words = _groups(settings.words)
    run = settings.run.absolute()
    cache, results = str(run / "cache"), str(run / "results")
    _refuse(words["extract-teacher"], "--cache", "`slurm all` sets it")
    _refuse(words["finetune"], "--out", "`slurm all` sets it")
    folders = [
        f"{name}={run / 'students' / name}" for name in map(_student_name, settings.students())
    ]
    finetuning = [*words["finetune"], "--out", results]
    for folder in folders:
        finetuning += ["--checkpoint", folder]
    _submit(
        settings,
        [
            _extraction(settings, [*words["extract-teacher"], "--cache", cache]),
            _distillation(settings, [cache, *words["distill"]]),
            _finetuning(settings, finetuning),
            _reporting(settings, cache, results, str(run / "report")),
        ],
    )


def status(settings: StatusSettings) -> None:
    """Show how each stage of a run stands: done, running, waiting, failed, rate, time left.

    What is done is read from receipts, run records and results, not from the queue. Ends with
    status 1 where an element failed, and says which and why.

    Example: speechkd slurm status RUN --follow
    """
    import time

    from rich.console import Console, Group
    from rich.live import Live

    from pipeline.chain import read_plan

    plan = read_plan(settings.run / "slurm")
    console = Console(highlight=False)
    page, failed, active = _page(plan)
    if settings.follow:
        with Live(page, console=console, auto_refresh=False, transient=True) as live:
            while active:
                time.sleep(settings.every)
                page, failed, active = _page(read_plan(settings.run / "slurm"))
                live.update(page, refresh=True)
    console.print(Group(page))
    if failed:
        raise SpeechkdError(
            "\n".join(["not everything ended well:", *failed])
            + "\nMend the cause and submit the same again; what is done is not done again."
        )


@dataclass(frozen=True)
class _Step:
    """A job, and where to see how far it has come."""

    job: "Job"
    goal: "Goal"
    resources: "Resources"


def _extraction(settings: ShareSettings, words: Sequence[str]) -> _Step:
    from pipeline.chain import Goal
    from pipeline.manifest import read_manifest
    from pipeline.slurm import Job
    from pipeline.storage import absolute

    _refuse(words, "--array-task", "the array sets it")
    given = parse("extract-teacher", ExtractSettings, words)
    shards = len(read_manifest(given.manifest))
    elements = _elements(settings, shards)
    job = Job(
        "extract-teacher",
        TEMPLATES / "extract_teacher.sbatch",
        words,
        elements,
        settings.at_once,
        {"elements": elements},
    )
    return _Step(
        job,
        Goal("extract-teacher", total=shards, cache=absolute(given.cache)),
        settings.resources(),
    )


def _distillation(settings: GridSettings, words: Sequence[str]) -> _Step:
    from pipeline.chain import Goal
    from pipeline.slurm import Job

    for flag in ("--kd", "--control", "--seed"):
        _refuse(words, flag, "it is an option of `speechkd slurm`, before the --")
    _refuse(words, "--out", "each student has its own, in RUN/students")
    folder, students, cache = settings.run.absolute() / "students", settings.students(), Path()
    for student in students:
        kd, control, seed = student.split("/")
        out = str(folder / _student_name(student))
        own = ["--kd", kd.replace("+", ","), "--control", control, "--seed", seed, "--out", out]
        cache = parse("distill", DistillSettings, [*words, *own]).cache
    job = Job(
        "distill",
        TEMPLATES / "distill.sbatch",
        words,
        len(students),
        settings.at_once,
        {
            "students": students,
            "students_folder": str(folder),
            "processes": settings.processes or max(1, settings.gpus),
        },
    )
    folders = tuple(str(folder / _student_name(student)) for student in students)
    goal = Goal("distill", total=len(students), cache=str(cache.absolute()), students=folders)
    return _Step(job, goal, replace(settings.resources(), nodes=settings.nodes))


def _finetuning(settings: ShareSettings, words: Sequence[str]) -> _Step:
    from pipeline.chain import Goal
    from pipeline.pretrained import label_of
    from pipeline.slurm import Job

    _refuse(words, "--array-task", "the array sets it")
    verb = words[0] if words else ""
    if verb not in FINETUNE:
        raise SpeechkdError(
            f"speechkd finetune {verb}: there is no such command; after finetune comes one of: "
            f"{', '.join(FINETUNE)}."
        )
    given = parse(f"finetune {verb}", FINETUNE[verb], words[1:])
    tasks = _tasks(given)
    labels = tuple(dict.fromkeys(map(label_of, given.checkpoint)))
    cells = len(labels) * max(1, len(tasks)) * len(parse_seeds(given.seeds))
    elements = _elements(settings, cells)
    job = Job(
        "finetune",
        TEMPLATES / "finetune.sbatch",
        words,
        elements,
        settings.at_once,
        {"elements": elements},
    )
    goal = Goal(
        "finetune",
        total=cells,
        results=str(given.out.absolute()),
        labels=labels,
        tasks=tasks,
        seeds=tuple(parse_seeds(given.seeds)),
    )
    return _Step(job, goal, settings.resources())


def _tasks(settings: FinetuneSettings) -> tuple[str, ...]:
    """Names of the tasks that are trained, from the data itself; () where there is just one.

    Raises:
        SpeechkdError: the data cannot be read, or does not have the labels.
    """
    match settings:
        case MoseiSettings():
            from pipeline.mosei.reading import read_mosei

            corpus = read_mosei(
                settings.data,
                text=settings.text,
                folds=settings.folds,
                allow_pickle=settings.allow_pickle,
            )
            grid = mosei_grid(settings, corpus)
            return tuple(question.task.name for question in grid.questions)
        case TableSettings():
            if not settings.data.is_file():
                raise SpeechkdError(f"{settings.data}: there is no such table.")
    return ()


def _reporting(settings: ArraySettings, cache: str, results: str, report: str) -> _Step:
    from pipeline.chain import Goal
    from pipeline.slurm import Job

    job = Job("report", TEMPLATES / "report.sbatch", [cache, results, report])
    goal = Goal("report", total=1, report=report)
    return _Step(job, goal, replace(settings.resources(), gpus=0))


def _submit(settings: ArraySettings, steps: Sequence[_Step]) -> None:
    """Submit the steps as a chain, all of them or none."""
    import shlex

    from pipeline.chain import StagePlan, read_plan_if_any, write_plan
    from pipeline.progress import say
    from pipeline.slurm import available, cancel, script, submit

    folder = (settings.run / "slurm").absolute()
    texts = [
        script(
            step.job,
            step.resources,
            _environment(settings),
            folder,
        )
        for step in steps
    ]
    if settings.dry_run:
        for step, text in zip(steps, texts, strict=True):
            print(f"==> {_script_path(folder, step)}\n{text}")
    for step in steps:
        job = step.job
        at_once = min(job.at_once, job.elements)
        array = f", array of {job.elements:,}, {at_once:,} at once" if job.elements else ""
        say(f"{job.stage}: {step.goal.total:,} {step.goal.unit}{array}")
    if settings.dry_run:
        say("nothing submitted (--dry-run)")
        return
    if not available():
        raise SpeechkdError(
            "there is no sbatch here. Run this on a login node of a Slurm cluster; --dry-run "
            "shows the scripts anywhere."
        )
    plan = read_plan_if_any(folder)
    _check_idle(plan, [step.job.stage for step in steps])
    after, submitted = list(settings.after), []
    try:
        for step, text in zip(steps, texts, strict=True):
            submitted.append(submit(step.job, _script_path(folder, step), text, after))
            after = [submitted[-1].id]
    except SpeechkdError:
        if submitted:
            cancel([submission.id for submission in submitted])
            say("the stages that were already submitted are cancelled")
        raise
    new = [StagePlan(s.goal, done) for s, done in zip(steps, submitted, strict=True)]
    write_plan(plan.with_stages(new))
    for submission in submitted:
        print(f"{submission.stage}  job {submission.id}")
    say(f"watch it: speechkd slurm status {shlex.quote(str(settings.run))} --follow")


def _script_path(folder: Path, step: _Step) -> Path:
    return folder / f"{step.job.stage.replace('-', '_')}.sbatch"


def _environment(settings: ArraySettings) -> "Environment":
    import sys

    from pipeline.slurm import Environment

    # not resolved: a virtual environment's python is a link out of it
    return Environment(Path.cwd(), Path(sys.executable).absolute().parent, settings.container)


def _check_idle(plan: "Plan", stages: Sequence[str]) -> None:
    """Refuse a second array beside one that still works on the same."""
    from pipeline.slurm import queue

    ids = [stage.submission.id for stage in plan.stages if stage.goal.stage in stages]
    busy = sorted({job for job, _ in queue(ids)})
    if busy:
        raise SpeechkdError(
            f"job {', '.join(busy)} of this run is still in the queue. Wait for it, or take it out "
            f"first: scancel {' '.join(busy)}"
        )


def _check_cache(location: str) -> None:
    from pipeline.cache import TeacherCache

    cache = TeacherCache.open(location)
    unfinished = cache.unfinished()
    if unfinished:
        raise SpeechkdError(
            f"{location}: {len(unfinished)} of {len(cache.manifest)} shards are not done. Finish "
            "it first, or give the job that does so: --after JOB."
        )


def _elements(settings: ShareSettings, work: int) -> int:
    wanted = getattr(settings, "elements", 0) or ELEMENTS_EACH_PLACE * settings.at_once
    return min(wanted, work)


def _student_name(student: str) -> str:
    kd, control, seed = student.split("/")
    return f"{kd}-{control}-seed{seed}"


def _refuse(words: Sequence[str], flag: str, why: str) -> None:
    if any(word == flag or word.startswith(f"{flag}=") for word in words):
        raise SpeechkdError(f"{flag} does not belong after the --: {why}.")


def _groups(words: Sequence[str]) -> dict[str, list[str]]:
    """The words of each stage of a chain; each group begins with the stage's name."""
    order = ["extract-teacher", "distill", "finetune"]
    groups: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            groups.append([])
        else:
            groups[-1].append(word)
    found = {group[0]: group[1:] for group in groups if group}
    if list(found) != order:
        raise SpeechkdError(
            f"after -- come {', '.join(found) or 'no words'}; wanted is -- extract-teacher … "
            "-- distill … -- finetune mosei …, in this order."
        )
    return found


def _page(plan: "Plan") -> tuple[Any, list[str], bool]:
    """The table of a run, the elements that did not end well, and whether anything goes on."""
    from rich.table import Table

    from pipeline.chain import stand
    from pipeline.progress import duration
    from pipeline.slurm import count, queue

    queued = queue([stage.submission.id for stage in plan.stages])
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("job", no_wrap=True)
    for name in ("done", "running", "waiting", "failed", "rate", "time left"):
        table.add_column(name, justify="right", no_wrap=True)
    failed, active = [], False
    for stage in plan.stages:
        standing = stand(plan, stage, queued)
        states = count(standing.elements)
        bad = (
            []
            if standing.finished
            else [
                element
                for element in standing.elements
                if element.state in ("failed", "ended", "not started")
            ]
        )
        active = active or bool(states["running"] or states["waiting"])
        rate = standing.rate and f"{standing.rate * 3600:,.1f} {standing.rate_unit}/h"
        table.add_row(
            stage.goal.stage,
            stage.submission.id,
            f"{standing.done:,} of {stage.goal.total:,} {stage.goal.unit}",
            f"{states['running']:,}",
            f"{states['waiting']:,}",
            f"{len(bad):,}",
            rate or "",
            duration(standing.seconds_left) if standing.seconds_left else "",
        )
        idle = [element for element in bad if element.state == "not started"]
        for element in bad:
            suffix = f" element {element.index}" if stage.submission.elements else ""
            if element not in idle:
                told = f"{element.state}: {element.why} ({element.log})"
                failed.append(f"  {stage.goal.stage}{suffix}: {told}")
        if idle:
            failed.append(
                f"  {stage.goal.stage}: {len(idle):,} never started: cancelled, or a stage before "
                "failed"
            )
    return table, failed, active


COMMANDS: dict[str, tuple[type[Settings], Callable[[Any], None]]] = {
    "extract-teacher": (ShareSettings, extract_teacher),
    "distill": (GridSettings, distill),
    "finetune": (ShareSettings, finetune),
    "all": (AllSettings, everything),
    "status": (StatusSettings, status),
}
