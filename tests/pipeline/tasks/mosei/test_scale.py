"""Labels of another scale are refused with their range, or mapped."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.mosei.clips import MoseiClip, tidy
from pipeline.tasks.mosei.names import parse_scale
from pipeline.tasks.mosei.scale import check_scale, mapped


@pytest.mark.parametrize(
    ("values", "likely"),
    [
        (np.linspace(-1, 1, 50), "-1..1"),
        (np.linspace(0, 6, 50), "0..6"),
        (np.linspace(0, 1, 50), "0..1"),
        ([1, 2, 3, 4, 5] * 9, "1..5"),
        ([0, 1, 2] * 9, "0..2"),
        ([-2, -1, 0, 1, 2] * 50, "-2..2"),
        (np.linspace(-50, 50, 99), r"-50..50"),
    ],
)
def test_what_is_plainly_of_another_scale_is_refused(values, likely):
    with pytest.raises(SpeechkdError) as caught:
        check_scale([float(value) for value in values], None, "here")
    assert f"--label-scale {likely} if" in str(caught.value)
    assert f"ranges from {min(values):g} to {max(values):g} ({len(values)} labels)" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.linspace(-3, 3, 50), None),
        ([*np.linspace(-3, 3, 500), 5.0, -4.0], None),
        (np.linspace(-1, 1, 19), None),
        (np.linspace(-1, 1, 50), (-3.0, 3.0)),
        (np.linspace(-1, 1, 50), (-1.0, 1.0)),
        ([], None),
    ],
)
def test_what_may_be_of_the_scale_is_taken(values, scale):
    check_scale([float(value) for value in values], scale, "here")


def test_a_scale_that_the_labels_leave_is_refused():
    with pytest.raises(SpeechkdError, match=r"25 of these lie beyond --label-scale 0\.\.6"):
        check_scale([-1.0, 1.0] * 25, (0.0, 6.0), "here")


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(0, 1))
def test_ends_go_to_ends_and_between_is_straight(low, span, part):
    scale = low, low + span
    assert mapped(scale[0], scale) == pytest.approx(-3)
    assert mapped(scale[1], scale) == pytest.approx(3)
    assert mapped(low + part * span, scale) == pytest.approx(-3 + 6 * part, abs=1e-6)


def test_clips_of_another_scale_are_mapped():
    clips = [MoseiClip("v", str(i), "test", "x", sentiment=i / 20 - 1) for i in range(41)]
    with pytest.raises(SpeechkdError, match=r"here: sentiment ranges from -1 to 1 \(41 labels\)"):
        tidy(clips, "here")
    taken = tidy(clips, "here", scale=(-1, 1)).clips
    assert [clip.sentiment for clip in taken] == pytest.approx(np.linspace(-3, 3, 41))
    assert math.isnan(mapped(math.nan, (-1, 1)))


@pytest.mark.parametrize(
    ("text", "scale"),
    [("", None), ("-1..1", (-1, 1)), ("0..6", (0, 6)), ("-0.5..1.5", (-0.5, 1.5))],
)
def test_scales_are_written_with_two_dots(text, scale):
    assert parse_scale(text) == scale


@pytest.mark.parametrize("text", ["1", "1..", "1..1", "2..1", "a..b", "-1,1", "0..inf", "nan..1"])
def test_what_is_no_scale_is_told(text):
    with pytest.raises(SpeechkdError, match=r"write LOW\.\.HIGH, such as -1\.\.1"):
        parse_scale(text)
