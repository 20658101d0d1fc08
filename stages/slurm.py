"""Hand the stages to Slurm as job arrays, and show how they stand by what they have left."""

import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.cluster.settings import (
    AllSettings,
    ArraySettings,
    GridSettings,
    RunGridSettings,
    ShareSettings,
    StatusSettings,
)
from pipeline.foundation.errors import SpeechkdError
from stages.slurm_pretrain import pretrain_step
from stages.slurm_steps import (
    check_cache,
    distill_step,
    extract_step,
    features_step,
    finetune_step,
    refuse,
    report_step,
    student_name,
    text_step,
)

if TYPE_CHECKING:
    from pipeline.cluster.submission import Step

FILE_WIDTH = 140


def extract_teacher(settings: ShareSettings) -> None:
    """Submit stage one as a job array: each array task extracts its share of the shards.

    After -- come the words of `speechkd extract-teacher`. They are checked before anything is
    submitted. The same command at any later time does what is left.

    Example: speechkd slurm extract-teacher --run RUN --at-once 4 -- shards/manifest.jsonl
    --cache RUN/cache
    """
    _submit(settings, [extract_step(settings, settings.words)])


def extract_features(settings: ShareSettings) -> None:
    """Submit the frames of stage one as a job array: each array task does its share of the shards.

    After -- come the words of `speechkd extract-features`. They are checked before anything is
    submitted. Prosody is computed on CPUs, so its array tasks ask for no GPU. The same command at
    any later time does what is left.

    Example: speechkd slurm extract-features --run RUN --at-once 4 -- shards/manifest.jsonl
    --features whisper-mel --cache RUN/mels
    """
    _submit(settings, [features_step(settings, settings.words)])


def extract_text(settings: ShareSettings) -> None:
    """Submit a text encoder's states as a job array: each array task does its share of the shards.

    After -- come the words of `speechkd extract-text`. They are checked before anything is
    submitted. The cache whose transcripts are read must be finished; with --after, the job of RUN
    that makes it may still be waiting. The same command at any later time does what is left.

    Example: speechkd slurm extract-text --run RUN -- RUN/mels --teacher bert-base-uncased
    --out RUN/texts
    """
    _submit(settings, [text_step(settings, settings.words)])


def distill(settings: GridSettings) -> None:
    """Submit stage two as a job array: each array task trains one student.

    A student is an objective, a control and a seed; its folder is RUN/students/KD-CONTROL-seedN.
    --kd none,crd,crd:10 is three: without a teacher, with crd, and with crd at γ = 10, whose folder
    is crd-gamma10-real-seed0.
    After -- come the other words of `speechkd distill`. With several GPUs or nodes an array task
    starts torchrun. The same command at any later time does what is left.

    Example: speechkd slurm distill --run RUN --kd none,crd --student-seeds 0-2 -- RUN/cache
    """
    step, cache = distill_step(settings, settings.words)
    if cache and not settings.after:  # of texts alone there is none
        check_cache(cache)
    _submit(settings, [step])


def pretrain_masked_audio(settings: RunGridSettings) -> None:
    """Submit masked audio as a job array: each array task trains one speech module.

    A run's folder is RUN/masked-audio/seedN, or VALUES-seedN if --vary gives values. After -- come
    the other words of `speechkd pretrain masked-audio`. With several GPUs or nodes an array task
    starts torchrun. The same command at any later time does what is left.

    Example: speechkd slurm pretrain-masked-audio --run RUN --seeds 0-2 -- RUN/mels
    """
    _submit(settings, [pretrain_step("masked-audio", settings)])


def pretrain_splat(settings: RunGridSettings) -> None:
    """Submit alignments to a text encoder as a job array: each array task trains one module.

    A run's folder is RUN/splat/VALUES-seedN, such as seq-relabelled-seed0. After -- come the other
    words of `speechkd pretrain splat`; {seed} in them is the run's own seed. With --after JOB the
    caches and the module to begin with need not be there yet.

    Example: speechkd slurm pretrain-splat --run RUN --seeds 0-2 --vary align=seq,tok
    --vary control=real,relabelled -- RUN/mels --text RUN/texts --init RUN/masked-audio/seed{seed}
    """
    _submit(settings, [pretrain_step("splat", settings)])


def pretrain_ctal(settings: RunGridSettings) -> None:
    """Submit CTAL as a job array: each array task trains one model.

    A run's folder is RUN/ctal/seedN, or VALUES-seedN if --vary gives values. After -- come the
    other words of `speechkd pretrain ctal`. The same command at any later time does what is left.

    Example: speechkd slurm pretrain-ctal --run RUN --seeds 0-2 -- RUN/mels --layers 3
    """
    _submit(settings, [pretrain_step("ctal", settings)])


def pretrain_whisbert(settings: RunGridSettings) -> None:
    """Submit WhisBERT as a job array: each array task trains one model.

    A run's folder is RUN/whisbert/VALUES-seedN. Losses are a list, joined by + in --vary. After --
    come the other words of `speechkd pretrain whisbert`. The same command at any later time does
    what is left.

    Example: speechkd slurm pretrain-whisbert --run RUN --vary losses=mlm,mlm+mam+mmc+mmm+atm
    -- RUN/mels
    """
    _submit(settings, [pretrain_step("whisbert", settings)])


def finetune(settings: ShareSettings) -> None:
    """Submit fine-tuning as a job array: each array task computes its share of the cells.

    After -- come the words of `speechkd finetune`. The same command at any later time does what is
    left.

    Example: speechkd slurm finetune --run RUN -- mosei --data label.csv
    --checkpoint RUN/students/crd-real-seed0 --out RUN/results
    """
    _submit(settings, [finetune_step(settings, settings.words)])


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
    refuse(words["extract-teacher"], "--cache", "`slurm all` sets it")
    refuse(words["finetune"], "--out", "`slurm all` sets it")
    folders = [
        f"{name}={run / 'students' / name}" for name in map(student_name, settings.students())
    ]
    finetuning = [*words["finetune"], "--out", results]
    for folder in folders:
        finetuning += ["--checkpoint", folder]
    training, _ = distill_step(settings, [cache, *words["distill"]])
    _submit(
        settings,
        [
            extract_step(settings, [*words["extract-teacher"], "--cache", cache]),
            training,
            finetune_step(settings, finetuning),
            report_step(settings, cache, results, str(run / "report")),
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
    "slurm extract-features": (ShareSettings, extract_features),
    "slurm extract-text": (ShareSettings, extract_text),
    "slurm pretrain-masked-audio": (RunGridSettings, pretrain_masked_audio),
    "slurm pretrain-splat": (RunGridSettings, pretrain_splat),
    "slurm pretrain-ctal": (RunGridSettings, pretrain_ctal),
    "slurm pretrain-whisbert": (RunGridSettings, pretrain_whisbert),
    "slurm distill": (GridSettings, distill),
    "slurm finetune": (ShareSettings, finetune),
    "slurm all": (AllSettings, everything),
    "slurm status": (StatusSettings, status),
}
