"""Waves → Whisper's log-mel spectrogram, a whole batch at once, on the device of the waves.

Shapes: B clips, S samples, N samples of a frame, M mel channels, F mel frames (10 ms each), K
frequencies of the spectrum.

Source: openai/whisper `audio.py` and Hugging Face's `WhisperFeatureExtractor`. This equals it to
1e-4 for every clip of up to 30 s.
"""

import torch
from torch import nn

from pipeline.foundation.units import (
    HOP_LENGTH,
    N_FFT,
    SAMPLE_RATE_HZ,
    WINDOW_MEL_FRAMES,
    WINDOW_SAMPLES,
    Frames,
    Samples,
)

SMALLEST_POWER = 1e-10  # Whisper's floor before the logarithm
FEW_FRAMES: Frames = 64
UNMIRRORED: Samples = WINDOW_SAMPLES - N_FFT // 2  # audio behind it Whisper mirrors at the end


class LogMel(nn.Module):
    """Whisper's front end: power spectrum, Slaney mel filters, log10, floor at the clip's max − 8.

    Audio is padded with zeros to 30 s. Only frames that can hold audio are transformed. The others
    are silent by construction and get the value of silence.

    Args:
        n_mels: number of mel channels in the teacher's configuration (80; 128 from large-v3 on).
    """

    filters_MK: torch.Tensor
    window_N: torch.Tensor

    def __init__(self, n_mels: int) -> None:
        from librosa.filters import mel

        super().__init__()
        filters_MK = mel(sr=SAMPLE_RATE_HZ, n_fft=N_FFT, n_mels=n_mels)
        self.register_buffer("filters_MK", torch.from_numpy(filters_MK).float(), persistent=False)
        self.register_buffer("window_N", torch.hann_window(N_FFT), persistent=False)

    @torch.inference_mode()
    def forward(self, waves_BS: torch.Tensor, frames: Frames = WINDOW_MEL_FRAMES) -> torch.Tensor:
        """Log-mel of a batch of waves.

        Args:
            waves_BS: float32 `[B, S]`, 16 kHz, full scale ±1, each padded on the right with zeros.
            frames: number of frames to return, from the first of the window's 3,000.

        Returns:
            float32 `[B, n_mels, frames]`.

        Raises:
            ValueError: S is 0, or over the window's 480,000.
        """
        samples = waves_BS.shape[-1]
        if not 1 <= samples <= WINDOW_SAMPLES:
            raise ValueError(f"waves have {samples} samples; 1 to {WINDOW_SAMPLES} are possible")
        # Frame f sees samples 160 f − 200 to 160 f + 199; before 0 Whisper mirrors the audio.
        with_audio = min(-(-(samples + N_FFT // 2) // HOP_LENGTH), WINDOW_MEL_FRAMES)
        needed = (with_audio - 1) * HOP_LENGTH + N_FFT // 2
        mirror = (N_FFT // 2, 0)
        if samples > UNMIRRORED:  # the window's own end, where Whisper mirrors what is there
            needed, mirror = WINDOW_SAMPLES, (N_FFT // 2, N_FFT // 2)
        padded_BS = nn.functional.pad(
            waves_BS, (0, max(needed - samples, N_FFT // 2 + 1 - samples))
        )
        mirrored_BS = nn.functional.pad(padded_BS[:, None], mirror, mode="reflect")[:, 0]
        # torch.stft and the squares of its real view, bit for bit, in half of the time
        frames_BFN = mirrored_BS.unfold(1, N_FFT, HOP_LENGTH)[:, :with_audio] * self.window_N
        spectrum_BKF = torch.fft.rfft(frames_BFN).transpose(1, 2)
        power_BKF = spectrum_BKF.real.square().add_(spectrum_BKF.imag.square())
        if with_audio < FEW_FRAMES:  # for so few columns BLAS sums in an order of the layout's
            power_BKF = power_BKF.contiguous()
        log_BMF = torch.log10(torch.clamp(self.filters_MK @ power_BKF, min=SMALLEST_POWER))
        floor_B11 = log_BMF.amax(dim=(1, 2), keepdim=True) - 8.0
        silence_B11 = floor_B11.clamp(min=-10.0)  # log10 of the smallest power is −10
        mel_BMF = torch.maximum(log_BMF, floor_B11)[..., :frames]
        missing = frames - mel_BMF.shape[-1]
        if missing > 0:
            tail_BMF = silence_B11.expand(-1, mel_BMF.shape[1], missing)
            mel_BMF = torch.cat([mel_BMF, tail_BMF], dim=2)
        return (mel_BMF + 4.0) / 4.0
