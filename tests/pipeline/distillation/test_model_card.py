"""A model card names what a student was made of, and claims no teacher that it did not have."""

import json

import pytest

from pipeline.distillation.model_card import model_card
from stages.distill import DistillSettings, run
from tests.helpers.caches import make_cache


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    cache = make_cache(folder / "cache", [40]).location
    run(
        DistillSettings(
            cache=cache, out=folder / "run", kd=["crd"], student="bert-tiny", batch=8, epochs=2.0,
            max_steps=3, held_out=0.2, device="cpu", license="cc-by-4.0", language="fr",
        )
    )  # fmt: skip
    return json.loads((folder / "run" / "run.json").read_text())


def test_a_card_names_data_teacher_objective_losses_versions_and_licence(record):
    card = model_card(record)
    head = card.split("---")[1]
    assert "license: cc-by-4.0" in head
    assert "language: fr" in head
    for told in (
        "taught by speech", "`made-up`", "32 clips to train on, 8 held out",
        "stopped by --max-steps",
        "crd: weight γ 1, teacher side standardize", "held out, loss/mlm: ", "held out, loss/crd: ",
        "`learning_rate`: 0.0001", "- torch 2.", "`clip_norm`",
    ):  # fmt: skip
        assert told in card, told
    assumed = card.split("does not state: ")[1]
    assert "`projection`" in assumed
    assert "`nst_pattern`" not in assumed


def test_a_card_never_claims_a_teacher_that_was_not(record):
    alone = model_card({**record, "objectives": ["none"], "gammas": {}, "teacher_sides": {}})
    assert "trained on transcripts alone" in alone
    assert "taught by speech" not in alone
    control = model_card({**record, "settings": {**record["settings"], "control": "shuffled"}})
    assert "**This is a control**" in control
    assert "taught by speech" not in control
