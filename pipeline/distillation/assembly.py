"""The parts of a distillation run, made from its settings in the one order that is right."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from pipeline.cache.store import TeacherCache
from pipeline.corpus.batches import Batches, TokenBatch
from pipeline.corpus.corpus import Corpus, read_corpus
from pipeline.corpus.masking import Masking
from pipeline.corpus.prepared import Prepared
from pipeline.distillation.costs import flops_per_token, peak_flops
from pipeline.distillation.module import Distillation, View
from pipeline.distillation.objectives import OBJECTIVES, Context, Options
from pipeline.distillation.settings import DistillSettings
from pipeline.distillation.words import LESS_MEMORY, WORDS
from pipeline.foundation.devices import training_precision
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.gpus import capability_of
from pipeline.foundation.progress import say
from pipeline.models.compiled import COMPILER_PACKAGES, missing_for_compiling
from pipeline.models.encoders import weights_sha256
from pipeline.models.loading import load_tokenizer
from pipeline.models.student import Student, build_student, check_kind, load_student
from pipeline.training import processes
from pipeline.training.checkpoint import Progress
from pipeline.training.log import TrainingLog
from pipeline.training.loop import Schedule, Workload, make_optimizer
from pipeline.training.run_folder import RunFolder

WARMUP_AT_MOST = 0.5
WARMUP_INSTEAD = 0.1
"""A warm-up over half of a run never trains at full rate: a tenth of the run takes its place."""


@dataclass(frozen=True)
class Parts:
    """What a distillation run is made of.

    Attributes:
        settings: as the user gave them.
        cache: the teacher's vectors and the texts.
        device: where training is.
        tokenizer: the student's.
        corpus: the cache as tokens and vectors.
        distillation: the student and the objectives, on the device.
        batches: this process's share of every batch.
        schedule: how long and how fast to train.
        optimizer: of the student and the objectives' projections.
        workload: what the step loop sees of all this.
        start: digest of the weights that training began from; `fresh` if they were drawn.
    """

    settings: DistillSettings
    cache: TeacherCache
    device: torch.device
    tokenizer: PreTrainedTokenizerBase
    corpus: Corpus
    distillation: Distillation
    batches: Batches
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    workload: Workload
    start: str


def assemble(
    settings: DistillSettings,
    cache: TeacherCache,
    device: torch.device,
    kept_tokenizer: PreTrainedTokenizerBase | None = None,
) -> Parts:
    """Make the parts of a run, at its beginning or of a later sitting.

    Args:
        settings: as the user gave them.
        cache: a finished teacher cache.
        device: where to train.
        kept_tokenizer: the tokenizer of an earlier sitting.

    Raises:
        SpeechkdError: some part cannot be made as asked.
    """
    compiles = shall_compile(settings, device)  # refused before the tokens are made, not after
    tokenizer = make_tokenizer(settings, cache) if kept_tokenizer is None else kept_tokenizer
    corpus = make_corpus(settings, cache, tokenizer, device)
    torch.manual_seed(settings.seed)  # of the weights: the student's, then the projections'
    student = make_student(settings, tokenizer)
    start = weights_sha256(student.encoder) if settings.init else "fresh"
    distillation = make_distillation(settings, student, corpus).to(device)
    batches = make_batches(settings, corpus, tokenizer, device)
    if compiles:
        distillation.compile_for(batches.shapes())
    schedule = make_schedule(settings, batches, device)
    return Parts(
        settings=settings,
        cache=cache,
        device=device,
        tokenizer=tokenizer,
        corpus=corpus,
        distillation=distillation,
        batches=batches,
        schedule=schedule,
        optimizer=make_optimizer(distillation, schedule),
        workload=make_workload(distillation, batches),
        start=start,
    )


def make_tokenizer(settings: DistillSettings, cache: TeacherCache) -> PreTrainedTokenizerBase:
    """The tokenizer that is named, or a WordPiece trained on the cache's texts."""
    if not settings.init:
        check_kind(settings.student)
    named = settings.tokenizer or settings.init
    if named:
        return load_tokenizer(named)
    with processes.first_on_this_machine():
        folder = Prepared(cache, settings.prepared).wordpiece(
            settings.vocab_size, lowercase=settings.lowercase, max_tokens=settings.max_tokens
        )
    tokenizer = load_tokenizer(str(folder))
    if len(tokenizer) < settings.vocab_size:
        say(
            f"WordPiece finds {len(tokenizer):,} pieces in these texts, not "
            f"{settings.vocab_size:,}: the vocabulary is that small"
        )
    return tokenizer


def make_corpus(
    settings: DistillSettings,
    cache: TeacherCache,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
) -> Corpus:
    """The cache's texts as tokens, and its vectors if an objective needs them."""
    with processes.first_on_this_machine():
        return read_corpus(
            cache,
            tokenizer,
            max_tokens=settings.max_tokens,
            held_out_share=settings.held_out,
            seed=settings.seed,
            control=settings.control,
            with_vectors=bool(settings.objectives()),
            prepared=settings.prepared,
            device=device,
        )


