"""Names that a font here has are drawn; others are numbered, and what they stand for is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reports import lettering
from pipeline.reports.lettering import broken, families, key, short, shown


@pytest.fixture
def without_fonts(monkeypatch):
    """No font but the usual one."""
    monkeypatch.setattr(lettering, "_family_with", lambda _: "")


@pytest.mark.usefixtures("without_fonts")
def test_what_no_font_has_is_numbered_by_its_place():
    names = ["happy", "高兴", "naïve Ω", "悲伤"]
    assert shown(names, "class") == ["happy", "class 2", "naïve Ω", "class 4"]
    (told,) = key(names, "class")
    assert "in the pictures class 2 is 高兴; class 4 is 悲伤. A font" in told
    assert families(names) == ["DejaVu Sans"]


def test_a_font_that_has_the_letters_is_used(monkeypatch):
    monkeypatch.setattr(lettering, "_family_with", lambda _: "Some CJK")
    assert shown(["高兴"], "class") == ["高兴"]
    assert key(["高兴"], "class") == []
    assert families(["a", "高兴", "悲伤"]) == ["DejaVu Sans", "Some CJK"]


def test_a_font_is_looked_for_among_those_of_this_machine():
    assert lettering._family_with(frozenset(map(ord, "abc")))
    assert lettering._family_with(frozenset({0x10FFFF})) == ""


@given(st.text(), st.integers(4, 60))
def test_a_short_name_is_short(name, most):
    assert len(short(name, most).replace(r"\$", "$")) <= most


def test_a_long_name_has_three_lines_at_most_and_its_remark_one_more():
    lines = broken("word " * 100 + "(CONTROL: shuffled teacher)").split("\n")
    assert len(lines) <= 5
    assert lines[-1] == "(CONTROL: shuffled teacher)"
    assert max(map(len, lines)) <= 36
    assert broken("a$b") == r"a\$b"
