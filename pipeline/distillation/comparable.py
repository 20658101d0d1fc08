"""What a comparison of students must know of a run: its setup, and how it was taught."""

from dataclasses import fields
from typing import Any

from pipeline.cache.store import TeacherCache
from pipeline.corpus.identity import texts_sha256, tokenizer_sha256
from pipeline.distillation.assembly import Parts
from pipeline.distillation.settings import KD, STUDENT
from pipeline.foundation.hashing import json_sha256
from pipeline.training.settings import TRAINING

SAID_OTHERWISE = {
    *("student", "init", "tokenizer", "vocab_size", "lowercase"),  # by digests
    *("batch", "warmup", "precision", "epochs"),  # as they came out
    "seed",
    *("kd", "control", "gamma", "word_gamma", "words", "teacher_side", "temperature"),
}
"""Settings that `setup` and `teaching` leave out, because they say the same in another way, or
because runs that differ in them alone are to be compared."""

CONTROL, REAL = "control", "real"
"""What `extract-heard` calls its control in its cache's settings, and the value without one."""

VOLATILE = {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures"}
"""Entries of a model's configuration that say nothing of the model."""


def comparable(parts: Parts, cache_sha256: str | None) -> dict[str, Any]:
    """How a run stands to others, as `pipeline.models.pretrained.Pretrained` takes it.

    Args:
        parts: what the run is made of.
        cache_sha256: digest of its cache; None for texts alone.

    Returns:
        `objective` and `control`; `setup`, which a student shares with the one without a teacher
        and with its control (size, corpus, tokenizer, recipe); and `teaching`, which it shares with
        its control alone (weights and settings of the objectives, the teacher's cache). The seed is
        in neither.
    """
    settings = parts.settings
    objective = ",".join(settings.kd)
    taught = bool(settings.objectives())
    return {
        "objective": objective,
        "control": _control(parts) if taught else None,
        "setup": _setup(parts),
        "teaching": _teaching(parts, parts.cache, cache_sha256) if taught and parts.cache else None,
    }


def _control(parts: Parts) -> str:
    """That of the run, or else that of what was heard per token, under which its cache was made."""
    own = parts.settings.control
    return str(_settings_of_words(parts).get(CONTROL, own)) if own == REAL else own


def _settings_of_words(parts: Parts) -> dict[str, Any]:
    return dict(parts.words.cache.identity.settings) if parts.words else {}


def _setup(parts: Parts) -> dict[str, Any]:
    schedule = parts.schedule
    model = parts.distillation.student.model
    config = {k: v for k, v in model.config.to_dict().items() if k not in VOLATILE}
    return {
        "architecture": model.config.model_type,
        "config": json_sha256(config),
        "weights at the start": parts.start,
        "tokenizer": tokenizer_sha256(parts.tokenizer),
        "texts": texts_sha256(parts.corpus),
        "clips per batch": parts.batches.clips_per_batch,
        "total steps": schedule.total_steps,
        "warm-up steps": schedule.warmup_steps,
        "precision": schedule.precision,
        **_of_panels(parts, STUDENT, TRAINING),
    }


def _teaching(parts: Parts, cache: TeacherCache, cache_sha256: str | None) -> dict[str, Any]:
    teaching = _of_panels(parts, KD)
    for name, objective in parts.distillation.named_objectives():
        teaching[f"γ of {name}"] = parts.distillation.gammas[name]
        teaching[f"teacher side of {name}"] = objective.side
        teaching[f"τ of {name}"] = objective.temperature
    if parts.words:
        heard = _settings_of_words(parts)
        was_heard = heard.pop(CONTROL, None) is not None
        digest = json_sha256(heard) if was_heard else parts.words.prepared.digest
        teaching["cache of words"] = digest
        if was_heard and parts.words.cache.location == cache.location:
            cache_sha256 = digest
    return {**teaching, "teacher": cache.identity.text("teacher"), "cache": cache_sha256}


def _of_panels(parts: Parts, *panels: str) -> dict[str, Any]:
    """Settings of some panels that have an effect and are not said otherwise."""
    settings = parts.settings
    left_out = SAID_OTHERWISE | settings.without_effect()
    values = settings.record()
    return {
        f.name: ",".join(map(str, value)) if isinstance(value := values[f.name], list) else value
        for f in fields(settings)
        if f.metadata["panel"] in panels and f.name not in left_out
    }
