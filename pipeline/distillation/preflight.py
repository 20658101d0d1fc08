"""What is said and checked before the first step of a distillation run."""

import shutil

import torch

from pipeline.cache.store import TeacherCache
from pipeline.corpus.batches import Batches
from pipeline.corpus.corpus import Corpus
from pipeline.distillation.costs import objective_bytes, step_bytes
from pipeline.distillation.module import Distillation
from pipeline.distillation.settings import DistillSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.memory import available_bytes, resident_bytes
from pipeline.foundation.progress import say
from pipeline.models.student import Student
from pipeline.training.loop import Plan

LIBRARY_BYTES = 300_000_000
"""What the logs, the picture and the libraries' own scratch space come to in a run, at most."""
ORDER_BYTES = 24
"""A clip, while one epoch's order makes room for the next."""


def announce(
    settings: DistillSettings,
    cache: TeacherCache,
    corpus: Corpus,
    student: Student,
    distillation: Distillation,
    plan: Plan,
    batches: Batches,
    device: torch.device,
) -> None:
    """Say what is about to happen, what is assumed, and check that there is room for it."""
    teacher = cache.identity
    parameters = sum(p.numel() for p in distillation.parameters())
    say(
        f"teacher {teacher.teacher}, width {teacher.d_model}, pooling {teacher.pooling}; "
        f"{len(corpus):,} clips ({len(corpus.train):,} to train on, {len(corpus.held_out):,} held "
        f"out), {int(corpus.lengths_C.sum()):,} tokens, {corpus.truncated:,} texts cut to "
        f"{settings.max_tokens} tokens, {len(corpus.dropped)} without text left out"
    )
    say(
        f"student {settings.init or settings.student}: {student.width} wide, "
        f"{sum(p.numel() for p in student.parameters()):,} parameters; "
        f"{plan.total_steps:,} steps of {batches.clips_per_batch} clips, "
        f"{plan.steps_per_epoch:,} an epoch, warm-up {plan.warmup_steps:,}, {plan.precision}"
    )
    _say_memory(settings, distillation, batches, device)
    for name, objective in distillation.named_objectives():
        say(
            f"objective {name}: γ {distillation.gammas[name]:g}, teacher side {objective.side}, "
            f"projection {settings.projection}"
        )
        for notice in objective.notices():
            say(notice)
    if settings.control != "real":
        say(f"CONTROL: the teacher's vectors are {settings.control}")
    assumed = ", ".join(f"{name} {value}" for name, value in settings.assumed().items())
    say(f"not stated in the paper, assumed: {assumed}")
    if settings.set_in_vain():
        say(f"without effect in this run: {', '.join(settings.set_in_vain())}")
    _check_disk(settings, parameters)


def _say_memory(
    settings: DistillSettings,
    distillation: Distillation,
    batches: Batches,
    device: torch.device,
) -> None:
    """Where tokens and vectors are, and what training takes beside them, at most."""
    passes = 2 if distillation.objectives and distillation.view.sees == "clean" else 1
    tokens = batches.shape().tokens
    step = step_bytes(distillation.student, tokens, settings.mask_share, passes)
    step += len(distillation.objectives) * objective_bytes(
        tokens,
        batches.clips_per_batch,
        settings.crd_negatives,
        distillation.student.width,
        batches.corpus.vectors.width,
    )
    # gradients and both moments, float32, beside the weights
    state = 12 * sum(p.numel() for p in distillation.parameters())
    order = ORDER_BYTES * len(batches.corpus.train)
    told = (
        f"memory: {batches.corpus.where}; gradients and optimiser {state / 1e9:.2f} GB, a step "
        f"{step / 1e9:.2f} GB"
    )
    if device.type != "cpu":
        free, _ = torch.cuda.mem_get_info(device)
        say(f"{told} of {free / 1e9:.1f} GB free on {device}")
        needed = state + step
    else:
        free, now = available_bytes(), resident_bytes()
        needed = state + step + order + LIBRARY_BYTES
        whole = (now + needed) / 1e9
        say(f"{told}; this process holds {now / 1e9:.2f} GB now and at most {whole:.2f} GB later")
    if needed > free:
        say(
            f"WARNING: that may be more than there is, {free / 1e9:.2f} GB are free; lower --batch "
            "or --crd-negatives, or take a smaller --student"
        )


def _check_disk(settings: DistillSettings, parameters: int) -> None:
    needed = (settings.keep + 2) * 12 * parameters
    there = next(path for path in (settings.out, *settings.out.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise SpeechkdError(
            f"{settings.out}: {free / 1e6:,.0f} MB free, but checkpoints and the student need "
            f"{needed / 1e6:,.0f} MB. Free some, lower --keep, or name another --out."
        )
