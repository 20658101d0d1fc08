"""Who is compared with whom: equals in size, corpus, tokenizer and recipe, whatever their names."""

from dataclasses import replace

import pytest

from pipeline.reports.partners import groups_of, partners_of, titled
from tests.helpers.finished import checkpoint

SETUP = {"texts": "t1", "tokenizer": "w1", "learning_rate": 1e-4, "steps": 100}
CRD = {"γ of crd": 1.0, "cache": "c1"}


def encoder(label, objective="none", control=None, seed=0, parameters=1000, **changes):
    """A run's encoder: of `SETUP`, and of `CRD` if it was taught, but for what changes."""
    setup = None if changes.pop("unknown", False) else {**SETUP, **changes.pop("setup", {})}
    teaching = None
    if objective not in (None, "none"):
        control, teaching = control or "real", {**CRD, **changes.pop("teaching", {})}
    return replace(
        checkpoint(label, objective, control, weights_sha256=label),
        pretraining_seed=seed,
        parameters=parameters,
        setup=setup,
        teaching=None if setup is None else teaching,
        **changes,
    )


def compared(*encoders):
    """Name of each group → name of its baseline, names of its controls."""
    groups = groups_of({one.label: one for one in encoders})
    partners = {group.name: partners_of(group, groups) for group in groups}
    return {
        name: (mine.baseline.name if mine.baseline else None, [c.name for c in mine.controls])
        for name, mine in partners.items()
    }, partners


def test_the_baseline_is_of_the_same_size_whatever_its_name():
    told, _ = compared(
        encoder("a-big-none", parameters=9000), encoder("none"), encoder("crd", "crd")
    )
    assert told["crd"] == ("none", [])


@pytest.mark.parametrize("name", sorted(SETUP))
def test_another_corpus_tokenizer_or_recipe_is_no_baseline(name):
    other = encoder("none", setup={name: "another"})
    told, partners = compared(other, encoder("crd", "crd"))
    assert told["crd"] == (None, [])
    assert "closest is none, of another " + name in partners["crd"].why
    told, _ = compared(other, encoder("right"), encoder("crd", "crd"))
    assert told["crd"] == ("right", [])


def test_a_control_has_the_same_objective_weight_and_size():
    told, _ = compared(
        encoder("none"),
        encoder("crd", "crd"),
        encoder("own", "crd", "shuffled"),
        encoder("noise", "crd", "random"),
        encoder("heavy", "crd", "shuffled", teaching={"γ of crd": 50.0}),
        encoder("large", "crd", "shuffled", parameters=9000),
        encoder("nst-control", "nst", "shuffled"),
        encoder("other-cache", "crd", "shuffled", teaching={"cache": "c2"}),
    )
    assert told["crd"] == ("none", ["own", "noise"])
    assert told["own"] == told["heavy"] == ("none", [])
    assert told["large"] == (None, [])


def test_pretraining_seeds_are_one_group():
    encoders = [
        encoder(f"{kd}{seed or ''}", kd, control, seed=seed)
        for kd, control in (("none", None), ("crd", "real"))
        for seed in (0, 1, 2)
    ]
    told, _ = compared(*encoders, encoder("mixed-seed0", "crd", "shuffled"))
    assert told == {
        "none (3 pre-training seeds)": (None, []),
        "crd (3 pre-training seeds)": ("none (3 pre-training seeds)", ["mixed-seed0"]),
        "mixed-seed0": ("none (3 pre-training seeds)", []),
    }
    groups = groups_of({one.label: one for one in encoders})
    assert groups[1].runs() == {"0": "crd", "1": "crd1", "2": "crd2"}


def test_two_runs_of_one_seed_are_told_apart_by_their_labels():
    (group,) = groups_of({label: encoder(label) for label in ("a", "b")})
    assert group.runs() == {"a": "a", "b": "b"}


def test_equal_weights_count_once():
    one = encoder("none")
    (group,) = groups_of({"none": one, "again": replace(one, label="again")})
    assert list(group.members) == ["none"]


def test_groups_have_names_of_their_own():
    groups = groups_of(
        {
            one.label: one
            for one in (
                *(encoder(f"x-seed{s}", seed=s) for s in (0, 1)),
                *(encoder(f"x-seed{s}", seed=s, parameters=5) for s in (2, 3)),
            )
        }
    )
    assert [group.name for group in groups] == ["x-seed0 + x-seed1", "x-seed2 + x-seed3"]


def test_what_no_run_made_is_compared_with_nothing():
    told, partners = compared(encoder("none"), encoder("MiniLM", None), encoder("BERT", None))
    assert told["MiniLM"] == told["BERT"] == (None, [])
    assert partners["MiniLM"].why == ""


def test_without_any_baseline_that_is_why():
    _, partners = compared(encoder("crd", "crd"))
    assert partners["crd"].why == "no encoder here was trained with --kd none"


def test_records_of_before_are_compared_by_size_and_that_is_said():
    told, partners = compared(
        encoder("none", unknown=True),
        encoder("none-seed1", seed=1, unknown=True),
        encoder("big", parameters=9000, unknown=True),
        encoder("crd", "crd", unknown=True),
        encoder("mini-shuf", "crd", "shuffled", parameters=9000, unknown=True),
    )
    assert told["crd"] == ("none (2 pre-training seeds)", [])
    assert told["mini-shuf"] == ("big", [])
    assert partners["crd"].by_size_alone


def test_records_of_before_that_could_be_either_are_not_compared():
    told, partners = compared(
        *(encoder(label, unknown=True) for label in ("none", "none-of-other-texts")),
        encoder("crd", "crd", unknown=True),
    )
    assert told["crd"] == (None, [])
    assert "none and none-of-other-texts are all of its size" in partners["crd"].why


def test_a_known_equal_goes_before_an_unknown_one():
    told, partners = compared(
        encoder("a-none", unknown=True), encoder("none"), encoder("crd", "crd")
    )
    assert told["crd"] == ("none", [])
    assert not partners["crd"].by_size_alone


def test_why_there_is_no_baseline_names_what_differs():
    big = encoder("none", parameters=9000, setup={"steps": 7, "tokenizer": "x" * 64})
    _, partners = compared(big, encoder("crd", "crd"))
    assert partners["crd"].why == (
        "no encoder here is its equal without a teacher (closest is none, of another size: 1,000 "
        "parameters here, 9,000 there; steps: 100 here, 7 there; tokenizer)"
    )


@pytest.mark.parametrize(
    ("objective", "method", "name"),
    [
        ("crd", None, "mine (kd crd)"),
        ("none", None, "mine (kd none)"),
        ("splat-seq", "splat", "mine (splat-seq)"),
        ("none", "whisbert", "mine (kd none)"),
        (None, None, "mine"),
    ],
)
def test_only_what_distill_made_is_called_a_distillation(objective, method, name):
    one = encoder("mine", objective, method=method)
    assert titled("mine", one) == name


@pytest.mark.parametrize(
    ("name", "objective", "told"),
    [
        ("none", "crd", "none (kd crd)"),
        ("none-crd", "crd", "none-crd (kd crd)"),
        ("nonesuch", "none", "nonesuch (kd none)"),
        ("l10", "l1", "l10 (kd l1)"),
        ("all-none-7816", "none", "all-none-7816"),
        ("word_crd", "crd", "word_crd"),
        ("masked-audio-1", "masked-audio", "masked-audio-1"),
    ],
)
def test_a_name_that_says_no_teacher_does_not_hide_one(name, objective, told):
    assert titled(name, encoder(name, objective)) == told
