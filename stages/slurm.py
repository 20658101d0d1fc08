"""Hand the stages to Slurm as job arrays, and show how they stand by what they have left."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cluster.settings import (
    TASKS_PER_PLACE,
    AllSettings,
    ArraySettings,
    GridSettings,
    ShareSettings,
    StatusSettings,
)
from pipeline.distillation.settings import DistillSettings
from pipeline.extraction.settings import ExtractSettings
from pipeline.finetuning.settings import FinetuneSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from stages.finetune_mosei import MoseiSettings
from stages.finetune_table import TableSettings
from stages.options import parse

if TYPE_CHECKING:
    from pipeline.cluster.submission import Step

TEMPLATES = Path(__file__).parent
RULE = "# ---- from here on the same for every run ----\n"  # in each template, before its body
FILE_WIDTH = 140
BEFORE_WORDS = "it is an option of `speechkd slurm`, before the --"
FINETUNE: dict[str, type[FinetuneSettings]] = {"mosei": MoseiSettings, "table": TableSettings}


def extract_teacher(settings: ShareSettings) -> None:
    """Submit stage one as a job array: each array task extracts its share of the shards.

    After -- come the words of `speechkd extract-teacher`. They are checked before anything is
    submitted. The same command at any later time does what is left.

    Example: speechkd slurm extract-teacher --run RUN --at-once 4 -- shards/manifest.jsonl
    --cache RUN/cache
    """
    _submit(settings, [_extract_step(settings, settings.words)])


def distill(settings: GridSettings) -> None:
    """Submit stage two as a job array: each array task trains one student.

    A student is an objective, a control and a seed; its folder is RUN/students/KD-CONTROL-seedN.
    --kd none,crd,crd:10 is three: without a teacher, with crd, and with crd at γ = 10, whose folder
    is crd-gamma10-real-seed0.
    After -- come the other words of `speechkd distill`. With several GPUs or nodes an array task
    starts torchrun. The same command at any later time does what is left.

    Example: speechkd slurm distill --run RUN --kd none,crd --student-seeds 0-2 -- RUN/cache
    """
    step, cache = _distill_step(settings, settings.words)
    if not settings.after:
        _check_cache(cache)
    _submit(settings, [step])


def finetune(settings: ShareSettings) -> None:
    """Submit fine-tuning as a job array: each array task computes its share of the cells.

    After -- come the words of `speechkd finetune`. The same command at any later time does what is
    left.

    Example: speechkd slurm finetune --run RUN -- mosei --data label.csv
    --checkpoint RUN/students/crd-real-seed0 --out RUN/results
    """
    _submit(settings, [_finetune_step(settings, settings.words)])


def everything(settings: AllSettings) -> None:
    """Submit all stages as a chain, from tar shards to a report.

    The words of each stage follow a -- of their own, without those that `all` sets itself: the
    cache is RUN/cache, students are in RUN/students, results in RUN/results, the report in
    RUN/report, and every student is fine-tuned. A stage starts when the whole stage before it has
    ended well. The last job checks the cache and writes the report.

    Example: speechkd slurm all --run RUN --kd none,crd -- extract-teacher shards/manifest.jsonl
    -- distill --epochs 40 -- finetune mosei --data label.csv
    """
    words = _words_by_stage(settings.words)
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
    training, _ = _distill_step(settings, [cache, *words["distill"]])
    _submit(
        settings,
        [
            _extract_step(settings, [*words["extract-teacher"], "--cache", cache]),
            training,
            _finetune_step(settings, finetuning),
            _report_step(settings, cache, results, str(run / "report")),
        ],
    )


def status(settings: StatusSettings) -> None:
    """Show how each stage of a run stands: done, running, waiting, failed, rate, time left.

    What is done is read from receipts, run records and results, not from the queue. If an array
    task failed, the message says which and why, and the exit status is 1.

    Example: speechkd slurm status RUN --follow
    """
    from rich.console import Console
    from rich.live import Live

    from pipeline.cluster.chain import read_plan
    from pipeline.cluster.status import make_page

    folder, console = settings.run / "slurm", Console(highlight=False)
    if not console.is_terminal:  # whose width is not known: leave each row on its line
        console.width = max(console.width, FILE_WIDTH)
    page = make_page(read_plan(folder))
    if settings.follow:
        with Live(page.table, console=console, auto_refresh=False, transient=True) as live:
            while page.active:
                time.sleep(settings.every)
                page = make_page(read_plan(folder))
                live.update(page.table, refresh=True)
    console.print(page.table)
    if page.failed:
        raise SpeechkdError(
            "\n".join(["not everything ended well:", *page.failed])
            + "\nMend the cause and submit the same again; what is done is not done again."
        )


def _submit(settings: ArraySettings, steps: "Sequence[Step]") -> None:
    """Say what will be done and submit it, or print the scripts of a dry run."""
    from pipeline.cluster.submission import scripts, submit_chain
    from pipeline.foundation.progress import say

    if settings.dry_run:
        for path, text in scripts(settings, steps).items():
            print(f"==> {path}\n{text}")
    for step in steps:
        say(str(step))
    if settings.dry_run:
        say("nothing submitted (--dry-run)")
        return
    for submission in submit_chain(settings, steps):
        print(f"{submission.stage}  job {submission.id}")
    say(f"watch it: speechkd slurm status {shlex.quote(str(settings.run))} --follow")


def _body(template: str) -> str:
    """The part of a template that is the same for every run."""
    return RULE + (TEMPLATES / template).read_text(encoding="utf-8").partition(RULE)[2]


def _extract_step(settings: ShareSettings, words: Sequence[str]) -> "Step":
    from pipeline.cluster.goals import ExtractionGoal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step
    from pipeline.foundation.storage import absolute
    from pipeline.shards.manifest import read_manifest

    _refuse(words, "--array-task", "the array sets it")
    _refuse(words, "--dry-run", BEFORE_WORDS)
    extraction = parse("extract-teacher", ExtractSettings, words)
    shards = len(read_manifest(extraction.manifest))
    array_tasks = _array_tasks(settings, shards)
    job = Job(
        "extract-teacher",
        _body("extract_teacher.sbatch"),
        words,
        array_tasks,
        settings.at_once,
        {"array_tasks": array_tasks},
    )
    return Step(job, ExtractionGoal(shards, absolute(extraction.cache)), settings.resources())


def _distill_step(settings: GridSettings, words: Sequence[str]) -> "tuple[Step, str]":
    """The step, and the cache from which it trains."""
    from pipeline.cluster.goals import DistillationGoal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step
    from pipeline.foundation.storage import absolute

    for flag in ("--kd", "--control", "--seed", "--dry-run"):
        _refuse(words, flag, BEFORE_WORDS)
    _refuse(words, "--out", "each student has its own, in RUN/students")
    if len({student.partition("/")[0] for student in settings.students()}) > 1:
        _refuse(words, "--gamma", "students differ in it; write it behind the objective, as crd:10")
    folder, students, cache = settings.run.absolute() / "students", settings.students(), ""
    for student in students:
        kd, control, seed = student.split("/")
        out = str(folder / _student_name(student))
        parts = [part.partition(":") for part in kd.split("+")]
        names = ",".join(name for name, _, _ in parts)
        own = ["--kd", names, "--control", control, "--seed", seed, "--out", out]
        own += [word for _, _, gamma in parts if gamma for word in ("--gamma", gamma)]
        cache = parse("distill", DistillSettings, [*words, *own]).cache
    job = Job(
        "distill",
        _body("distill.sbatch"),
        words,
        len(students),
        settings.at_once,
        {
            "students": students,
            "students_folder": str(folder),
            "processes": settings.processes or max(1, settings.gpus),
        },
    )
    goal = DistillationGoal(tuple(str(folder / _student_name(student)) for student in students))
    step = Step(job, goal, settings.resources(nodes=settings.nodes))
    return step, absolute(cache)


def _finetune_step(settings: ShareSettings, words: Sequence[str]) -> "Step":
    from pipeline.cluster.goals import FinetuningGoal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step
    from pipeline.models.encoders import label_of

    _refuse(words, "--array-task", "the array sets it")
    _refuse(words, "--dry-run", BEFORE_WORDS)
    verb = words[0] if words else ""
    if verb not in FINETUNE:
        raise SpeechkdError(
            f"speechkd finetune {verb}: there is no such command; after finetune comes one of: "
            f"{', '.join(FINETUNE)}."
        )
    finetuning = parse(f"finetune {verb}", FINETUNE[verb], words[1:])
    titles = _asked(finetuning)
    tasks = tuple(dict.fromkeys(task for task, _ in titles))
    labels = tuple(dict.fromkeys(map(label_of, finetuning.checkpoint)))
    seeds = tuple(parse_seeds(finetuning.seeds))
    cells = len(labels) * len(titles) * len(seeds)
    array_tasks = _array_tasks(settings, cells)
    job = Job(
        "finetune",
        _body("finetune.sbatch"),
        words,
        array_tasks,
        settings.at_once,
        {"array_tasks": array_tasks},
    )
    goal = FinetuningGoal(cells, str(finetuning.out.absolute()), labels, tasks, seeds)
    return Step(job, goal, settings.resources())


def _asked(settings: FinetuneSettings) -> list[tuple[str, str]]:
    """Task and fold of each question that is asked, from the data itself.

    Raises:
        SpeechkdError: the data cannot be read, or does not have the labels.
    """
    match settings:
        case MoseiSettings():
            _, questions = settings.ask(settings.read())
        case TableSettings():
            questions = settings.read().questions
        case _:
            raise TypeError(f"{type(settings).__name__} asks nothing")
    return [(question.task.name, question.fold) for question in questions]


def _report_step(settings: ArraySettings, cache: str, results: str, report: str) -> "Step":
    from pipeline.cluster.goals import ReportGoal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step

    job = Job("report", _body("report.sbatch"), [cache, results, report])
    return Step(job, ReportGoal(report), settings.resources(gpus=0))


def _check_cache(location: str) -> None:
    from pipeline.cache.store import TeacherCache

    cache = TeacherCache.open(location)
    unfinished = cache.unfinished()
    if unfinished:
        raise SpeechkdError(
            f"{location}: {len(unfinished)} of {len(cache.manifest)} shards are not done. Finish "
            "it first, or give the job that does so: --after JOB."
        )


def _array_tasks(settings: ShareSettings, work: int) -> int:
    return min(settings.array_tasks or TASKS_PER_PLACE * settings.at_once, work)


def _student_name(student: str) -> str:
    kd, control, seed = student.split("/")
    return f"{kd.replace(':', '-gamma')}-{control}-seed{seed}"


def _refuse(words: Sequence[str], flag: str, why: str) -> None:
    if any(word == flag or word.startswith(f"{flag}=") for word in words):
        raise SpeechkdError(f"{flag} does not belong after the --: {why}.")


def _words_by_stage(words: Sequence[str]) -> dict[str, list[str]]:
    """The words of each stage of a chain; each group of words begins with the stage's name."""
    order = ["extract-teacher", "distill", "finetune"]
    groups: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            groups.append([])
        else:
            groups[-1].append(word)
    by_stage = {group[0]: group[1:] for group in groups if group}
    if list(by_stage) != order:
        raise SpeechkdError(
            f"after -- stands {', '.join(by_stage) or 'nothing'}; wanted is -- extract-teacher … "
            "-- distill … -- finetune mosei …, in this order."
        )
    return by_stage


COMMANDS = {
    "slurm extract-teacher": (ShareSettings, extract_teacher),
    "slurm distill": (GridSettings, distill),
    "slurm finetune": (ShareSettings, finetune),
    "slurm all": (AllSettings, everything),
    "slurm status": (StatusSettings, status),
}
