"""The log-mel against Hugging Face's own `WhisperFeatureExtractor`."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.extraction.mel import UNMIRRORED, LogMel
from pipeline.foundation.units import CLIP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES

transformers = pytest.importorskip("transformers")
MEL = {n: LogMel(n) for n in (80, 128)}
REFERENCE = {n: transformers.WhisperFeatureExtractor(feature_size=n) for n in (80, 128)}


def reference(wave_S: np.ndarray, n_mels: int = 80) -> np.ndarray:
    return REFERENCE[n_mels](wave_S, sampling_rate=SAMPLE_RATE_HZ)["input_features"][0]


def worst_difference(wave_S: np.ndarray, n_mels: int = 80) -> float:
    mel_MF = MEL[n_mels](torch.from_numpy(wave_S.astype(np.float32))[None])[0].numpy()
    assert mel_MF.shape == (n_mels, 3000)
    return float(np.abs(mel_MF - reference(wave_S, n_mels)).max())


def chirp(samples: int) -> np.ndarray:
    time = np.arange(samples) / SAMPLE_RATE_HZ
    return 0.7 * np.sin(2 * np.pi * (50 + 250 * time) * time)


def noise(samples: int, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(samples).standard_normal(samples) * level


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize(
    "wave_S",
    [
        np.zeros(CLIP_SAMPLES),
        np.zeros(1),
        noise(CLIP_SAMPLES),
        noise(CLIP_SAMPLES, 1e-6),
        chirp(CLIP_SAMPLES),
        chirp(12_345),
        np.full(40_000, 0.5),
        np.sign(chirp(80_000)),
        np.eye(1, 5_000, 4_999)[0],
        noise(UNMIRRORED),
        noise(UNMIRRORED + 1),
        noise(WINDOW_SAMPLES - 39),
        chirp(WINDOW_SAMPLES),
    ],
    ids=[
        "silence",
        "silence of one sample",
        "noise of 15 s",
        "faint noise",
        "chirp of 15 s",
        "short chirp",
        "constant",
        "full-scale square wave",
        "click at the very end",
        "up to where Whisper mirrors",
        "a sample beyond it",
        "almost the window",
        "the whole window",
    ],
)
def test_equals_hugging_face(wave_S, n_mels):
    assert worst_difference(wave_S, n_mels) < 1e-4


@pytest.mark.parametrize(
    "samples", [1, 2, 159, 160, 161, 199, 200, 201, 202, 399, 400, 401, 16_000, 239_999, 240_000]
)
def test_equals_hugging_face_at_every_awkward_length(samples):
    assert worst_difference(noise(samples)) < 1e-4


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60_000), st.floats(1e-7, 1.0), st.integers(0, 2**31))
def test_equals_hugging_face_for_random_lengths_and_levels(samples, level, seed):
    wave_S = np.random.default_rng(seed).uniform(-level, level, samples)
    assert worst_difference(wave_S) < 1e-4


def test_a_clip_does_not_depend_on_the_clips_beside_it():
    quiet_S, loud_S = noise(30_000, 1e-3), chirp(CLIP_SAMPLES)
    batch_BS = torch.zeros(3, CLIP_SAMPLES)
    batch_BS[0, :30_000] = torch.from_numpy(quiet_S)
    batch_BS[1] = torch.from_numpy(loud_S)
    mel_BMF = MEL[80](batch_BS).numpy()
    assert np.abs(mel_BMF[0] - reference(quiet_S)).max() < 1e-4
    assert np.abs(mel_BMF[1] - reference(loud_S)).max() < 1e-4
    assert np.all(mel_BMF[2] == -1.5)  # silence: (log10(1e-10) + 4) / 4


def test_beside_a_clip_that_fills_the_window_a_shorter_one_stays_as_it_is():
    batch_BS = torch.zeros(2, WINDOW_SAMPLES)
    batch_BS[0] = torch.from_numpy(chirp(WINDOW_SAMPLES))
    batch_BS[1, :12_345] = torch.from_numpy(chirp(12_345))
    mel_BMF = MEL[80](batch_BS).numpy()
    assert np.abs(mel_BMF[0] - reference(chirp(WINDOW_SAMPLES))).max() < 1e-4
    assert np.abs(mel_BMF[1] - reference(chirp(12_345))).max() < 1e-4


def test_fewer_frames_are_the_first_of_all_frames():
    wave_BS = torch.from_numpy(chirp(CLIP_SAMPLES)).float()[None]
    assert torch.equal(MEL[80](wave_BS, frames=1500), MEL[80](wave_BS)[..., :1500])


@pytest.mark.parametrize("samples", [0, WINDOW_SAMPLES + 1])
def test_impossible_lengths_are_refused(samples):
    with pytest.raises(ValueError, match=r"samples; 1 to"):
        MEL[80](torch.zeros(1, samples))


@pytest.mark.parametrize("samples", [1, 160, 1_000, 9_999, 16_000, 48_000])
@pytest.mark.parametrize("n_mels", [80, 128])
def test_the_quick_power_is_that_of_stft_bit_for_bit(samples, n_mels):
    """Vectors in caches of before depend on it."""
    log_mel = LogMel(n_mels)
    waves_BS, frames = torch.randn(3, samples) * 0.1, -(-(samples + 200) // 160)
    ends = max((frames - 1) * 160 + 200 - samples, 201 - samples)
    padded_BS = torch.nn.functional.pad(waves_BS, (0, ends))
    padded_BS = torch.nn.functional.pad(padded_BS[:, None], (200, 0), mode="reflect")[:, 0]
    spectrum_BKF = torch.stft(
        padded_BS, 400, 160, window=log_mel.window_N, center=False, return_complex=True
    )[..., :frames]
    power_BKF = torch.view_as_real(spectrum_BKF).square().sum(-1)
    log_BMF = torch.log10((log_mel.filters_MK @ power_BKF).clamp(min=1e-10))
    wanted_BMF = (torch.maximum(log_BMF, log_BMF.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
    assert torch.equal(log_mel(waves_BS, frames=frames), wanted_BMF)
