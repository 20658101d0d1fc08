"""A wave → its prosody every 10 ms: pitch, energy and voicing, all as librosa gives them.

Shapes: S samples, F frames (10 ms each), N samples of a frame.

Pitch and voicing are those of `librosa.pyin` (Mauch and Dixon 2014), not of `librosa.yin`, which
does not tell voiced frames from others: it has a pitch for silence too. Coarser bins of pitch would
be faster, but they change which frames are voiced (of read speech one frame in ten). So the bins
are librosa's own, a tenth of a semitone wide.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.extraction.pitch import Pyin
from pipeline.foundation.units import HOP_LENGTH, N_FFT, SAMPLE_RATE_HZ, Frames, Samples

PROSODY_COLUMNS = ("f0_hz", "energy_db", "voicing")
LOWEST_PITCH_HZ = 65.0
HIGHEST_PITCH_HZ = 600.0
PITCH_WINDOW: Samples = 1024  # 64 ms: four periods of the lowest pitch
SMALLEST_AMPLITUDE = 1e-5  # −100 dB of full scale
PYIN = Pyin(
    lowest_hz=LOWEST_PITCH_HZ,
    highest_hz=HIGHEST_PITCH_HZ,
    window=PITCH_WINDOW,
    hop=HOP_LENGTH,
    rate_hz=SAMPLE_RATE_HZ,
)


def prosody_frames(samples: Samples) -> Frames:
    """Frames of a clip: those whose centre lies in it, as of Whisper's log-mel."""
    return -(-samples // HOP_LENGTH)


def prosody(wave_S: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pitch, energy and voicing of a wave; frame f stands around sample 160 f.

    Args:
        wave_S: 16 kHz, full scale ±1, at least one sample.

    Returns:
        float32 `[F, 3]`. Pitch is in Hz from 65 to 600, and 0 where a frame is not voiced. Energy
        is the root mean square of 25 ms in dB of full scale, at least −100. Voicing is pyin's
        probability that the frame is voiced, which also grows with pitch: clean tones get 0.3 at
        70 Hz and 0.98 at 590 Hz. Whether a frame is voiced is told by its pitch being above 0.
    """
    frames = prosody_frames(len(wave_S))
    pitch_F, voicing_F = PYIN.track(wave_S)
    columns = [column_F[:frames] for column_F in (pitch_F, _energy(wave_S), voicing_F)]
    return np.stack(columns, axis=1).astype(np.float32)


def _energy(wave_S: NDArray[np.float32]) -> NDArray[np.float64]:
    """Root mean square of each frame of 25 ms in dB of full scale; `[1 + S // 160]`."""
    frames_FN = sliding_window_view(np.pad(wave_S, (N_FFT // 2, N_FFT // 2)), N_FFT)[::HOP_LENGTH]
    amplitude_F = np.sqrt(np.square(frames_FN).mean(axis=1)).astype(np.float64)
    energy_F: NDArray[np.float64] = 20 * np.log10(np.maximum(amplitude_F, SMALLEST_AMPLITUDE))
    return energy_F
