"""What the words of `speechkd pretrain …` become on a cluster: an array with one task per run."""

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_origin, get_type_hints

from pipeline.cluster.settings import RunGridSettings
from pipeline.foundation.settings import flag_name
from pipeline.pretraining.ctal.settings import CtalSettings
from pipeline.pretraining.settings import PretrainSettings
from pipeline.pretraining.splat.settings import MaskedAudioSettings, SplatSettings
from pipeline.pretraining.whisbert.settings import WhisbertSettings
from stages.options import parse
from stages.slurm_steps import BEFORE_WORDS, check_finished, refuse, template_body

if TYPE_CHECKING:
    from pipeline.cluster.submission import Step

METHODS: dict[str, type[PretrainSettings]] = {
    "masked-audio": MaskedAudioSettings,
    "splat": SplatSettings,
    "ctal": CtalSettings,
    "whisbert": WhisbertSettings,
}


def pretrain_step(method: str, settings: RunGridSettings) -> "Step":
    """An array with one task per run of a method.

    Args:
        method: of the command after `speechkd pretrain`.
        settings: the grid; its words are the command's own.

    Raises:
        SpeechkdError: the command would not take these words for one of the runs; or, unless a job
            is waited for, a cache or what a run begins with is not there or not finished.
    """
    from pipeline.cluster.goals import GOALS, MaskedAudioGoal
    from pipeline.cluster.slurm import Job
    from pipeline.cluster.submission import Step

    words = settings.words
    for flag in ("--seed", "--dry-run"):
        refuse(words, flag, BEFORE_WORDS)
    refuse(words, "--out", f"each run has its own, in RUN/{method}")
    flags, kind = settings.flags(), METHODS[method]
    for flag in flags:
        refuse(words, flag, "--vary gives it")
    runs = settings.runs(_lists(kind))
    folder = settings.run.absolute() / method
    for run in runs:
        own = [f"{flag}={value}" for flag, value in zip(flags, run.values, strict=True)]
        seeded = [word.replace("{seed}", str(run.seed)) for word in words]
        place = ["--seed", str(run.seed), "--out", str(folder / run.name)]
        choices = parse(f"pretrain {method}", kind, [*seeded, *own, *place])
        if not settings.after:
            _check(_method(method)(choices))
    stage = f"pretrain-{method}"
    job = Job(
        stage,
        template_body("pretrain.sbatch"),
        [method, *words],
        len(runs),
        settings.at_once,
        {
            "runs": [run.name for run in runs],
            "seeds": [str(run.seed) for run in runs],
            "flags": flags,
            "values": [value for run in runs for value in run.values],
            "runs_folder": str(folder),
            "processes": settings.processes or max(1, settings.gpus),
        },
    )
    goal = GOALS[stage]
    if not issubclass(goal, MaskedAudioGoal):
        raise TypeError(f"{goal.__name__} counts no runs")
    folders = tuple(str(folder / run.name) for run in runs)
    return Step(job, goal(folders), settings.resources(nodes=settings.nodes))


def _lists(kind: type[PretrainSettings]) -> set[str]:
    """Options of a command whose values are lists."""
    hints = get_type_hints(kind)
    return {flag_name(f) for f in fields(kind) if get_origin(hints[f.name]) is list}


def _check(method: Any) -> None:
    """Refuse caches that are not finished, and a beginning that is not there."""
    for cache in method.caches().values():
        check_finished(cache)
    method.identity()


def _method(name: str) -> Callable[[Any], Any]:
    """What makes a method of its settings; its room is imported only where it is needed."""
    match name:
        case "masked-audio":
            from pipeline.pretraining.splat.masked_audio import MaskedAudio

            return MaskedAudio
        case "splat":
            from pipeline.pretraining.splat.align import Splat

            return Splat
        case "ctal":
            from pipeline.pretraining.ctal.method import CtalMethod

            return CtalMethod
        case _:
            from stages.pretrain_whisbert import method_of

            return method_of
