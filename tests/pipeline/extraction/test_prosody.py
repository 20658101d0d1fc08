"""Prosody against made tones of known pitch and loudness, and against librosa."""

import librosa
import numpy as np
import pytest

from pipeline.extraction.prosody import prosody, prosody_frames
from tests.helpers.whispers import speechlike


def tone(hertz: float, seconds: float, amplitude: float = 0.1) -> np.ndarray:
    """A tone with ten overtones, as a voice has them."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    voice = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 11))
    return (amplitude * voice).astype(np.float32)


@pytest.mark.parametrize("hertz", [70.0, 123.4, 220.0, 590.0])
def test_a_tone_has_its_pitch_and_silence_has_none(hertz):
    wave_S = np.concatenate([np.zeros(8_000, np.float32), tone(hertz, 0.6)])
    rows_FC = prosody(wave_S)
    assert rows_FC.shape == (110, 3)
    pitch_F, energy_F, voicing_F = rows_FC.T
    before, within = slice(0, 44), slice(56, 104)  # no window of theirs holds the tone's onset
    assert not pitch_F[before].any()
    assert (energy_F[before] == -100).all()
    assert (np.abs(pitch_F[within] / hertz - 1) < 0.005).all()
    assert voicing_F[within].min() > 0.3 > voicing_F[before].max()


def test_a_rising_tone_rises():
    time = np.arange(32_000) / 16_000
    hertz = 100 * 3 ** (time / 2)
    phase = 2 * np.pi * np.cumsum(hertz) / 16_000
    wave_S = (0.1 * sum(np.sin(k * phase) / k for k in range(1, 8))).astype(np.float32)
    pitch_F = prosody(wave_S)[:, 0]
    error_F = np.abs(pitch_F / hertz[::160] - 1)[5:-5]
    assert np.median(error_F) < 0.005
    assert error_F.max() < 0.03


def test_energy_is_in_decibels_of_full_scale():
    time = np.arange(16_000) / 16_000
    wave_S = (0.5 * np.sin(2 * np.pi * 400 * time)).astype(np.float32)
    energy_F = prosody(wave_S)[2:-2, 1]
    np.testing.assert_allclose(energy_F, 20 * np.log10(0.5 / np.sqrt(2)), atol=1e-3)


def test_pitch_and_voicing_are_librosas():
    wave_S = speechlike(20_000)
    pitch_F, voiced_F, probability_F = librosa.pyin(
        wave_S, fmin=65, fmax=600, sr=16_000, frame_length=1024, hop_length=160
    )
    rows_FC = prosody(wave_S)
    assert (voiced_F[:125] == (rows_FC[:, 0] > 0)).all()
    assert 0.2 < voiced_F.mean() < 0.9
    np.testing.assert_allclose(rows_FC[:, 0], np.nan_to_num(pitch_F[:125]), rtol=1e-6)
    np.testing.assert_allclose(rows_FC[:, 2], probability_F[:125], rtol=1e-6)


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 400, 1_024, 2_000])
def test_every_length_gives_the_frames_whose_centre_is_in_it(samples):
    for wave_S in (np.zeros(samples, np.float32), speechlike(samples, 1)):
        rows_FC = prosody(wave_S)
        assert rows_FC.shape == (prosody_frames(samples), 3)
        assert np.isfinite(rows_FC).all()
        assert np.isfinite(rows_FC.astype(np.float16)).all()
