"""Tables of minimal pairs: which lines there are, what stands beside them, and their means."""

import numpy as np
import pytest

from pipeline.tasks.blimp import COLUMNS, FIELDS, SUPPLEMENT
from pipeline.tasks.pair_files import Pair
from pipeline.tasks.pair_scores import contrasts, score
from pipeline.tasks.pair_table import Column, contrast_lines, differ, header, lines, padded


def column(label="mine", per_field=2, right=1.0, supplement=True):
    pairs = [
        Pair(f"{term}-{i}", term, "g", "b")
        for terms in FIELDS.values()
        for term in terms
        for i in range(per_field)
    ]
    extra = [Pair(name, name, "g", "b") for name in SUPPLEMENT]
    return Column(
        label,
        score(pairs, np.full(len(pairs), right)),
        score(extra, np.zeros(5)) if supplement else None,
    )


def cells(rows, name):
    return next(row[1:] for row in rows if row[0] == name)


def test_the_supplement_has_its_own_mean():
    rows = lines([column()], "field")
    assert [row[0] for row in rows[:12]] == sorted(FIELDS)
    assert cells(rows, "mean over fields") == ["100.0"]
    assert cells(rows, "mean over the supplement") == ["0.0"]
    assert cells(rows, "mean over paradigms") == cells(rows, "mean over pairs") == ["100.0"]
    assert not any(row[0].startswith("mean of 17") for row in rows)


def test_without_the_supplement_it_is_not_shown():
    names = [row[0] for row in lines([column(supplement=False)], "field")]
    assert not set(names) & {*SUPPLEMENT, "mean over the supplement"}


def test_the_paper_stands_beside_line_by_line():
    shown = [column()]
    rows = lines(shown, "field", paper=True)
    assert header(shown, twice=False, paper=True) == ["mine", *COLUMNS]
    assert {len(row) for row in rows} == {2 + len(COLUMNS)}
    assert cells(rows, "ellipsis")[1:3] == ["83.14", "88.68"]
    assert cells(rows, "hypernym")[1] == "50.12"
    assert cells(rows, "mean of 17, as the paper's")[:3] == ["70.6", "70.55", "68.85"]
    assert cells(rows, "mean over pairs")[1:] == [""] * len(COLUMNS)


def test_fields_show_both_means_where_they_differ():
    pairs = [Pair("a", "binding", "g", "b")] * 3 + [Pair("b", "binding", "g", "b")]
    one = Column("mine", score(pairs, np.array([1, 1, 1, 0.0])))
    assert differ([one])
    assert cells(lines([one], "field", twice=True), "binding") == ["75.0", "50.0"]
    assert header([one], twice=True, paper=False) == ["mine", "mine, paradigms"]
    assert padded(["x"], twice=True) == ["x", ""]
    assert not differ([column()])


@pytest.mark.parametrize(("by", "count"), [("term", 13), ("paradigm", 26)])
def test_lines_may_be_terms_or_paradigms(by, count):
    rows = lines([column(supplement=False)], by)
    assert len(rows) == count + 3


def test_differences_are_told_in_points():
    pairs = [Pair("a", "binding", "g", "b")] * 4
    told = contrast_lines(contrasts(pairs, np.ones(4), np.zeros(4)))
    assert told[0] == ["binding", "+100.0", "+100.0 … +100.0", "4", "0", "0.125"]
    many = contrast_lines(contrasts(pairs * 10, np.ones(40), np.zeros(40)))
    assert many[0][-1] == "2e-12"
