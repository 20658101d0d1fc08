"""Intervals of a hearing: they cover what they promise, and differences are paired."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline.models.pretrained import Pretrained
from pipeline.reports.hearing import bootstrap
from pipeline.reports.hearing.bootstrap import Figures, draws, spread_of_runs
from pipeline.reports.hearing.comparisons import compare, lines_of
from pipeline.reports.hearing.measures import Measure
from pipeline.reports.partners import Group
from pipeline.tasks.hearing.encoders import word_counts
from pipeline.tasks.hearing.results import Hearing, Judged, LevelItems

EXPLAINED = Measure("clip", "explained", "raw", "clips: explained variance (raw), %", 0.0)
WITHIN = Measure("clip", "explained", "within speaker", "…", 0.0)
RANK = Measure("clip", "rank", "", "clips: median rank", 20.5, -1)


def pretrained(label, objective="crd", control="real", seed=0):
    setup = {"texts": "t"}
    teaching = {"cache": "c"} if objective != "none" else None
    control = control if objective != "none" else None
    weights = f"{label}-{seed}"
    return Pretrained(label, label, objective, control, seed, 9, weights, setup, teaching)


def hearing_of(errors, *, recordings=40, speakers=None, per=3, encoders=None, roles=None):
    """A folder of which each item's squared error is given, by label; the total is 1 each."""
    n = recordings * per
    recording = [str(i // per) for i in range(n)]
    speaker = [str(i // per % speakers) for i in range(n)] if speakers else ["-1"] * n
    ones = {f"total:{view}": np.ones(n) for view in ("raw", "within speaker")}
    items = LevelItems(recording, speaker, np.arange(n) % 2, np.full(n, 40), ones)
    rng = np.random.default_rng(0)
    judged = []
    for label, error in errors.items():
        known = (encoders or {}).get(label) or pretrained(label)
        columns = {f"error:{view}": error for view in ("raw", "within speaker")}
        columns |= {"better": rng.integers(0, 40, n).astype(float), "equal": np.zeros(n)}
        judged.append(Judged(known, (roles or {}).get(label, "encoder"), "", {"clip": columns}))
    return Hearing(Path("o"), {}, [], {"clip": []}, {"clip": items}, judged)


def group(hearing, *labels):
    by_label = {one.encoder.label: one.encoder for one in hearing.judged}
    return Group(labels[0], {label: by_label[label] for label in labels})


def clustered(rng, recordings=40, per=3):
    """Errors that recordings have in common, so that items are far from independent."""
    return np.repeat(rng.normal(0.5, 0.2, recordings), per)


def test_an_interval_is_that_of_the_mean_over_recordings():
    error = clustered(np.random.default_rng(1))
    one = Figures(hearing_of({"a": error})).of(EXPLAINED, group(hearing_of({"a": error}), "a"))
    means = error[::3]
    half = 1.96 * means.std() / len(means) ** 0.5
    assert one.mean == pytest.approx(1 - error.mean())
    assert one.low == pytest.approx(1 - error.mean() - half, abs=0.15 * half)
    assert one.high == pytest.approx(1 - error.mean() + half, abs=0.15 * half)


def test_differences_are_paired():
    """Both err where a recording is hard, and one errs a little less everywhere."""
    error = clustered(np.random.default_rng(2))
    hearing = hearing_of({"a": error - 0.01, "b": error})
    gap = Figures(hearing).difference(EXPLAINED, group(hearing, "a"), group(hearing, "b"))
    assert (gap.low, gap.mean, gap.high) == pytest.approx((0.01, 0.01, 0.01), abs=1e-6)
    assert gap.p < 0.001
    back = Figures(hearing).difference(EXPLAINED, group(hearing, "b"), group(hearing, "a"))
    assert back.high < 0


def test_a_lower_median_rank_is_better():
    hearing = hearing_of({"a": np.ones(120), "b": np.ones(120)})
    for one, rank in zip(hearing.judged, (3.0, 30.0), strict=True):
        one.columns["clip"]["better"][:] = rank
    gap = Figures(hearing).difference(RANK, group(hearing, "a"), group(hearing, "b"))
    assert (gap.low, gap.mean, gap.high) == (27, 27, 27)


def test_p_values_are_those_of_a_normal_test_about():
    rng = np.random.default_rng(3)
    gaps = rng.normal(0.02, 0.06, 40)
    hearing = hearing_of({"a": np.repeat(0.5 - gaps, 3), "b": np.full(120, 0.5)})
    gap = Figures(hearing).difference(EXPLAINED, group(hearing, "a"), group(hearing, "b"))
    z = gaps.mean() / (gaps.std() / 40**0.5)
    assert gap.p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=0.4)


@pytest.mark.parametrize(("speakers", "drawn"), [(None, 40), (25, 25), (10, 40)])
def test_within_speaker_speakers_are_drawn_if_they_are_enough(speakers, drawn):
    """Two recordings of a speaker share the mean that is taken away, so they are not two draws."""
    figures = Figures(hearing_of({"a": np.ones(120)}, speakers=speakers))
    assert figures.units("clip", "within speaker")[0] == drawn
    assert figures.units("clip")[0] == 40


def test_intervals_of_pairs_that_mirror_each_other_are_not_too_narrow():
    rng = np.random.default_rng(4)
    error = np.repeat(rng.normal(0.5, 0.2, 20), 2)  # 20 speakers of two recordings of one clip
    order = np.argsort(np.tile([0, 1], 20), kind="stable")
    hearing = hearing_of({"a": error[order]}, recordings=40, speakers=20, per=1)
    mine = group(hearing, "a")
    figures = Figures(hearing)
    wide, narrow = figures.of(WITHIN, mine), figures.of(EXPLAINED, mine)
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2**0.5, abs=0.1)


def test_several_runs_have_their_spread_in_the_interval():
    flat = {f"s{i}": np.full(120, value) for i, value in enumerate((0.5, 0.6, 0.7))}
    hearing = hearing_of(flat)
    one = Figures(hearing).of(EXPLAINED, group(hearing, *flat))
    half = stats.t.ppf(0.975, 2) * np.std([0.5, 0.6, 0.7], ddof=1) / 3**0.5
    assert one.mean == pytest.approx(0.4)
    assert one.high - one.mean == pytest.approx(half, rel=0.1)
    assert one.runs == (3,)
    assert spread_of_runs({"0": 0.5}) is None


def test_a_draw_counts_as_many_recordings_as_there_are():
    counts = draws(23)
    assert counts.shape == (bootstrap.DRAWS, 23)
    assert (counts.sum(1) == 23).all()
    assert counts.mean(0) == pytest.approx(np.ones(23), abs=0.05)


def test_who_is_compared_with_whom():
    encoders = {
        "none": pretrained("none", "none"),
        "crd": pretrained("crd"),
        "shuffled": pretrained("shuffled", control="shuffled"),
        "random": pretrained("random", control="random"),
        "MiniLM": Pretrained("MiniLM", "", None, None, None, 5, "m"),
        "word counts": word_counts(),
    }
    errors = {label: np.full(120, 0.5) for label in encoders}
    hearing = hearing_of(errors, encoders=encoders, roles={"word counts": "words"})
    lines = lines_of(hearing)
    names = [line.group.name for line in lines]
    assert names == ["word counts", "none", "crd", "random", "shuffled", "MiniLM"]
    compared = compare(hearing, Figures(hearing), [EXPLAINED], lines)
    pairs = {(one.group.name, one.other.name) for one in compared}
    assert pairs == {
        *((name, "word counts") for name in names[1:]),
        *((name, "none") for name in ("crd", "random", "shuffled")),
        *(("crd", name) for name in ("random", "shuffled")),
    }
    assert {one.verdict for one in compared} == {"noise"}
