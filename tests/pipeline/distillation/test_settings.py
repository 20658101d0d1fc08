"""Flags on the fields of `DistillSettings`, against the lists that they stand for."""

from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from pipeline.distillation.objectives import OBJECTIVES
from pipeline.distillation.settings import DistillSettings

KD = {
    "gamma", "temperature", "teacher_side", "projection", "kd_tokens", "kd_pass", "kd_special",
    "control", "level",
}  # fmt: skip
WORDS = {"words", "stage_to", "word_gamma", "word_tokens", "same_word_negatives"}
COLUMNS = {"text_column", "recording_column"}
NST = {"nst_pattern", "nst_normalize"}
CRD = {"crd_bias", "crd_negatives", "crd_symmetric"}


def settings(**changes):
    return DistillSettings(cache="cache", out=Path("run"), **changes)


def test_the_result_does_not_depend_on_these_and_depends_on_all_others():
    assert DistillSettings.operational() == {
        "cache", "texts", "text_column", "recording_column", "words", "stage_to", "out",
        "prepared", "device", "compile", "deterministic", "resume",
        "dry_run", "max_steps", "max_hours", "log_every", "measure_every", "checkpoint_minutes",
        "checkpoint_steps", "keep", "license", "language",
    }  # fmt: skip
    everything = {f.name for f in fields(DistillSettings)}
    by_word = settings(level="word").identity()
    assert by_word.keys() == everything - DistillSettings.operational()
    by_clip = settings().identity().keys()
    assert by_clip == by_word.keys() - WORDS - {"level"}, "as before there were words"


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({"kd": ["none"]}, KD | NST | CRD),
        ({"kd": ["crd"]}, NST),
        ({"kd": ["nst"]}, CRD | {"temperature"}),
        ({"kd": ["infonce"]}, NST | CRD),
        ({"kd": ["l1"]}, NST | CRD | {"temperature"}),
        ({"kd": ["crd", "nst"]}, set()),
        ({"kd": ["crd"], "kd_tokens": "cls"}, NST | {"kd_special"}),
        ({"init": "x"}, NST | {"student", "dropout", "vocab_size", "lowercase"}),
        ({"student": "config.json"}, NST | {"dropout"}),
        ({"tokenizer": "x"}, NST | {"vocab_size", "lowercase"}),
    ],
)
def test_settings_without_effect(changes, idle):
    assert settings(**changes).without_effect() == idle | WORDS | COLUMNS


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({"level": "word"}, {"kd_tokens", "kd_special"}),
        ({"level": "clip+word"}, set()),
        ({"teacher_side": "within-word", "words": "x"}, WORDS - {"words", "stage_to"}),
        ({"level": "word", "kd": ["none"]}, KD | CRD | WORDS),
    ],
)
def test_settings_without_effect_on_words(changes, idle):
    assert settings(**changes).without_effect() == idle | NST | COLUMNS


def test_every_need_of_a_setting_can_be_met():
    chosen = settings(kd=["nst", "crd"], level="clip+word", texts=[Path("t")]).choices()
    assert {f.metadata["idle_without"] for f in fields(DistillSettings)} - {""} <= chosen


def test_the_objectives_to_choose_from_are_those_that_there_are():
    choices = get_args(get_args(get_type_hints(DistillSettings)["kd"])[0])
    assert choices == ("none", *OBJECTIVES)
