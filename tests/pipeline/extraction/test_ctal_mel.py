"""CTAL's log-mel against librosa's, by the parameters of the released code."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.extraction.ctal_mel import CtalMel
from tests.helpers.whispers import batch_of, speechlike

pytestmark = pytest.mark.filterwarnings("ignore:n_fft=2048 is too large")
MEL = CtalMel()
TOLERANCE = 1e-3  # in float64's log; the cache's float16 resolves 4e-3 at these values


def reference(wave_S: np.ndarray) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=wave_S.astype(np.float64),
        sr=16_000,
        n_fft=2048,
        win_length=800,
        hop_length=200,
        window="hann",
        center=True,
        pad_mode="constant",
        n_mels=80,
        power=2.0,
    )
    return np.log(power + 1e-6)


def ours(wave_S: np.ndarray) -> np.ndarray:
    return MEL(torch.from_numpy(wave_S.astype(np.float32))[None])[0].numpy()


@pytest.mark.parametrize(
    "wave_S",
    [
        speechlike(60_000),
        np.zeros(4_000),
        np.random.default_rng(0).uniform(-1, 1, 40_001),
        np.random.default_rng(1).normal(0, 1e-6, 16_000),
        np.sign(np.sin(np.arange(30_000) / 7)),
        np.eye(1, 5_000, 4_999)[0],
        np.full(9_999, 0.5),
        speechlike(480_000, 3),
    ],
    ids=["speech", "silence", "noise", "faint", "square", "click at the end", "constant", "30 s"],
)
def test_equals_librosa(wave_S):
    expected_MF = reference(wave_S)
    got_MF = ours(wave_S)
    assert got_MF.shape == expected_MF.shape == (80, MEL.frames_of(len(wave_S)))
    assert np.abs(got_MF - expected_MF).max() < TOLERANCE


def test_speech_equals_librosa_more_nearly():
    wave_S = speechlike(60_000)
    assert np.abs(ours(wave_S) - reference(wave_S)).max() < 2e-4


@pytest.mark.parametrize("samples", [1, 2, 199, 200, 201, 799, 800, 1_023, 1_024, 1_025, 2_048])
def test_equals_librosa_at_every_awkward_length(samples):
    wave_S = np.random.default_rng(samples).normal(0, 0.1, samples)
    assert np.abs(ours(wave_S) - reference(wave_S)).max() < TOLERANCE


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30_000), st.floats(1e-7, 1.0), st.integers(0, 2**31))
def test_equals_librosa_for_random_lengths_and_levels(samples, level, seed):
    wave_S = np.random.default_rng(seed).uniform(-level, level, samples)
    assert np.abs(ours(wave_S) - reference(wave_S)).max() < TOLERANCE


def test_the_frames_of_the_paper():
    """15 s give 1,201 frames and 30 s 2,401."""
    assert [CtalMel.frames_of(s) for s in (1, 199, 200, 240_000, 480_000)] == [1, 1, 2, 1201, 2401]


def test_a_clip_does_not_depend_on_the_clips_beside_it():
    waves = [speechlike(samples, seed) for seed, samples in enumerate((30_000, 3, 12_345))]
    waves_BS, _ = batch_of(waves)
    together_BMF = MEL(waves_BS).numpy()
    for mel_MF, wave_S in zip(together_BMF, waves, strict=True):
        frames = MEL.frames_of(len(wave_S))
        assert np.abs(mel_MF[:, :frames] - reference(wave_S)).max() < TOLERANCE


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="no samples"):
        MEL(torch.zeros(1, 0))
