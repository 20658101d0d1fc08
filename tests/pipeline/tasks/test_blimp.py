"""BLiMP's fields, its editions, and the published table, held to what the papers say."""

from statistics import fmean

import pytest

from pipeline.tasks.blimp import (
    COLUMNS,
    FIELDS,
    PAPERS_EDITION,
    PUBLISHED,
    SIZES,
    SUPPLEMENT,
    edition_of,
    field_of,
)


def test_twelve_fields_hold_the_thirteen_terms():
    assert len(FIELDS) == 12
    terms = [term for some in FIELDS.values() for term in some]
    assert len(terms) == len(set(terms)) == 13
    assert field_of("s-selection") == "argument_structure"
    assert field_of("filler_gap_dependency") == "filler_gap"
    assert field_of("filler_gap") == "filler_gap"


def test_the_whole_of_blimp_has_67_paradigms_of_1000():
    assert sum(SIZES["BLiMP, whole"].values()) == 67_000


@pytest.mark.parametrize("column", ["MLM", "MM"])
def test_the_papers_percentages_are_fractions_of_its_edition(column):
    """A figure with two decimals is some number of right pairs over the size of its set."""
    for name, size in SIZES[PAPERS_EDITION].items():
        figure = float(PUBLISHED[name][column])
        right = round(figure * size / 100)
        assert round(100 * right / size, 2) == figure, name


@pytest.mark.parametrize(
    ("column", "mean"),
    [
        ("MLM", 70.55), ("MM", 68.85), ("OPT 10M", 60.3), ("RoBERTa 10M", 63.0), ("T5 10M", 54.5),
        ("OPT 100M", 73.1), ("RoBERTa 100M", 65.5), ("T5 100M", 53.7),
    ],
)  # fmt: skip
def test_the_means_of_the_published_columns(column, mean):
    assert list(PUBLISHED) == [*FIELDS, *SUPPLEMENT]
    digits = len(str(mean).partition(".")[2])
    assert fmean(float(row[column]) for row in PUBLISHED.values()) == pytest.approx(
        mean, abs=0.6 * 10**-digits
    )
    assert column in COLUMNS


def test_an_edition_is_known_by_the_number_of_its_pairs():
    assert edition_of(SIZES["BabyLM's files of 2025"]) == "BabyLM's files of 2025"
    assert edition_of({"ellipsis": 1732, "binding": 6738}) == PAPERS_EDITION
    assert edition_of({"ellipsis": 1732, "binding": 7000}) == ""
    assert edition_of({"turn_taking": 280}) == ""  # the same number in two editions
    assert edition_of({}) == ""
