"""Holm's adjusted p, beside its steps as they are written down."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.reports.holm import holm


@given(st.lists(st.floats(0, 1), max_size=8), st.integers(0, 4), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_steps_reject(p, missing, level):
    family = len(p) + missing
    rejected, order = set(), sorted(range(len(p)), key=lambda place: p[place])
    for rank, place in enumerate(order):
        if (family - rank) * p[place] > level:
            break
        rejected.add(place)
    adjusted = holm(p, family)
    assert {place for place in range(len(p)) if adjusted[place] <= level} == rejected
