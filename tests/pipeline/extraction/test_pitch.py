"""Pitch and voicing against `librosa.pyin`, frame by frame, on all sorts of sound."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.extraction.pitch import Pyin
from tests.helpers.whispers import speechlike

RANGE = {"lowest_hz": 65.0, "highest_hz": 600.0, "window": 1024, "hop": 160, "rate_hz": 16_000}
PYIN = Pyin(**RANGE)


def by_librosa(wave_S: np.ndarray, tracker: Pyin = PYIN):
    pitch_F, _, voicing_F = librosa.pyin(
        wave_S,
        fmin=tracker.lowest_hz,
        fmax=tracker.highest_hz,
        sr=tracker.rate_hz,
        frame_length=tracker.window,
        hop_length=tracker.hop,
        fill_na=0.0,
    )
    return pitch_F, voicing_F


def check(wave_S: np.ndarray, tracker: Pyin = PYIN) -> np.ndarray:
    pitch_F, voicing_F = tracker.track(wave_S)
    wanted_F, probability_F = by_librosa(wave_S, tracker)
    np.testing.assert_allclose(pitch_F, wanted_F, rtol=1e-9)
    # where next to nothing is heard, rounding decides where the deepest trough is: NO_TROUGH
    error_F = np.abs(voicing_F - probability_F)
    assert error_F.max() < 0.0101
    assert (error_F > 1e-3).sum() <= 2
    return pitch_F


def tone(hertz_S: np.ndarray, overtones: int = 8) -> np.ndarray:
    phase_S = 2 * np.pi * np.cumsum(hertz_S) / 16_000
    return sum(np.sin(k * phase_S) / k for k in range(1, overtones + 1)).astype(np.float32)


def noise(samples: int, level: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(samples)).astype(np.float32)


SOUNDS = {
    "speech": speechlike(16_000, 3),
    "noise": noise(8_000, 0.1),
    "faint noise": noise(8_000, 1e-6),
    "silence": np.zeros(8_000, np.float32),
    "a constant": np.full(8_000, 0.3, np.float32),
    "a click": np.eye(1, 8_000, 4_000, dtype=np.float32)[0],
    "rising over the range": tone(np.geomspace(55, 700, 12_000)) + noise(12_000, 0.02),
    "jumps of an octave": tone(np.repeat([100.0, 200.0, 100.0, 420.0], 3_000))
    + noise(12_000, 0.05),
    "a square wave": np.sign(tone(np.full(8_000, 150.0), 1)),
    "beyond full scale": 1e6 * speechlike(8_000, 1),
    "voices that take turns": np.concatenate(
        [0.2 * tone(np.full(3_000, hz)) + noise(3_000, 0.1, hz) for hz in (90, 310, 140)]
    ),
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_each_frame_has_the_pitch_and_voicing_of_librosa(sound):
    pitch_F = check(SOUNDS[sound])
    if sound in ("speech", "jumps of an octave", "voices that take turns"):
        assert (pitch_F > 0).mean() > 0.1


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 4_000), st.floats(1e-4, 1.0), st.integers(0, 2**31), st.floats(70, 500))
def test_and_so_has_any_mixture(samples, level, seed, hertz):
    rng = np.random.default_rng(seed)
    hertz_S = hertz * 2 ** np.interp(np.arange(samples), [0, samples], rng.uniform(-0.5, 0.5, 2))
    check(tone(hertz_S, int(rng.integers(1, 9))) + noise(samples, level, seed))


@pytest.mark.parametrize("samples", [1, 2, 159, 160, 161, 511, 512, 1_024])
def test_a_wave_of_any_length_has_a_frame_per_hop(samples):
    pitch_F = check(speechlike(samples, 2))
    assert len(pitch_F) == 1 + samples // 160


def test_another_range_of_pitch_and_another_hop_are_those_of_librosa_too():
    tracker = Pyin(lowest_hz=80.0, highest_hz=400.0, window=512, hop=128, rate_hz=16_000)
    assert (check(speechlike(12_000, 5), tracker) > 0).any()


def test_a_path_is_the_likeliest_of_all_by_the_whole_table_of_moves():
    """Viterbi's algorithm over 2 × 40 states as librosa has it, with jumps beyond the band."""
    tracker = Pyin(lowest_hz=100.0, highest_hz=125.0, window=1024, hop=40, rate_hz=16_000)
    bins, frames = tracker._bins, 30
    rng = np.random.default_rng(0)
    chance_FJ = rng.dirichlet(np.full(bins, 0.02), frames) * rng.uniform(0.2, 1, (frames, 1))
    chance_FJ[8:11] = np.eye(bins)[0]  # nothing but a jump of the whole range is possible then
    chance_FJ[11:14] = np.eye(bins)[bins - 1]
    unvoiced_F = (1 - chance_FJ.sum(axis=1)).clip(0) / bins
    width = 2 * tracker._reach + 1
    moves = librosa.sequence.transition_local(bins, width, window="triangle", wrap=False)
    switch = librosa.sequence.transition_loop(2, 0.99)
    observed = np.concatenate([chance_FJ.T, np.tile(unvoiced_F, (bins, 1))])
    states_F = librosa.sequence.viterbi(observed, np.kron(switch, moves))
    tiny = np.finfo(float).tiny
    path_F = tracker._path(np.log(chance_FJ + tiny), np.log(unvoiced_F + tiny))
    wanted_F = np.where(states_F < bins, states_F.astype(int), -1)
    assert (path_F == wanted_F).all()
    assert path_F[8:14].tolist() == [0] * 3 + [bins - 1] * 3
