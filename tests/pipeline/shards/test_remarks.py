"""Clips that are kept, but of which a user must hear."""

import numpy as np
import pytest
import soundfile

from pipeline.shards.decoding import read_sound
from pipeline.shards.refusals import RefusedError
from pipeline.shards.remarks import Remark

RATE = 16_000


def speech(seed, seconds=4.0):
    """Noise with the slow rise and fall of syllables."""
    time = np.arange(round(RATE * seconds)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.1, len(time))
    return noise * np.square(np.sin(2 * np.pi * 2 * time))


def remarks(tmp_path, *channels, channel=None):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack(channels, axis=1).astype(np.float32), RATE, subtype="FLOAT")
    return read_sound(path, channel=channel).remarks


def in_turn(leak):
    first, second = speech(1), speech(2)
    first[RATE:] *= leak
    second[:RATE] *= leak
    return first, second


def test_ordinary_clips_bear_no_remark(tmp_path):
    voice = speech(0)
    assert remarks(tmp_path, voice) == ()
    assert remarks(tmp_path, voice, voice) == ()
    assert remarks(tmp_path, voice, 0.5 * voice) == ()
    assert remarks(tmp_path, speech(1), speech(2)) == ()
    assert remarks(tmp_path, *(speech(seed) for seed in range(8))) == ()
    assert remarks(tmp_path, voice, np.zeros_like(voice)) == ()
    assert remarks(tmp_path, voice + 0.01 * speech(1), 0.8 * voice + 0.01 * speech(2)) == ()


def test_channels_that_cancel_each_other(tmp_path):
    voice = speech(0)
    assert remarks(tmp_path, voice, -voice) == (Remark.OPPOSITE_PHASE,)
    assert remarks(tmp_path, voice, -0.8 * voice) == (Remark.OPPOSITE_PHASE,)
    assert remarks(tmp_path, voice, -voice, channel=0) == ()


@pytest.mark.parametrize("leak", [0.0, 0.05])
def test_a_speaker_per_channel(tmp_path, leak):
    assert remarks(tmp_path, *in_turn(leak)) == (Remark.SPEAKER_PER_CHANNEL,)
    assert remarks(tmp_path, *in_turn(leak), channel=1) == ()


def test_channels_that_hear_both_speakers(tmp_path):
    assert remarks(tmp_path, *in_turn(0.5)) == ()


def test_silence(tmp_path):
    assert remarks(tmp_path, np.zeros(RATE)) == (Remark.SILENT,)
    assert remarks(tmp_path, np.full(RATE, 9e-4)) == (Remark.SILENT,)
    assert remarks(tmp_path, np.zeros(RATE), np.zeros(RATE)) == (Remark.SILENT,)
    assert remarks(tmp_path, np.full(RATE, 2e-3)) == ()


def test_one_channel_in_place_of_the_average(tmp_path):
    path = tmp_path / "a.wav"
    stereo = np.stack([speech(1), speech(2)], axis=1).astype(np.float32)
    soundfile.write(path, stereo, RATE, subtype="FLOAT")
    assert np.array_equal(read_sound(path, channel=1).wave_S, stereo[:, 1])
    assert np.array_equal(read_sound(path, 1.0, 2.0, channel=0).wave_S, stereo[RATE : 2 * RATE, 0])
    assert np.allclose(read_sound(path).wave_S, stereo.mean(axis=1))
    with pytest.raises(RefusedError, match="channel 3 is wanted, and the recording has 2"):
        read_sound(path, channel=2)
    soundfile.write(path, stereo[:, 0], RATE, subtype="FLOAT")
    assert np.array_equal(read_sound(path, channel=0).wave_S, stereo[:, 0])
    with pytest.raises(RefusedError, match="channel 2 is wanted, and the recording has 1"):
        read_sound(path, channel=1)
