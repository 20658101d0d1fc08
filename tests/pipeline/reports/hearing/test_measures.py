"""The figures of a hearing against scikit-learn, scipy and brute force, as they are and drawn."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import explained_variance_score

from pipeline.reports.hearing.measures import Measure, measures_of, values_of
from pipeline.tasks.hearing.results import Hearing, LevelItems


def items_of(rng, n, groups, **heard):
    return LevelItems(
        recording_n=[str(group) for group in groups],
        speaker_n=["-1"] * n,
        half_n=np.arange(n) % 2,
        candidates_n=np.where(rng.random(n) < 0.8, n // 2, 0),
        heard=heard,
    )


def drawn(rng, groups):
    draws = rng.multinomial(groups, np.full(groups, 1 / groups), 7)
    return np.concatenate([np.ones((1, groups), int), draws]).astype(np.float64)


def measure(kind, of=""):
    return Measure("clip", kind, of, "", 0.0)


def repeated(group_n, draw):
    """The items of a draw of recordings, each as often as its recording was drawn."""
    return np.repeat(np.arange(len(group_n)), draw[group_n].astype(int))


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_r_is_that_of_scipy_in_every_draw(seed):
    rng = np.random.default_rng(seed)
    group_n = rng.integers(0, 6, 40)
    group_n[:6] = range(6)
    heard, told = rng.standard_normal((2, 40))
    told = told + heard
    unknown = rng.random(40) < 0.2
    items = items_of(rng, 40, group_n, **{"heard:pitch:raw": np.where(unknown, np.nan, heard)})
    columns = {"told:pitch:raw": np.where(unknown, np.nan, told)}
    draws = drawn(rng, 6)
    got = values_of(measure("r", "pitch:raw"), items, columns, group_n)(draws)
    for value, draw in zip(got, draws, strict=True):
        mine = [place for place in repeated(group_n, draw) if not unknown[place]]
        assert value == pytest.approx(pearsonr(told[mine], heard[mine]).statistic, abs=1e-9)


def test_explained_variance_is_that_of_scikit_learn_of_centred_values():
    rng = np.random.default_rng(0)
    value, told = rng.standard_normal((2, 50, 4))
    value, told = value - value.mean(0), 0.3 * told + value - (0.3 * told + value).mean(0)
    columns = {"error:raw": np.square(value - told).mean(1)}
    group_n = np.arange(50) % 5
    items = items_of(rng, 50, group_n, **{"total:raw": np.square(value).mean(1)})
    got = values_of(measure("explained", "raw"), items, columns, group_n)(np.ones((1, 5)))
    wanted = explained_variance_score(value, told, multioutput="variance_weighted")
    assert got[0] == pytest.approx(wanted)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_recalls_and_the_median_rank_are_those_of_brute_force_in_every_draw(seed):
    rng = np.random.default_rng(seed)
    group_n = rng.integers(0, 5, 30)
    group_n[:5] = range(5)
    items = items_of(rng, 30, group_n)
    better, equal = rng.integers(0, 14, 30), rng.integers(0, 2, 30)
    sought = items.candidates_n > 0
    columns = {
        name: np.where(sought, values, np.nan)
        for name, values in (("better", better.astype(float)), ("equal", equal.astype(float)))
    }
    draws = drawn(rng, 5)
    ranks = values_of(measure("rank"), items, columns, group_n)(draws)
    tens = values_of(measure("recall", "10"), items, columns, group_n)(draws)
    for draw, rank, ten in zip(draws, ranks, tens, strict=True):
        mine = [place for place in repeated(group_n, draw) if sought[place]]
        if not mine:
            assert np.isnan(rank)
            continue
        assert rank == np.median([better[p] + 1 + equal[p] / 2 for p in mine])
        # ties in every order: the share of orders in which the own one is among the ten
        hits = [np.mean([better[p] + before < 10 for before in range(equal[p] + 1)]) for p in mine]
        assert ten == pytest.approx(np.mean(hits))


def test_a_prediction_that_is_the_same_for_all_has_no_r_and_one_of_nothing_heard_is_none():
    rng = np.random.default_rng(0)
    group_n = np.arange(20) % 4
    for heard, told, wanted in (
        (rng.standard_normal(20), np.full(20, 0.1), 0.0),
        (np.full(20, 0.1), rng.standard_normal(20), np.nan),
    ):
        items = items_of(rng, 20, group_n, **{"heard:rate:raw": heard})
        value = values_of(measure("r", "rate:raw"), items, {"told:rate:raw": told}, group_n)
        np.testing.assert_equal(value(np.ones((1, 4))), [wanted])


def test_what_a_folder_has_becomes_figures_with_their_chance(tmp_path):
    rng = np.random.default_rng(0)
    heard = {"total:raw": rng.random(8), "heard:pitch:within speaker": rng.random(8)}
    items = LevelItems(["a"] * 8, ["b"] * 8, np.arange(8) % 2, np.full(8, 4), heard)
    hearing = Hearing(tmp_path, {}, [], {"clip": []}, {"clip": items}, [])
    shown = {m.title: (m.chance, m.better) for m in measures_of(hearing)}
    assert shown == {
        "clips: R@1, %": (0.25, 1),
        "clips: R@10, %": (1.0, 1),
        "clips: median rank": (2.5, -1),
        "clips: explained variance (raw), %": (0.0, 1),
        "clips: pitch (within speaker), r × 100": (0.0, 1),
    }


def test_a_report_of_a_hearing_needs_no_torch():
    """It would make every report seconds slower."""
    code = "import sys, pipeline.reports.hearing.sections; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
