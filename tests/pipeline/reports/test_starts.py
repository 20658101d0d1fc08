"""Runs that began with runs: who is one group, and what each is compared with."""

import json
from dataclasses import replace

import pytest

from pipeline.reports.partners import groups_of, partners_of
from pipeline.reports.starts import LONGEST, by_recipe
from tests.helpers.finished import checkpoint

SETUP = {"texts": "t", "learning_rate": 1e-3, "steps": 100}


def speech(seed, **changes):
    """Masked audio, as its record has it."""
    label = f"Speech-{seed}"
    one = checkpoint(label, "masked-audio", None, weights_sha256=f"weights of {label}")
    return replace(one, pretraining_seed=seed, setup=SETUP, method="masked-audio", **changes)


def aligned(name, seed, control="real", init="", begun="", **teaching):
    """An alignment that began with the masked audio of its seed, as its record has it."""
    label, init = f"{name}-{seed}", init or f"runs/Speech-{seed}"
    one = checkpoint(label, "splat-seq", control, weights_sha256=f"weights of {label}")
    setup = {**SETUP, "init_sha256": begun or f"weights of Speech-{seed}", "init_front": "f"}
    teaching = {"init": init, "teacher": "MiniLM", **teaching}
    return replace(one, pretraining_seed=seed, setup=setup, teaching=teaching, method="splat")


def scratch(seed, weights=None, source=""):
    """Fresh weights of a run: no record but the source and the digest."""
    one = checkpoint(f"Scratch-{seed}", weights_sha256=weights or f"fresh {seed}")
    source = source or f"fresh:runs/Speech-{seed}"
    return replace(one, source=source, pretraining_seed=None)


def told(*encoders):
    """What each group is compared with: its controls, what it began with, and fresh weights."""
    groups = groups_of({one.label: one for one in encoders})
    partners = {group.name: partners_of(group, groups) for group in groups}
    return {
        name.partition(" (")[0]: (
            [one.name.partition(" (")[0] for one in mine.controls],
            *(one and one.name.partition(" (")[0] for one in (mine.start, mine.fresh)),
        )
        for name, mine in partners.items()
    }, {group.name.partition(" (")[0]: group.runs() for group in groups}


def every(seeds):
    for seed in seeds:
        yield scratch(seed)
        yield speech(seed)
        yield aligned("Seq", seed)
        yield aligned("Seq-MLM", seed, teacher="LM/student")
        yield aligned("Seq-relabelled", seed, "relabelled")


def test_seeds_of_a_chain_are_one_group_and_each_stands_beside_what_it_began_with():
    compared, runs = told(*every((0, 1, 2)))
    assert compared == {
        "Scratch": ([], None, None),
        "Speech": ([], None, "Scratch"),
        "Seq": (["Seq-relabelled"], "Speech", "Scratch"),
        "Seq-MLM": ([], "Speech", "Scratch"),
        "Seq-relabelled": ([], "Speech", "Scratch"),
    }
    for name, labels in runs.items():  # by their seeds, so that they are paired
        assert labels == {str(seed): f"{name}-{seed}" for seed in (0, 1, 2)}


def test_a_control_of_one_seed_is_that_of_a_group_whose_first_seed_is_another():
    some = [one for one in every((0, 1)) if one.label != "Seq-relabelled-0"]
    assert told(*some)[0]["Seq"] == (["Seq-relabelled-1"], "Speech", "Scratch")


def test_equal_fresh_weights_count_once_and_are_no_seeds():
    some = [replace(one, weights_sha256="fresh") if "Scratch" in one.label else one
            for one in every((0, 1, 2))]  # fmt: skip
    compared, runs = told(*some)
    assert compared["Seq"] == (["Seq-relabelled"], "Speech", "Scratch-0")
    assert runs["Scratch-0"] == {"0": "Scratch-0"}
    groups = groups_of({one.label: one for one in some})
    assert [(g.name, list(g.again)) for g in groups if g.again] == [
        ("Scratch-0", ["Scratch-1", "Scratch-2"])
    ]


def test_equal_fresh_weights_of_two_recipes_stay_beside_their_own():
    other = replace(speech(1), setup={**SETUP, "learning_rate": 1.0})
    compared, _ = told(speech(0), other, scratch(0, "w"), scratch(1, "w"))
    assert (compared["Speech-0"][2], compared["Speech-1"][2]) == ("Scratch-0", "Scratch-1")


