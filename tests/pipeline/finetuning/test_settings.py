"""The recipe that settings make."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from pipeline.finetuning.settings import FinetuneSettings, Recipe
from pipeline.foundation.errors import SpeechkdError


def settings(**changes):
    return FinetuneSettings(checkpoint=["an encoder"], out=Path("out"), **changes)


def test_the_recipe_has_every_setting_of_its_names():
    chosen = settings(epochs=7, pooling="mean", precision="bf16", class_weights="balanced")
    recipe = chosen.recipe()
    named = {f.name: getattr(chosen, f.name) for f in fields(Recipe) if hasattr(chosen, f.name)}
    assert recipe.record() == {**named, "schedule": "linear"}  # texts have no choice of it


@pytest.mark.parametrize(
    ("gpu", "capability", "precision"),
    [(False, None, "float32"), (True, (8, 0), "bf16"), (True, (7, 5), "float32")],
)
def test_auto_precision_goes_by_the_device(monkeypatch, gpu, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(gpu))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla X")
    monkeypatch.setattr("pipeline.foundation.devices._open", lambda _: None)
    assert settings().recipe().precision == precision
    assert settings(device="cpu").recipe().precision == "float32"
    if capability == (7, 5):
        with pytest.raises(SpeechkdError, match="Tesla X has no bf16"):
            settings(precision="bf16").recipe()


def test_the_old_word_for_float32_is_refused_with_the_new_one():
    with pytest.raises(SpeechkdError, match="must be one of: auto, float32, bf16"):
        settings(precision="fp32")
