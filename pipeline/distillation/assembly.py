"""The parts of a distillation run, made from its settings in the one order that is right."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import PreTrainedTokenizerBase

from pipeline.cache.store import TeacherCache
from pipeline.corpus.ahead import Ahead
from pipeline.corpus.batch import TokenBatch
from pipeline.corpus.batches import Batches
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.masking import Masking
from pipeline.corpus.repeated import repeated
from pipeline.corpus.sources import TextTables
from pipeline.corpus.word_corpus import WordCorpus
from pipeline.distillation.module import WORD_PREFIX, Distillation, View
from pipeline.distillation.objectives import OBJECTIVES, Context, Objective, Options
from pipeline.distillation.reading import make_corpus, make_tokenizer, make_words, take_away
from pipeline.distillation.settings import DistillSettings
from pipeline.distillation.words import LESS_MEMORY
from pipeline.foundation.devices import training_precision
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.gpus import capability_of
from pipeline.foundation.progress import counted, say
from pipeline.models.compiled import COMPILER_PACKAGES, missing_for_compiling
from pipeline.models.encoders import text_folder, weights_sha256
from pipeline.models.student import Student, build_student, load_student
from pipeline.training import processes
from pipeline.training.loop import Schedule, Workload, make_optimizer

WARMUP_AT_MOST = 0.5
WARMUP_INSTEAD = 0.1
"""A warm-up over half of a run never trains at full rate: a tenth of the run takes its place."""
COMPILING_PAYS_FROM = 5_000
"""Steps. On an H200 a BERT-base took 88 s to compile, and each step then 20 ms less."""


@dataclass(frozen=True)
class Parts:
    """What a distillation run is made of.

    Attributes:
        settings: as the user gave them.
        cache: the teacher's vectors and the texts of speech; None for texts alone.
        tables: texts without speech; None for none.
        device: where training is.
        tokenizer: the student's.
        corpus: the cache as tokens and vectors.
        words: the words of its clips; None if nothing depends on them.
        notes: what was left out of the teacher's vectors or taken away from them, in words.
        distillation: the student and the objectives, on the device.
        batches: this process's share of every batch.
        schedule: how long and how fast to train.
        optimizer: of the student and the objectives' projections.
        workload: what the step loop sees of all this.
        start: digest of the weights that training began from; `fresh` if they were drawn.
    """

    settings: DistillSettings
    cache: TeacherCache | None
    tables: TextTables | None
    device: torch.device
    tokenizer: PreTrainedTokenizerBase
    corpus: Corpus
    words: WordCorpus | None
    notes: list[str]
    distillation: Distillation
    batches: Batches
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    workload: Workload
    start: str
    ahead: Ahead[TokenBatch] | None

    @cached_property
    def repeated(self) -> dict[str, int]:
        """How many texts stand in the corpus more than once; said first and recorded last."""
        return repeated(self.corpus)

    def close(self) -> None:
        """End the thread that makes batches, if there is one."""
        if self.ahead:
            self.ahead.close()


def assemble(
    settings: DistillSettings,
    cache: TeacherCache | None,
    device: torch.device,
    kept_tokenizer: PreTrainedTokenizerBase | None = None,
    tables: TextTables | None = None,
) -> Parts:
    """Make the parts of a run, at its beginning or of a later sitting.

    Args:
        settings: as the user gave them.
        cache: a finished teacher cache; None for texts alone, with no objective.
        device: where to train.
        kept_tokenizer: the tokenizer of an earlier sitting.
        tables: texts without speech.

    Raises:
        SpeechkdError: some part cannot be made as asked.
    """
    compiles = shall_compile(settings, device)  # refused before the tokens are made, not after
    tokenizer = kept_tokenizer
    if tokenizer is None:
        tokenizer = make_tokenizer(settings, cache, tables)
    corpus = make_corpus(settings, cache, tables, tokenizer, device)
    words: WordCorpus | None = None
    notes: list[str] = []
    if cache:
        if settings.needs_words():
            words = make_words(settings, cache, corpus, tokenizer)
        corpus, notes = take_away(settings, cache, corpus, words)
    torch.manual_seed(settings.seed)  # of the weights: the student's, then the projections'
    student = make_student(settings, tokenizer)
    start = weights_sha256(student.encoder) if settings.init else "fresh"
    distillation = make_distillation(settings, student, corpus, words).to(device)
    batches = make_batches(settings, corpus, words, tokenizer, device)
    schedule = make_schedule(settings, batches, device)
    if compiles and can_compile(settings, student) and compiling_pays(settings, schedule):
        distillation.compile_for(batches.shapes())
    # batches of words are read from the cache, which takes longer than to gather from memory
    ahead = Ahead(batches.epoch, batches.per_epoch) if batches.words else None
    return Parts(
        settings=settings,
        cache=cache,
        tables=tables,
        device=device,
        tokenizer=tokenizer,
        corpus=corpus,
        words=words,
        notes=notes,
        distillation=distillation,
        batches=batches,
        schedule=schedule,
        optimizer=make_optimizer(distillation, schedule),
        workload=make_workload(distillation, batches, ahead),
        ahead=ahead,
        start=start,
    )


def make_student(settings: DistillSettings, tokenizer: PreTrainedTokenizerBase) -> Student:
    """A student with weights drawn from torch's generator, or the one to go on from."""
    if settings.init:
        student, _ = load_student(text_folder(settings.init))
    else:
        student = build_student(
            settings.student, tokenizer, settings.max_tokens, dropout=settings.dropout
        )
    student.check_fits(tokenizer, settings.max_tokens)
    return student