@pytest.mark.parametrize("source", ["fresh:./runs//Speech-0/", "fresh:runs/Speech-0/speech"])
def test_a_run_may_be_written_otherwise(source):
    assert told(speech(0), scratch(0, source=source))[0]["Speech-0"][2] == "Scratch-0"


def test_a_run_s_own_fresh_weights_go_before_those_of_what_it_began_with():
    own = scratch(7, "own", "fresh:runs/Seq-0")
    compared, _ = told(speech(0), scratch(0), own, aligned("Seq", 0))
    assert compared["Seq-0"] == ([], "Speech-0", "Scratch-7")


def test_an_alignment_of_fresh_weights_began_with_those_and_with_no_run():
    fresh = aligned("Bare", 0, init="fresh:runs/Speech-0")
    compared, _ = told(speech(0), scratch(0), aligned("Seq", 0), fresh)
    assert compared["Bare-0"] == ([], None, "Scratch-0")
    assert compared["Seq-0"] == ([], "Speech-0", "Scratch-0")


def test_another_beginning_is_another_recipe():
    long = replace(speech(1), setup={**SETUP, "steps": 200})
    _, runs = told(speech(0), long, aligned("Seq", 0), aligned("Seq", 1))
    assert runs["Seq-0"] == {"0": "Seq-0"}


def test_without_what_they_began_with_nothing_is_put_together():
    compared, runs = told(aligned("Seq", 0), aligned("Seq", 1), scratch(0))
    assert compared["Seq-0"] == ([], None, None)
    assert runs["Seq-0"] == {"0": "Seq-0"}


def test_records_that_began_with_each_other_end():
    circle = [aligned("A", n, begun=f"weights of A-{(n + 1) % 40}") for n in range(40)]
    assert len(by_recipe({one.label: one for one in circle})) == 40 > LONGEST
    groups = groups_of({one.label: one for one in circle})
    assert all(partners_of(group, groups) for group in groups)


def of_run(folder, seed, epochs, steps, *, done=None, method="masked-audio", held_out=0.02, most=0):
    """A run that holds out whole speakers, so that its steps follow from its seed, too."""
    run = folder / f"Speech-{seed}"
    run.mkdir()
    settings = {"epochs": epochs, "warmup_fraction": 0.1, "seed": seed, "max_steps": most}
    (run / "run.json").write_text(json.dumps({"settings": settings}))
    plan = {"total steps": steps, "warm-up steps": steps // 10, "steps": done or steps}
    by = {"held_out": held_out} | ({"hold_out_by": "speaker"} if method else {"warm-up steps": 100})
    return replace(speech(seed), source=str(run), method=method, setup={**SETUP, **plan, **by})


@pytest.mark.parametrize("method", ["masked-audio", None])
@pytest.mark.parametrize(
    ("epochs", "done", "groups"),
    [((6, 6), None, 1), ((6, 7), None, 2), ((6, 6), 2000, 2)],
    ids=["equal epochs", "other epochs", "stopped early"],
)
def test_steps_that_differ_by_who_is_held_out_are_one_recipe(
    tmp_path, method, epochs, done, groups
):
    runs = [of_run(tmp_path, 0, epochs[0], 2790, method=method),
            of_run(tmp_path, 1, epochs[1], 3024, done=done, method=method)]  # fmt: skip
    assert len(groups_of({one.label: one for one in runs})) == groups


def test_without_the_record_of_one_run_all_keep_their_steps(tmp_path):
    """One alone would be set apart from its equal of the same steps."""
    runs = [of_run(tmp_path, 0, 6, 3024), of_run(tmp_path, 1, 6, 3024)]
    gone = replace(speech(2), source=str(tmp_path / "gone"), setup=runs[0].setup)
    assert len(groups_of({one.label: one for one in [*runs, gone]})) == 1


@pytest.mark.parametrize("changed", [{"held_out": 0.0}, {"most": 2790}])
def test_steps_of_distillation_that_no_seed_decides_stay(tmp_path, changed):
    runs = [of_run(tmp_path, 0, 6, 2790, method=None, **changed),
            of_run(tmp_path, 1, 6, 2791, method=None, **changed)]  # fmt: skip
    assert len(groups_of({one.label: one for one in runs})) == 2
