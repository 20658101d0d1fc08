"""Named targets of made frames and times, against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tasks.hearing.prosody import heard_in, of_clip, of_words, pauses, rates


def frames(pitches, energy=-20.0):
    return np.array([(pitch, energy, 0.5) for pitch in pitches], np.float32)


def test_pitch_is_in_semitones_over_100_hz_and_its_range_leaves_out_the_ends():
    stretch = heard_in(frames([0, 0, *[200] * 10, 0, *[50] * 10, 0]), 0.01)
    assert stretch.pitch == pytest.approx(0)
    assert stretch.pitch_range == pytest.approx(24)
    assert stretch.voiced_seconds == pytest.approx(0.21)  # the pause between them counts
    octaves = heard_in(frames([100] * 19 + [800]), 0.01)  # an error of pyin's, say
    assert octaves.pitch_range == pytest.approx(0)


def test_energy_is_the_mean_power_so_that_pauses_count_little():
    loud = np.concatenate([frames([100] * 10, -20), frames([0] * 10, -80)])
    assert heard_in(loud, 0.01).energy == pytest.approx(-20 - 10 * np.log10(2), abs=1e-4)


@pytest.mark.parametrize("pitches", [[], [0] * 50, [100] * 4])
def test_what_is_hardly_voiced_has_no_pitch(pitches):
    stretch = heard_in(frames(pitches).reshape(-1, 3), 0.01)
    assert np.isnan([stretch.pitch, stretch.pitch_range, stretch.voiced_seconds]).all()
    assert np.isnan(stretch.energy) == (not pitches)


def test_the_rate_of_a_clip_counts_letters_from_its_first_voiced_frame_to_its_last():
    told = of_clip("Well, I've 12!", frames([0] * 30 + [100] * 50 + [0] * 30), 0.01)
    assert told["rate"] == pytest.approx(9 / 0.5)
    assert np.isnan(of_clip("...", frames([100] * 50), 0.01)["rate"])


def test_words_have_the_frames_between_their_times():
    stretch = frames([100] * 20 + [200] * 20 + [400] * 20)
    told = of_words(np.array([0.2, 0.395]), np.array([0.4, 0.5]), stretch, 0.01)
    assert told["pitch"] == pytest.approx([12, 24])
    assert told["pitch range"] == pytest.approx([0, 0])


def test_a_word_beyond_the_frames_has_nothing():
    told = of_words(np.array([5.0, -1.0]), np.array([6.0, -0.5]), frames([100] * 20), 0.01)
    assert all(np.isnan(values).all() for values in told.values())


def test_rates_and_pauses_of_words():
    start, end = np.array([0.5, 1.0, 1.2, 9.0, 9.5]), np.array([0.9, 1.3, 1.4, 9.5, 9.5])
    trusted = np.array([True, True, True, True, False])
    rate = rates(["Hello", "I'm", "so", "x", "y"], start, end)
    assert rate[:4] == pytest.approx([12.5, 2 / 0.3, 10, 2])
    assert np.isnan(rate[4])
    pause = pauses(start, end, trusted)
    # none before the first, none where words overlap, a second at most, none where times are not
    np.testing.assert_allclose(pause, [np.nan, 0.1, 0, 1, np.nan])
    after = pauses(start, end, np.array([True, False, True, True, True]))
    np.testing.assert_allclose(after, [np.nan, np.nan, np.nan, 1, 0])


@given(st.lists(st.floats(0, 20), max_size=6))
def test_there_is_a_pause_for_every_word(times):
    start = np.sort(np.array(times, np.float64))
    pause = pauses(start, start + 0.1, np.ones(len(times), bool))
    assert len(pause) == len(times)
    assert ((pause[1:] >= 0) & (pause[1:] <= 1)).all()
