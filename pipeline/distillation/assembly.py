"""The parts of a distillation run, each made from the settings: what `speechkd distill` joins."""

from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedTokenizerBase

from pipeline.cache.store import TeacherCache
from pipeline.corpus.batches import Batches
from pipeline.corpus.corpus import Corpus, read_corpus
from pipeline.corpus.masking import Masking
from pipeline.corpus.prepared import Prepared
from pipeline.distillation.module import Distillation, View
from pipeline.distillation.objectives import OBJECTIVES, Context, Options
from pipeline.distillation.settings import DistillSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import say
from pipeline.models.compiled import COMPILER_PACKAGES, missing_for_compiling
from pipeline.models.loading import load_tokenizer
from pipeline.models.student import Student, build_student, check_kind, load_student
from pipeline.training import processes
from pipeline.training.loop import Plan, Task
from pipeline.training.run_folder import RunFolder

WARMUP_AT_MOST = 0.5
WARMUP_INSTEAD = 0.1
"""A warm-up over half of a run never trains at full rate: a tenth of the run takes its place."""


def make_tokenizer(
    settings: DistillSettings, cache: TeacherCache, folder: RunFolder
) -> PreTrainedTokenizerBase:
    """The run's tokenizer: the one kept by an earlier sitting, the one named, or a new one."""
    kept = folder.kept_tokenizer()
    if kept is not None and settings.resume != "never":
        return kept
    if not settings.init:
        check_kind(settings.student)
    named = settings.tokenizer or settings.init
    if named:
        return load_tokenizer(named)
    with processes.first_on_this_machine():
        tokenizer = load_tokenizer(
            str(
                Prepared(cache, settings.prepared).wordpiece(
                    settings.vocab_size,
                    lowercase=settings.lowercase,
                    max_tokens=settings.max_tokens,
                )
            )
        )
    if len(tokenizer) < settings.vocab_size and processes.rank() == 0:
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
    """A fresh student, or the one to go on from; seed torch beforehand."""
    if settings.init:
        student, _ = load_student(settings.init)
    else:
        student = build_student(
            settings.student, tokenizer, settings.max_tokens, dropout=settings.dropout
        )
    student.check_fits(tokenizer, settings.max_tokens)
    return student


def make_distillation(settings: DistillSettings, student: Student, corpus: Corpus) -> Distillation:
    """The student with the objectives asked for, each at its own weight."""
    options = Options(
        projection=settings.projection,
        teacher_side=settings.teacher_side,
        temperature=settings.temperature,
        nst_pattern=settings.nst_pattern,
        nst_normalize=settings.nst_normalize,
        crd_bias=settings.crd_bias,
        crd_symmetric=settings.crd_symmetric,
    )
    context = Context(student.width, corpus.vectors.statistics, options)
    objectives = {name: OBJECTIVES[name](context) for name in settings.objectives()}
    gammas = settings.gamma or [o.default_gamma for o in objectives.values()]
    return Distillation(
        student,
        objectives,
        dict(zip(objectives, gammas, strict=True)),
        View(settings.kd_tokens, settings.kd_pass, settings.kd_special),
    )


def shall_compile(settings: DistillSettings, device: torch.device) -> bool:
    """Whether the encoder is to be compiled: as asked, or on a GPU where that is possible.

    Raises:
        SpeechkdError: it is asked for and this machine cannot.
    """
    if settings.compile == "no" or (settings.compile == "auto" and device.type == "cpu"):
        return False
    missing = missing_for_compiling(device.type)
    if missing and settings.compile == "yes":
        raise SpeechkdError(
            f"--compile yes: torch.compile needs {missing}; {COMPILER_PACKAGES}, or drop --compile."
        )
    if missing and processes.rank() == 0:
        say(
            f"WARNING: trains uncompiled, which is slower, for want of {missing}; "
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
    if clips < settings.batch and processes.rank() == 0:
        say(f"there are only {clips:,} clips to train on: that is the batch, not {settings.batch}")
    if clips < 2 * processes.count():
        raise SpeechkdError(
            f"a batch of {clips} clips is too small for {processes.count()} processes: each needs "
            "two. Start fewer processes or raise --batch."
        )
    return Batches(
        corpus,
        Masking.of(tokenizer, settings.mask_share, corpus.train.device),
        clips,
        settings.seed,
        extra_negatives=settings.crd_negatives,
        process=processes.rank(),
        processes=processes.count(),
        device=device,
    )


def make_plan(settings: DistillSettings, batches: Batches, device: torch.device) -> Plan:
    """The schedule; a warm-up that the run has no room for is shortened, and that is said."""
    total = max(1, round(settings.epochs * batches.per_epoch))
    warmup = settings.warmup
    if warmup > WARMUP_AT_MOST * total:
        warmup = round(WARMUP_INSTEAD * total)
        if processes.rank() == 0:
            say(
                f"a warm-up of {settings.warmup:,} steps would take over half of this run's "
                f"{total:,}: {warmup:,} steps instead"
            )
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "float32"
    return Plan(
        steps_per_epoch=batches.per_epoch,
        total_steps=total,
        warmup_steps=warmup,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adam_epsilon=settings.adam_epsilon,
        clip_norm=settings.clip_norm,
        precision=precision,
        seed=settings.seed,
        max_steps=settings.max_steps,
        max_hours=settings.max_hours,
        log_every=settings.log_every,
        measure_every=settings.measure_every,
        checkpoint_steps=settings.checkpoint_steps,
        checkpoint_minutes=settings.checkpoint_minutes,
    )


def make_task(distillation: Distillation, batches: Batches) -> Task:
    """What the step loop trains on; with several processes their gradients are averaged."""
    module: Any = distillation
    if processes.count() > 1:
        module = DistributedDataParallel(distillation, broadcast_buffers=False)
    return Task(
        losses=lambda batch, measure: module(batch, measure=measure),
        epoch=batches.epoch,
        held_out=lambda: (
            batches.make(clip_B, "held out", 0, index)
            for index, clip_B in enumerate(batches.held_out())
        ),
        tokens=lambda batch: int(batch.lengths_B.sum()),
    )
