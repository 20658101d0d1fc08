"""What is said and checked before the first step of a distillation run."""

import math

from pipeline.cache.store import TeacherCache
from pipeline.corpus.batches import Batches
from pipeline.corpus.masking import most_chosen
from pipeline.distillation.assembly import Parts
from pipeline.distillation.costs import step_bytes
from pipeline.distillation.doubts import doubts, only_speaker
from pipeline.distillation.module import WORD_PREFIX
from pipeline.distillation.objectives.crd import CHUNK as NEGATIVES_AT_ONCE
from pipeline.distillation.settings import DistillSettings
from pipeline.distillation.unspoken import told_of_texts
from pipeline.distillation.words import LESS_MEMORY
from pipeline.foundation.progress import counted, say
from pipeline.models.unknown import Unknown
from pipeline.training.preflight import ORDER_BYTES, check_disk, say_choices, say_memory


def announce(parts: Parts) -> None:
    """Say what is about to happen and what is assumed, and check that there is room for it.

    Raises:
        SpeechkdError: the disk has too little room.
    """
    settings, corpus, distillation = parts.settings, parts.corpus, parts.distillation
    student, schedule = distillation.student, parts.schedule
    say(
        f"{_teacher(parts.cache)}; "
        f"{counted(len(corpus), 'clip')} ({len(corpus.train):,} to train on, "
        f"{len(corpus.held_out):,} held "
        f"out), {counted(int(corpus.lengths_C.sum()), 'token')}, "
        f"{counted(corpus.truncated, 'text')} cut to "
        f"{settings.max_tokens} tokens, {len(corpus.dropped)} without text left out"
    )
    say(
        f"student {settings.init or settings.student}: {student.width} wide, "
        f"{sum(p.numel() for p in student.parameters()):,} parameters; "
        f"{counted(schedule.total_steps, 'step')} of "
        f"{counted(parts.batches.clips_per_batch, 'clip')}, "
        f"{schedule.steps_per_epoch:,} per epoch, warm-up {schedule.warmup_steps:,}, "
        f"{schedule.precision}"
    )
    _tell_unknown(settings, corpus.unknown)
    if parts.tables:
        for line in told_of_texts(parts):
            say(line)
    say_memory(
        distillation,
        corpus.where,
        step_bytes=_step_bytes(parts),
        other_bytes=ORDER_BYTES * len(corpus.train),
        device=parts.device,
        remedy=LESS_MEMORY,
    )
    if parts.words:
        if settings.level == "token":
            counts = parts.words.counts
            say(
                f"tokens of {parts.words.cache.location}: {counts.taught:,} of {counts.words:,}, "
                f"{counts.types:,} different ones, each learns its vector"
            )
        else:
            say(
                f"words of {parts.words.cache.location}: {parts.words.counts.in_words()}; a word's "
                f"{settings.word_tokens} token{'s' * (settings.word_tokens == 'mean')} learn"
                f"{'s' * (settings.word_tokens == 'first')} its vector"
            )
    for taken in parts.notes:
        say(taken)
    for name, objective in distillation.named_objectives():
        say(
            f"objective {name}: γ {distillation.gammas[name]:g}, teacher side {objective.side}, "
            f"projection {settings.projection}"
        )
        for notice in objective.notices():
            say(notice)
    for doubt in doubts(corpus, settings.objectives(), settings.held_out):
        say(doubt)
    if settings.objectives() and parts.cache and (speaker := only_speaker(parts.cache)):
        say(
            f"WARNING: all clips are of one speaker ({speaker}), so what is learnt of tone may be "
            "that of this one voice"
        )
    if settings.is_control:
        say(f"CONTROL: the teacher's vectors are {settings.control}")
        if settings.control == "shuffled-words" and "clip" in settings.levels():
            say("the vectors of clips are their own under this control, those of words are not")
    say_choices(settings)
    check_disk(settings.out, settings.keep, distillation)


def _teacher(cache: TeacherCache | None) -> str:
    """The teacher, in words."""
    if cache is None:
        return "no teacher and no speech, texts alone"
    teacher = cache.identity
    pooling = f", pooling {teacher.text('pooling')}" if teacher.text("pooling") else ""
    named = teacher.text("teacher") or f"none (a cache of {teacher.kind})"
    return f"teacher {named}, width {teacher.width}{pooling}"


def _tell_unknown(settings: DistillSettings, unknown: Unknown) -> None:
    """Say what the tokenizer does not know of the texts, and warn if it is much."""
    if not unknown.too_many:
        say(f"tokenizer: {unknown}")
        return
    fresh = "a new tokenizer" in settings.choices()
    remedy = "Raise --vocab-size" if fresh else "Name a --tokenizer for these texts"
    say(f"WARNING: tokenizer: {unknown}. What is unknown is lost to the student. {remedy}")


def _step_bytes(parts: Parts) -> int:
    """An upper bound for what one step holds, in bytes."""
    distillation, settings = parts.distillation, parts.settings
    tokens = parts.batches.shapes()[-1].tokens
    passes = distillation.passes
    student, batches = distillation.student, parts.batches
    masked = most_chosen(settings.mask_share, tokens, batches.processes)
    needed = step_bytes(student, tokens, masked, passes)
    for name, objective in distillation.named_objectives():
        if objective.level == "clip":
            needed += objective_bytes(
                tokens,
                batches.clips_per_batch,
                settings.crd_negatives,
                student.width,
                parts.corpus.vectors.width,
            )
        elif batches.words:
            words = most_words(batches)
            needed += word_bytes(
                -(-words // batches.processes),
                words,
                settings.crd_negatives,
                student.width,
                batches.words.width,
                all_pairs=name != f"{WORD_PREFIX}crd" or settings.crd_symmetric,
            )
    return needed


def most_words(batches: Batches) -> int:
    """Words of a batch, except one in a billion: six standard deviations over the mean."""
    if batches.words is None:
        return 0
    count_C = batches.words.counts(batches.corpus.train).double()
    clips = batches.clips_per_batch
    most = clips * float(count_C.mean()) + 6 * math.sqrt(clips) * float(count_C.std(correction=0))
    return min(round(most), clips * int(count_C.max()))


def objective_bytes(
    tokens: int, clips: int, negatives: int, student_width: int, teacher_width: int
) -> int:
    """The same for one objective: its projection, its pairs, and a chunk of extra negatives."""
    projected = 16 * tokens * (student_width + teacher_width)
    pairs = 12 * tokens * clips + 8 * tokens * min(negatives, NEGATIVES_AT_ONCE)
    return 4 * (projected + pairs + negatives * (4 * teacher_width + clips))


def word_bytes(
    own: int, words: int, negatives: int, student_width: int, teacher_width: int, *, all_pairs: bool
) -> int:
    """The same for one objective at the level of words.

    Args:
        own: words of this process.
        words: of the whole batch.
        negatives: extra ones.
        student_width: D.
        teacher_width: E.
        all_pairs: whether numbers of all pairs of words exist at once, as in all objectives but
            crd, which has one bit and a mask of each pair.
    """
    projected = 16 * own * (student_width + teacher_width) + 4 * words * teacher_width
    pairs = (12 if all_pairs else 2) * own * words
    chunk = 8 * own * min(words + negatives, NEGATIVES_AT_ONCE)
    return 4 * (projected + pairs + chunk + negatives * (4 * teacher_width + words))
