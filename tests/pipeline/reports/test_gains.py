"""Gains as rows of a table, and of whom they are."""

import pytest

from pipeline.reports.comparison import Difference
from pipeline.reports.gains import Gain, Gains
from pipeline.reports.partners import groups_of, partners_of
from tests.helpers.finished import checkpoint

ENCODERS = {
    "none": checkpoint("none", "none", weights_sha256="0"),
    "crd": checkpoint("crd", "crd", "real", weights_sha256="1"),
    "mixed": checkpoint("mixed", "crd", "shuffled", weights_sha256="2"),
    "nst": checkpoint("nst", "nst", "real", weights_sha256="3"),
    "MiniLM": checkpoint("MiniLM", weights_sha256="4"),
}


def gain(measure, label, low, high, against="none", *, percent=True, **changes):
    one = {"seeds": 5, "groups": 100, **changes}
    return Gain(measure, label, against, Difference((low + high) / 2, low, high, **one), percent)


def gains(over_baseline, over_control=(), encoders=ENCODERS):
    groups = groups_of(encoders)
    partners = {group.name: partners_of(group, groups) for group in groups}
    by_name = {group.name: group for group in groups}
    return Gains(by_name, partners, tuple(over_baseline), tuple(over_control))


def test_a_gain_inside_the_noise_is_called_that():
    assert gain("a", "crd", -0.01, 0.05).verdict == "noise"
    assert gain("a", "crd", 0.01, 0.05).verdict == "better"
    assert gain("a", "crd", -0.05, -0.01).verdict == "worse"
    assert Gain("a", "crd", "none", None, percent=True).cells() == ["–", "–", "0", "–", "–"]
    assert gain("a", "crd", 0.01, 0.03).cells() == ["+2.00", "+1.00 to +3.00", "5", "1", "better"]
    mae = gain("MAE", "crd", 0.001, 0.003, percent=False)
    assert mae.cells()[:2] == ["+0.0020", "+0.0010 to +0.0030"]


@pytest.mark.parametrize(("runs", "told"), [((1, 1), "1"), ((3, 3), "3"), ((1, 2), "1 and 2")])
def test_the_table_tells_how_often_each_side_was_pretrained(runs, told):
    assert gain("a", "crd", 0.01, 0.03, runs=runs).cells()[3] == told


def test_every_comparison_is_a_row():
    grid = gains(
        [gain("a", "crd", 0, 1), gain("b", "crd", 0, 1)], [gain("a", "crd", 0, 1, "mixed")]
    )
    rows = grid.grid()[1:]
    assert [row[:3] for row in rows] == [
        ["a", "crd", "none"],
        ["a", "crd", "mixed"],
        ["b", "crd", "none"],
    ]


def test_who_is_compared_with_whom_is_a_table_of_students():
    rows = gains([]).pairs()[1:]
    assert rows == [
        ["crd", "crd", "none", "mixed"],
        ["mixed (kd crd, CONTROL: shuffled teacher)", "mixed", "none", "– (it is a control)"],
        ["nst", "nst", "none", "–"],
    ]
    alone = gains([], encoders={"crd": ENCODERS["crd"]}).pairs()[1]
    assert alone[2] == "– (no encoder here was trained with --kd none)"
