"""A wave → its prosody every 10 ms: pitch, energy and voicing, all by librosa.

Shapes: S samples, F frames (10 ms each).

Pitch and voicing are those of `librosa.pyin` (Mauch and Dixon 2014), not of `librosa.yin`, which is
forty times as fast but does not tell voiced frames from others: it has a pitch for silence too.
Coarser bins of pitch would be faster as well, but they change which frames are voiced (of read
speech one frame in ten). So the bins are librosa's own, a tenth of a semitone wide.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.foundation.units import HOP_LENGTH, N_FFT, SAMPLE_RATE_HZ, Frames, Samples

PROSODY_COLUMNS = ("f0_hz", "energy_db", "voicing")
LOWEST_PITCH_HZ = 65.0
HIGHEST_PITCH_HZ = 600.0
PITCH_WINDOW: Samples = 1024  # 64 ms: four periods of the lowest pitch
SMALLEST_AMPLITUDE = 1e-5  # −100 dB of full scale


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
    import librosa

    frames = prosody_frames(len(wave_S))
    pitch_F, _, voicing_F = librosa.pyin(
        wave_S,
        fmin=LOWEST_PITCH_HZ,
        fmax=HIGHEST_PITCH_HZ,
        sr=SAMPLE_RATE_HZ,
        frame_length=PITCH_WINDOW,
        hop_length=HOP_LENGTH,
        fill_na=0.0,
    )
    amplitude_1F = librosa.feature.rms(y=wave_S, frame_length=N_FFT, hop_length=HOP_LENGTH)
    energy_F = 20 * np.log10(np.maximum(amplitude_1F[0].astype(np.float64), SMALLEST_AMPLITUDE))
    columns = [column_F[:frames] for column_F in (pitch_F, energy_F, voicing_F)]
    return np.stack(columns, axis=1).astype(np.float32)
