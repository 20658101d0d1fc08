"""What hearings hand to a table of student × task."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.reports.hearing import bootstrap, sections
from pipeline.reports.overview import Overview
from pipeline.reports.overview_page import overview_sections
from pipeline.reports.overview_sources import of_hearing, on_demand, uncompared
from tests.pipeline.reports.hearing.test_bootstrap import clustered, hearing_of, pretrained

KINDS = {"none": ("none", None), "crd": ("crd", "real"), "twin": ("crd", "shuffled")}


@pytest.fixture
def report(monkeypatch):
    yield from made(monkeypatch)


@pytest.fixture
def report_without_retrieval(monkeypatch):
    yield from made(monkeypatch, retrieval=False)


def made(monkeypatch, *, retrieval=True):
    monkeypatch.setattr(bootstrap, "DRAWS", 500)
    bootstrap.draws.cache_clear()
    error_n = clustered(np.random.default_rng(1))
    errors = {"none": error_n, "crd": error_n - 0.2, "twin": error_n + 0.1, "fresh": error_n}
    encoders = {label: pretrained(label, *kind) for label, kind in KINDS.items()}
    encoders["fresh"] = pretrained("fresh", None, None)
    hearing = hearing_of(errors, encoders=encoders, roles={"fresh": "untrained"})
    if not retrieval:
        hearing.levels["clip"].candidates_n[:] = 0
    monkeypatch.setattr(sections, "read_hearing", lambda _: hearing)
    yield sections.HearingReport(Path("o"))
    bootstrap.draws.cache_clear()


def test_students_stand_beside_no_teacher_and_their_controls_and_beside_nothing_else(report):
    compared = of_hearing(report, "1: ")
    assert {(one.student.name, one.other.name) for one in compared} == {
        ("crd", "none"),
        ("crd", "twin"),
        ("twin", "none"),
    }
    firsts = {one.column.heading for one in compared if one.column.first}
    assert firsts == {"1: hearing clips: R@10"}
    explained = {
        (one.student.name, one.other.name): one.shown
        for one in compared
        if one.column.title == "explained variance (raw)"
    }
    assert explained["crd", "none"].mean == pytest.approx(0.2)
    assert explained["crd", "twin"].mean == pytest.approx(0.3)
    assert explained["twin", "none"].mean == pytest.approx(-0.1)
    assert {one.shown.units for one in compared} == {40}


def test_a_hearing_without_retrieval_stands_in_the_table_by_what_it_has(report_without_retrieval):
    compared = of_hearing(report_without_retrieval, "")
    firsts = {one.column.heading for one in compared if one.column.first}
    assert firsts == {"hearing clips: explained variance (raw)"}
    assert ["crd", "none"] in [row[:2] for row in Overview(compared, [], []).grid()]


def test_what_has_nothing_to_compare_is_named(report, monkeypatch):
    assert uncompared([], [report], []) == []
    monkeypatch.setattr(report, "compared", [])
    assert uncompared([], [report], []) == ["o"]
    (first, *_) = overview_sections(Overview([], [], []), [], [], ["o"])
    assert "Shown below and not here" in first.text[-1]
    assert first.text[-1].endswith(": o.")


@pytest.mark.parametrize(
    ("name", "number", "wanted"),
    [
        ("2: Emotion:weighted_f1", "2", {"Emotion", "2: Emotion"}),
        ("2: Emotion:weighted_f1", "1", {"2: Emotion"}),
        ("tone: of voice:weighted F1", "", {"tone: of voice"}),
        ("2: tone: of voice:weighted_f1", "2", {"tone: of voice", "2: tone: of voice"}),
        ("Emotion:accuracy", "2", set()),
    ],
)
def test_a_measure_on_demand_is_that_of_a_task_however_it_is_named(name, number, wanted):
    assert on_demand([name], number) == {(task, "weighted_f1") for task in wanted}


def test_a_lower_rank_is_a_gain(report):
    for one in of_hearing(report, ""):
        if one.column.title == "median rank":
            sides = [
                report.figures.of(measure, group).mean
                for measure in report.measures
                if measure.kind == "rank"
                for group in (one.student, one.other)
            ]
            assert one.shown.mean == sides[1] - sides[0]
            break
    else:
        pytest.fail("no rank was compared")
