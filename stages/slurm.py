"""Hand the stages to Slurm as job arrays, and show from their results how they stand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cluster.settings import (
    ELEMENTS_EACH_PLACE,
    AllSettings,
    ArraySettings,
    GridSettings,
    ShareSettings,
    StatusSettings,
)
from pipeline.finetuning.settings import FinetuneSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import Settings
from stages.distill import DistillSettings
from stages.extract_teacher import ExtractSettings
from stages.finetune_mosei import MoseiSettings
from stages.finetune_table import TableSettings
from stages.options import parse

if TYPE_CHECKING:
    from pipeline.cluster.submission import Step

TEMPLATES = Path(__file__).parent
FINETUNE: dict[str, type[FinetuneSettings]] = {"mosei": MoseiSettings, "table": TableSettings}


def extract_teacher(settings: ShareSettings) -> None:
    """Submit stage one as a job array: each element extracts its share of the shards.

    After -- come the words of `speechkd extract-teacher`. They are checked before anything is
    submitted. Submitting it again at any later time does what is left.

    Example: speechkd slurm extract-teacher --run RUN --at-once 4 -- shards/manifest.jsonl
    --cache RUN/cache
    """
    from pipeline.cluster.submission import submit_chain

    submit_chain(settings, [_extraction(settings, settings.words)])


def distill(settings: GridSettings) -> None:
    """Submit stage two as a job array: each element trains one student.

    A student is an objective, a control and a seed; its folder is RUN/students/KD-CONTROL-seedN.
    After -- come the other words of `speechkd distill`. With several GPUs or nodes an element
    starts torchrun. Submitting it again at any later time does what is left.

    Example: speechkd slurm distill --run RUN --kd none,crd --student-seeds 0-2 -- RUN/cache
    """
    from pipeline.cluster.submission import submit_chain

    step = _distillation(settings, settings.words)
    if not settings.after:
        _check_cache(step.goal.cache)
    submit_chain(settings, [step])


def finetune(settings: ShareSettings) -> None:
    """Submit fine-tuning as a job array: each element takes its share of the cells.

    After -- come the words of `speechkd finetune`. Submitting it again at any later time does what
    is left.

    Example: speechkd slurm finetune --run RUN -- mosei --data label.csv
    --checkpoint RUN/students/crd-real-seed0 --out RUN/results
    """
    from pipeline.cluster.submission import submit_chain

    submit_chain(settings, [_finetuning(settings, settings.words)])


def everything(settings: AllSettings) -> None:
    """Submit all stages as a chain, from tar shards to a report.

    The words of each stage stand after a -- of their own, without what `all` sets itself: the
    cache is RUN/cache, students are in RUN/students, results in RUN/results, the report in
    RUN/report, and every student is fine-tuned. A stage starts when all of the one before it
    ended well; the last job checks the cache and writes the report.

    Example: speechkd slurm all --run RUN --kd none,crd -- extract-teacher shards/manifest.jsonl
    -- distill --epochs 40 -- finetune mosei --data label.csv
    """
    from pipeline.cluster.submission import submit_chain

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
    submit_chain(
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
    from pipeline.cluster.status import show

    failed = show(settings.run / "slurm", settings.every if settings.follow else None)
    if failed:
        raise SpeechkdError(
            "\n".join(["not everything ended well:", *failed])
            + "\nMend the cause and submit the same again; what is done is not done again."
        )


def _extraction(settings: ShareSettings, words: Sequence[str]) -> "Step":
    from pipeline.cluster.chain import Goal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step
    from pipeline.foundation.storage import absolute
    from pipeline.shards.manifest import read_manifest

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
    return Step(
        job,
        Goal("extract-teacher", total=shards, cache=absolute(given.cache)),
        settings.resources(),
    )


def _distillation(settings: GridSettings, words: Sequence[str]) -> "Step":
    from pipeline.cluster.chain import Goal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step
    from pipeline.foundation.storage import absolute

    for flag in ("--kd", "--control", "--seed"):
        _refuse(words, flag, "it is an option of `speechkd slurm`, before the --")
    _refuse(words, "--out", "each student has its own, in RUN/students")
    folder, students, cache = settings.run.absolute() / "students", settings.students(), ""
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
    goal = Goal("distill", total=len(students), cache=absolute(cache), students=folders)
    return Step(job, goal, replace(settings.resources(), nodes=settings.nodes))


def _finetuning(settings: ShareSettings, words: Sequence[str]) -> "Step":
    from pipeline.cluster.chain import Goal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step
    from pipeline.models.encoders import label_of

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
    return Step(job, goal, settings.resources())


def _tasks(settings: FinetuneSettings) -> tuple[str, ...]:
    """Names of the tasks that are trained, from the data itself; () where there is just one.

    Raises:
        SpeechkdError: the data cannot be read, or does not have the labels.
    """
    match settings:
        case MoseiSettings():
            _, questions = settings.ask(settings.read())
            return tuple(question.task.name for question in questions)
        case TableSettings():
            if not settings.data.is_file():
                raise SpeechkdError(f"{settings.data}: there is no such table.")
    return ()


def _reporting(settings: ArraySettings, cache: str, results: str, report: str) -> "Step":
    from pipeline.cluster.chain import Goal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step

    job = Job("report", TEMPLATES / "report.sbatch", [cache, results, report])
    goal = Goal("report", total=1, report=report)
    return Step(job, goal, replace(settings.resources(), gpus=0))


def _check_cache(location: str) -> None:
    from pipeline.cache.store import TeacherCache

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


COMMANDS: dict[str, tuple[type[Settings], Callable[[Any], None]]] = {
    "extract-teacher": (ShareSettings, extract_teacher),
    "distill": (GridSettings, distill),
    "finetune": (ShareSettings, finetune),
    "all": (AllSettings, everything),
    "status": (StatusSettings, status),
}