def make_distillation(
    settings: DistillSettings, student: Student, corpus: Corpus, words: WordCorpus | None
) -> Distillation:
    """The student with the objectives that were asked for, each at its own weight."""
    objectives: dict[str, Objective] = {}
    gammas: dict[str, float] = {}
    for level in settings.levels():
        of = words.words if words and level == "word" else corpus.vectors
        context = Context(student.width, of.statistics, settings.part(Options), level)
        given = (settings.word_gamma if level == "word" else []) or settings.gamma
        for place, name in enumerate(settings.objectives()):
            objective = OBJECTIVES[name](context)
            named = f"{WORD_PREFIX}{name}" if level == "word" else name
            objectives[named] = objective
            gammas[named] = given[place] if given else objective.default_gamma
    return Distillation(
        student,
        objectives,
        gammas,
        View(settings.kd_tokens, settings.kd_pass, settings.kd_special, settings.word_tokens),
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


def can_compile(settings: DistillSettings, student: Student) -> bool:
    """Whether a student can be compiled; only packed batches come in shapes known beforehand.

    Raises:
        SpeechkdError: it is asked for and this student cannot.
    """
    if student.reading.layout == "packed":
        return True
    kind = student.model.config.model_type
    if settings.compile == "yes":
        raise SpeechkdError(
            f"--compile yes: a {kind} reads padded batches of any shape, which cannot be compiled "
            "once for all. Drop --compile."
        )
    say(f"a {kind} reads padded batches, so it trains uncompiled")
    return False


def compiling_pays(settings: DistillSettings, schedule: Schedule) -> bool:
    """Whether a run is long enough to be compiled, unless that is asked for.

    By the whole schedule, not by what is left of it, so that each sitting of a run decides alike.
    """
    pays = settings.compile == "yes" or schedule.total_steps >= COMPILING_PAYS_FROM
    if not pays:
        say(
            f"trains uncompiled: compiling pays from {COMPILING_PAYS_FROM:,} steps on, and this "
            f"run has {schedule.total_steps:,} (--compile yes compiles all the same)"
        )
    return pays


def make_batches(
    settings: DistillSettings,
    corpus: Corpus,
    words: WordCorpus | None,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
) -> Batches:
    """The batches of this process.

    Raises:
        SpeechkdError: there are too few clips for so many processes.
    """
    clips = min(settings.batch, len(corpus.train))
    if clips < settings.batch:
        say(
            f"there are only {counted(clips, 'clip')} to train on: that is the batch, not "
            f"{settings.batch}"
        )
    if clips < 2 * processes.count():
        raise SpeechkdError(
            f"a batch of {counted(clips, 'clip')} is too small for "
            f"{counted(processes.count(), 'process', 'processes')}: each needs "
            "two. Start fewer processes or raise --batch-size."
        )
    return Batches(
        corpus,
        Masking.of(tokenizer, settings.mask_share),
        clips,
        settings.seed,
        extra_negatives=settings.crd_negatives if settings.level != "word" else 0,
        words=words.words if words and "word" in settings.levels() else None,
        extra_words=settings.crd_negatives,
        same_type_negatives=settings.same_word_negatives,
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
            f"a warm-up of {counted(settings.warmup, 'step')} would take over half of this run's "
            f"{total:,}: {counted(warmup, 'step')} instead"
        )
    return settings.part(
        Schedule,
        steps_per_epoch=batches.per_epoch,
        total_steps=total,
        warmup_steps=warmup,
        precision=training_precision(settings.precision, device),
    )


def make_workload(
    distillation: Distillation, batches: Batches, ahead: Ahead[TokenBatch] | None
) -> Workload:
    """What the step loop trains; with several processes their gradients are averaged."""
    module = processes.averaging_gradients(distillation)

    def held_out() -> Iterator[TokenBatch]:
        for index, clip_B in enumerate(batches.held_out()):
            yield batches.make(clip_B, "held out", 0, index)

    return Workload(
        label="distilling",
        module=distillation,
        losses=lambda batch, measure: module(batch, measure=measure),
        epoch=ahead.epoch if ahead else batches.epoch,
        held_out=held_out,
        tokens=lambda batch: batch.tokens,
        less_memory=LESS_MEMORY,
        waited=ahead.waited if ahead else None,
    )
