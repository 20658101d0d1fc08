"""Bytes with a minimum and a step stand for values within half a step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.cache.quantisation import quantised, values_of

rows = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 5)),
    elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False),
)


@given(rows)
def test_a_value_is_within_half_a_step(rows_NE):
    levels_NE, low, step = quantised(rows_NE)
    exact_NE = low + step * levels_NE.astype(np.float64)
    span = float(rows_NE.max()) - float(rows_NE.min())
    rounding = 1e-6 * max(abs(float(rows_NE.max())), abs(float(rows_NE.min())))
    assert np.abs(exact_NE - rows_NE).max() <= span / 510 + rounding
    read_NE = values_of(levels_NE, low, step)
    assert read_NE.dtype == np.float32
    assert np.abs(read_NE - exact_NE).max() <= rounding


def test_constant_rows_come_back_exactly():
    levels_NE, low, step = quantised(np.full((3, 2), 0.1, np.float32))
    assert step == 0
    np.testing.assert_array_equal(values_of(levels_NE, low, step), np.full((3, 2), np.float32(0.1)))
