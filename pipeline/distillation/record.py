"""The record of a distillation run, `run.json`: what it is made of, and what came out of it."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from transformers import PreTrainedTokenizerBase

from pipeline.cache.store import TeacherCache
from pipeline.corpus.corpus import Corpus
from pipeline.distillation.model_card import write_card, write_loss_curve
from pipeline.distillation.module import Distillation
from pipeline.distillation.settings import DistillSettings
from pipeline.foundation import provenance
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.student import Student
from pipeline.training.checkpoint import Progress
from pipeline.training.loop import Plan
from pipeline.training.run_folder import RunFolder


def starting_record(
    settings: DistillSettings,
    identity: Mapping[str, Any],
    found: Mapping[str, Any] | None,
    cache: TeacherCache,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    distillation: Distillation,
    plan: Plan,
) -> dict[str, Any]:
    """What a run is, known before its first step.

    Args:
        settings: as given.
        identity: everything the result depends on.
        found: the record of the sitting that this one goes on from, if any.
        cache: the teacher's vectors.
        corpus: what was read of it.
        tokenizer: of the student.
        distillation: what is trained.
        plan: how.
    """
    sittings = [*(found or {}).get("sittings", []), provenance.record()]
    student = distillation.student
    return {
        "status": "running",
        "identity": identity,
        "objectives": list(settings.kd),
        "settings": settings.record(),
        "paper": settings.stated_in_paper(),
        "assumed": settings.assumed(),
        "plan": asdict(plan),
        "gammas": distillation.gammas,
        "teacher_sides": {n: o.side for n, o in distillation.named_objectives()},
        "student": {
            "architecture": student.model.config.model_type,
            "parameters": sum(p.numel() for p in student.encoder.parameters()),
            "vocabulary": len(tokenizer),
        },
        "data": {
            "cache": cache.location,
            "cache_sha256": identity["cache_sha256"],
            "teacher": asdict(cache.identity),
            "clips": len(corpus),
            "train_clips": len(corpus.train),
            "held_out_clips": len(corpus.held_out),
            "tokens": int(corpus.lengths_C.sum()),
            "truncated": corpus.truncated,
            "dropped": corpus.dropped,
        },
        "provenance": sittings[-1],
        "sittings": sittings,
    }


def finish(
    folder: RunFolder,
    student: Student,
    tokenizer: PreTrainedTokenizerBase,
    record: Mapping[str, Any],
    progress: Progress,
    outcome: str,
) -> None:
    """Write the student, its card and curve, and last the record that calls the run finished.

    Raises:
        SpeechkdError: losses or weights are no numbers; no student is handed on then.
    """
    _check_converged(student, progress, folder)
    folder.export(student, tokenizer)
    validation = [  # JSON has no number for what an early epoch may have given
        {name: value if math.isfinite(value) else None for name, value in epoch.items()}
        for epoch in progress.validation
    ]
    record = {
        **record,
        "status": "finished" if outcome == "finished" else "stopped",
        "result": {**asdict(progress), "validation": validation, "outcome": outcome},
    }
    write_loss_curve(folder.path)
    write_card(folder.path, record)
    folder.write_record(record)


def _check_converged(student: Student, progress: Progress, folder: RunFolder) -> None:
    last = progress.validation[-1] if progress.validation else {}
    sound = all(math.isfinite(value) for name, value in last.items() if name.startswith("loss"))
    if not sound or not all(bool(p.isfinite().all()) for p in student.parameters()):
        raise SpeechkdError(
            f"{folder.path}: training diverged, its losses or weights are not finite "
            f"({progress.skipped:,} steps were skipped for that). No student is written. Lower "
            "--learning-rate and start anew with --resume never."
        )
