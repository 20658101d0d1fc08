"""What each stage's words become on a cluster: a job, the goal that it works for, its resources."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cluster.settings import (
    TASKS_PER_PLACE,
    ArraySettings,
    GridSettings,
    ShareSettings,
)
from pipeline.distillation.settings import DistillSettings
from pipeline.extraction.settings import ExtractSettings, FeatureSettings, TextSettings
from pipeline.finetuning.settings import CellSettings
from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from stages.finetune_audio import AudioSettings
from stages.finetune_audio_spans import AudioSpansSettings
from stages.finetune_audio_text import AudioTextSettings
from stages.finetune_mosei import MoseiSettings
from stages.finetune_table import TableSettings
from stages.options import parse

if TYPE_CHECKING:
    from pipeline.cache.store import TeacherCache
    from pipeline.cluster.goals import ExtractionGoal
    from pipeline.cluster.submission import Step

TEMPLATES = Path(__file__).parent
RULE = "# ---- from here on the same for every run ----\n"  # in each template, before its body
BEFORE_WORDS = "it is an option of `speechkd slurm`, before the --"
FINETUNE: dict[str, type[CellSettings]] = {
    "mosei": MoseiSettings,
    "table": TableSettings,
    "audio": AudioSettings,
    "audio-spans": AudioSpansSettings,
    "audio-text": AudioTextSettings,
}


def extract_step(settings: ShareSettings, words: Sequence[str]) -> "Step":
    """An array that extracts a teacher's rows.

    Raises:
        SpeechkdError: the command would not take these words, or there is no such manifest.
    """
    from pipeline.cluster.goals import ExtractionGoal
    from pipeline.foundation.storage import absolute
    from pipeline.shards.manifest import read_manifest

    _refuse_what_is_set(words)
    extraction = parse("extract-teacher", ExtractSettings, words)
    goal = ExtractionGoal(len(read_manifest(extraction.manifest)), absolute(extraction.cache))
    return _shares_of_shards(settings, words, goal)


def features_step(settings: ShareSettings, words: Sequence[str]) -> "Step":
    """An array that computes frames; without GPUs for prosody, which has no use for any.

    Raises:
        SpeechkdError: the command would not take these words, or there is no such manifest.
    """
    from pipeline.cluster.goals import FeaturesGoal
    from pipeline.foundation.storage import absolute
    from pipeline.shards.manifest import read_manifest

    _refuse_what_is_set(words)
    features = parse("extract-features", FeatureSettings, words)
    goal = FeaturesGoal(len(read_manifest(features.manifest)), absolute(features.cache))
    idle = {"gpus": 0} if features.features == "prosody" else {}
    return _shares_of_shards(settings, words, goal, **idle)


def text_step(settings: ShareSettings, words: Sequence[str]) -> "Step":
    """An array that computes a text encoder's states of another cache's transcripts.

    Raises:
        SpeechkdError: the command would not take these words, or that cache is not finished.
    """
    from pipeline.cluster.goals import TextGoal
    from pipeline.foundation.storage import absolute

    _refuse_what_is_set(words)
    text = parse("extract-text", TextSettings, words)
    goal = TextGoal(_shards_with_texts(settings, absolute(text.cache)), absolute(text.out))
    return _shares_of_shards(settings, words, goal)


def distill_step(settings: GridSettings, words: Sequence[str]) -> "tuple[Step, str]":
    """An array with one task per student, and the cache from which they are trained.

    Raises:
        SpeechkdError: the command would not take these words for one of the students.
    """
    from pipeline.cluster.goals import DistillationGoal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step
    from pipeline.foundation.storage import absolute

    for flag in ("--kd", "--control", "--seed", "--dry-run"):
        refuse(words, flag, BEFORE_WORDS)
    refuse(words, "--out", "each student has its own, in RUN/students")
    if len({student.partition("/")[0] for student in settings.students()}) > 1:
        refuse(words, "--gamma", "students differ in it; write it behind the objective, as crd:10")
    folder, students = settings.run.absolute() / "students", settings.students()
    cache: str | None = None
    for student in students:
        kd, control, seed = student.split("/")
        out = str(folder / student_name(student))
        parts = [part.partition(":") for part in kd.split("+")]
        names = ",".join(name for name, _, _ in parts)
        own = ["--kd", names, "--control", control, "--seed", seed, "--out", out]
        own += [word for _, _, gamma in parts if gamma for word in ("--gamma", gamma)]
        cache = parse("distill", DistillSettings, [*words, *own]).cache
    job = Job(
        "distill",
        template_body("distill.sbatch"),
        words,
        len(students),
        settings.at_once,
        {
            "students": students,
            "students_folder": str(folder),
            "processes": settings.processes or max(1, settings.gpus),
        },
    )
    goal = DistillationGoal(tuple(str(folder / student_name(student)) for student in students))
    step = Step(job, goal, settings.resources(nodes=settings.nodes))
    return step, absolute(cache) if cache else ""


def finetune_step(settings: ShareSettings, words: Sequence[str]) -> "Step":
    """An array that fine-tunes.

    Raises:
        SpeechkdError: the command would not take these words, or the data cannot be read.
    """
    from pipeline.cluster.goals import FinetuningGoal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step
    from pipeline.models.encoders import label_of

    _refuse_what_is_set(words)
    verb = words[0] if words else ""
    if verb not in FINETUNE:
        raise SpeechkdError(
            f"speechkd finetune {verb}: there is no such command; after finetune comes one of: "
            f"{', '.join(FINETUNE)}."
        )
    finetuning = parse(f"finetune {verb}", FINETUNE[verb], words[1:])
    questions = finetuning.questions()
    tasks = tuple(dict.fromkeys(question.task.name for question in questions))
    labels = tuple(dict.fromkeys(map(label_of, finetuning.checkpoint)))
    seeds = tuple(parse_seeds(finetuning.seeds))
    cells = len(labels) * len(questions) * len(seeds)
    array_tasks = _array_tasks(settings, cells)
    job = Job(
        "finetune",
        template_body("finetune.sbatch"),
        words,
        array_tasks,
        settings.at_once,
        {"array_tasks": array_tasks},
    )
    goal = FinetuningGoal(cells, str(finetuning.out.absolute()), labels, tasks, seeds)
    return Step(job, goal, settings.resources())


def report_step(settings: ArraySettings, cache: str, results: str, report: str) -> "Step":
    """The job that checks a cache and writes a report."""
    from pipeline.cluster.goals import ReportGoal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step

    job = Job("report", template_body("report.sbatch"), [cache, results, report])
    return Step(job, ReportGoal(report), settings.resources(gpus=0))


def check_cache(location: str) -> None:
    """Refuse a cache from which a student cannot be trained yet.

    Raises:
        SpeechkdError: it is not finished, or not there.
    """
    from pipeline.cache.store import TeacherCache

    check_finished(TeacherCache.open(location, kinds=("vector", "words")))


def student_name(student: str) -> str:
    """Name of a student's folder."""
    kd, control, seed = student.split("/")
    return f"{kd.replace(':', '-gamma')}-{control}-seed{seed}"