def make_student(settings: DistillSettings, tokenizer: PreTrainedTokenizerBase) -> Student:
    """A student with weights drawn from torch's generator, or the one to go on from."""
    if settings.init:
        student, _ = load_student(settings.init)
    else:
        student = build_student(
            settings.student, tokenizer, settings.max_tokens, dropout=settings.dropout
        )
    student.check_fits(tokenizer, settings.max_tokens)
    return student


def make_distillation(settings: DistillSettings, student: Student, corpus: Corpus) -> Distillation:
    """The student with the objectives that were asked for, each at its own weight."""
    context = Context(student.width, corpus.vectors.statistics, settings.part(Options))
    objectives = {name: OBJECTIVES[name](context) for name in settings.objectives()}
    gammas = settings.gamma or [o.default_gamma for o in objectives.values()]
    return Distillation(
        student,
        objectives,
        dict(zip(objectives, gammas, strict=True)),
        View(settings.kd_tokens, settings.kd_pass, settings.kd_special),
    )


def shall_compile(settings: DistillSettings, device: torch.device) -> bool:
    """Whether to compile the encoder: as asked, or by default on a GPU where that is possible.

    Raises:
        SpeechkdError: it is asked for and this machine cannot.
    """
    if settings.compile == "no" or (settings.compile == "auto" and device.type == "cpu"):
        return False
    missing = missing_for_compiling(device.type, capability_of(device))
    if missing and settings.compile == "yes":
        raise SpeechkdError(
            f"--compile yes: torch.compile needs {missing}; {COMPILER_PACKAGES}, or drop --compile."
        )
    if missing:
        say(
            f"WARNING: trains uncompiled, which is slower, because {missing} is missing; "
            f"{COMPILER_PACKAGES}"
        )
    return not missing


def make_batches(
    settings: DistillSettings,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
) -> Batches:
    """The batches of this process.

    Raises:
        SpeechkdError: there are too few clips for so many processes.
    """
    clips = min(settings.batch, len(corpus.train))
    if clips < settings.batch:
        say(f"there are only {clips:,} clips to train on: that is the batch, not {settings.batch}")
    if clips < 2 * processes.count():
        raise SpeechkdError(
            f"a batch of {clips} clips is too small for {processes.count()} processes: each needs "
            "two. Start fewer processes or raise --batch-size."
        )
    return Batches(
        corpus,
        Masking.of(tokenizer, settings.mask_share),
        clips,
        settings.seed,
        extra_negatives=settings.crd_negatives,
        process=processes.rank(),
        processes=processes.count(),
        device=device,
    )


def make_schedule(settings: DistillSettings, batches: Batches, device: torch.device) -> Schedule:
    """The schedule; a warm-up that is too long for the run is shortened, and that is said."""
    total = max(1, round(settings.epochs * batches.per_epoch))
    warmup = settings.warmup
    if warmup > WARMUP_AT_MOST * total:
        warmup = round(WARMUP_INSTEAD * total)
        say(
            f"a warm-up of {settings.warmup:,} steps would take over half of this run's "
            f"{total:,}: {warmup:,} steps instead"
        )
    return settings.part(
        Schedule,
        steps_per_epoch=batches.per_epoch,
        total_steps=total,
        warmup_steps=warmup,
        precision=training_precision(settings.precision, device),
    )


def make_workload(distillation: Distillation, batches: Batches) -> Workload:
    """What the step loop trains; with several processes their gradients are averaged."""
    module = processes.averaging_gradients(distillation)

    def held_out() -> Iterator[TokenBatch]:
        for index, clip_B in enumerate(batches.held_out()):
            yield batches.make(clip_B, "held out", 0, index)

    return Workload(
        label="distilling",
        module=distillation,
        losses=lambda batch, measure: module(batch, measure=measure),
        epoch=batches.epoch,
        held_out=held_out,
        tokens=lambda batch: batch.tokens,
        less_memory=LESS_MEMORY,
    )


def make_log(parts: Parts, folder: RunFolder, progress: Progress) -> TrainingLog:
    """The run's log; only the first process writes one."""
    mean_tokens = float(parts.corpus.lengths_C.double().mean())
    peak = peak_flops(parts.device)
    return TrainingLog(
        folder.path if processes.rank() == 0 else None,
        progress,
        words=WORDS,
        quiet_steps=parts.schedule.warmup_steps,
        flops_per_token=flops_per_token(
            parts.distillation.student,
            mean_tokens,
            parts.settings.mask_share,
            parts.distillation.passes,
        ),
        peak_flops=peak * processes.count() if peak else None,
    )
