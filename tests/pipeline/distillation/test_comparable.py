"""What runs record of setup and teaching is equal where they are to be compared, and only there."""

import json

import pytest
from transformers import BertConfig

from pipeline.models.encoders import load_pretrained
from stages.distill import DistillSettings, run
from tests.helpers.caches import make_cache


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Makes the encoder of a run of two steps."""
    folder = tmp_path_factory.mktemp("comparable")
    cache = make_cache(folder / "cache", [24]).folder.path
    for name, width in (("tiny", 16), ("wide", 32)):
        sizes = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2}
        BertConfig(**sizes, intermediate_size=32).save_pretrained(folder / name)
    made = {}

    def make(**changes):
        key = json.dumps(changes, sort_keys=True)
        if key not in made:
            options = {
                "cache": cache, "out": folder / f"run{len(made)}", "kd": ["none"], "epochs": 2.0,
                "batch": 12, "vocab_size": 120, "held_out": 0.1, "device": "cpu", "student": "tiny",
            }  # fmt: skip
            options |= changes
            options["student"] = str(folder / options["student"] / "config.json")
            if "init" in options:
                options["init"] = str(folder / options["init"])
            run(DistillSettings(**options))
            made[key] = load_pretrained(str(options["out"]))[0]
        return made[key]

    return make


def test_a_student_its_control_and_the_one_without_teacher_share_a_setup(trained):
    none, crd = trained(), trained(kd=["crd"])
    control = trained(kd=["crd"], control="shuffled")
    assert none.setup == crd.setup == control.setup
    assert (none.teaching, none.control) == (None, None)
    assert crd.teaching == control.teaching
    assert crd.teaching["γ of crd"] == 1.0
    assert crd.teaching["τ of crd"] == 0.01
    assert (crd.control, control.control) == ("real", "shuffled")
    assert none.setup["steps"] == none.setup["total steps"] == 2


def test_another_seed_is_of_the_same_setup(trained):
    other = trained(seed=1)
    assert other.setup == trained().setup
    assert other.pretraining_seed == 1
    assert other.weights_sha256 != trained().weights_sha256


def test_a_default_written_out_is_the_default(trained):
    said = trained(kd=["crd"], gamma=[1.0], temperature=0.01, teacher_side="standardize")
    assert said.teaching == trained(kd=["crd"]).teaching


@pytest.mark.parametrize(
    "changes",
    [
        {"student": "wide"},
        {"learning_rate": 5e-4},
        {"lowercase": False},
        {"max_tokens": 8},
        {"epochs": 3.0},
        {"max_steps": 1},
        {"held_out": 0.3},
        {"init": "run0/student"},
    ],
    ids=str,
)
def test_another_size_tokenizer_or_recipe_is_another_setup(trained, changes):
    first = trained()
    assert trained(**changes).setup != first.setup


def test_another_weight_of_the_objective_is_another_teaching(trained):
    crd, heavier = trained(kd=["crd"]), trained(kd=["crd"], gamma=[50.0])
    assert heavier.setup == crd.setup
    assert heavier.teaching != crd.teaching