def refuse(words: Sequence[str], flag: str, why: str) -> None:
    """Refuse a flag that does not belong among a stage's words.

    Raises:
        SpeechkdError: it is there.
    """
    if any(word == flag or word.startswith(f"{flag}=") for word in words):
        raise SpeechkdError(f"{flag} does not belong after the --: {why}.")


def _refuse_what_is_set(words: Sequence[str]) -> None:
    refuse(words, "--array-task", "the array sets it")
    refuse(words, "--dry-run", BEFORE_WORDS)


def _shares_of_shards(
    settings: ShareSettings, words: Sequence[str], goal: "ExtractionGoal", **resources: int
) -> "Step":
    """The step of an array whose tasks divide the shards of a cache."""
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step

    array_tasks = _array_tasks(settings, goal.total)
    job = Job(
        goal.stage,
        template_body(f"{goal.stage.replace('-', '_')}.sbatch"),
        words,
        array_tasks,
        settings.at_once,
        {"array_tasks": array_tasks},
    )
    return Step(job, goal, settings.resources(**resources))


def _shards_with_texts(settings: ShareSettings, location: str) -> int:
    """Shards of a cache whose transcripts are read, or of one that an earlier job of RUN makes.

    Raises:
        SpeechkdError: there is no such cache and no such job, or it is not finished and no job is
            waited for.
    """
    from pipeline.cache.identity import KINDS
    from pipeline.cache.store import TeacherCache
    from pipeline.cluster.chain import read_plan_if_any
    from pipeline.cluster.goals import ExtractionGoal

    try:
        cache = TeacherCache.open(location, kinds=KINDS)
    except NotThere:
        plan = read_plan_if_any((settings.run / "slurm").absolute())
        made = (s for s in plan.stages if s.submission.id in settings.after)
        goals = (s.goal for s in made if isinstance(s.goal, ExtractionGoal))
        total = next((goal.total for goal in goals if goal.cache == location), None)
        if total is None:
            raise
        return total
    if not settings.after:
        check_finished(cache)
    return len(cache.manifest)


def check_finished(cache: "TeacherCache") -> None:
    """Refuse a cache that is not finished.

    Raises:
        SpeechkdError: some of its shards are not done.
    """
    unfinished = cache.unfinished()
    if unfinished:
        raise SpeechkdError(
            f"{cache.location}: {len(unfinished)} of {len(cache.manifest)} shards are not done. "
            "Finish it first, or give the job that does so: --after JOB."
        )


def _array_tasks(settings: ShareSettings, work: int) -> int:
    return min(settings.array_tasks or TASKS_PER_PLACE * settings.at_once, work)


def template_body(template: str) -> str:
    """The part of a template that is the same for every run, such as that of `distill.sbatch`."""
    return RULE + (TEMPLATES / template).read_text(encoding="utf-8").partition(RULE)[2]
