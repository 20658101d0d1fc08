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
    filters_KM: torch.Tensor
    window_N: torch.Tensor

    def __init__(self, n_mels: int) -> None:
        from librosa.filters import mel

        super().__init__()
        filters_MK = mel(sr=SAMPLE_RATE_HZ, n_fft=N_FFT, n_mels=n_mels)
        self.register_buffer("filters_MK", torch.from_numpy(filters_MK).float(), persistent=False)
        self.register_buffer("filters_KM", self.filters_MK.T.contiguous(), persistent=False)
        self.register_buffer("window_N", torch.hann_window(N_FFT), persistent=False)

    @torch.inference_mode()
    def forward(self, waves_BS: torch.Tensor, frames: Frames = WINDOW_MEL_FRAMES) -> torch.Tensor:
        """Log-mel of a batch of waves, as Whisper's encoder reads it.

        Args and errors are those of `rows`.

        Returns:
            float32 `[B, n_mels, frames]`.
        """
        return self.rows(waves_BS, frames).transpose(1, 2).contiguous()

    @torch.inference_mode()
    def rows(self, waves_BS: torch.Tensor, frames: Frames = WINDOW_MEL_FRAMES) -> torch.Tensor:
        """Log-mel of a batch of waves, frame by frame.

        Args:
            waves_BS: float32 `[B, S]`, 16 kHz, full scale ±1, each padded on the right with zeros.
            frames: number of frames to return, from the first of the window's 3,000.

        Returns:
            float32 `[B, frames, n_mels]`.

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
        frames_BFN = mirrored_BS.unfold(1, N_FFT, HOP_LENGTH)[:, :with_audio]
        if waves_BS.device.type == "cpu":  # a clip at a time stays nearer to the processor
            log_BFM = torch.stack([self._powers(clip_FN) for clip_FN in frames_BFN])
        else:
            log_BFM = self._powers(frames_BFN)
        log_BFM.clamp_(min=SMALLEST_POWER).log10_()
        floor_B11 = log_BFM.amax(dim=(1, 2), keepdim=True) - 8.0
        silence_B11 = floor_B11.clamp(min=-10.0)  # log10 of the smallest power is −10
        mel_BFM = torch.maximum(log_BFM, floor_B11, out=log_BFM)[:, :frames]
        missing = frames - mel_BFM.shape[1]
        if missing > 0:
            tail_BFM = silence_B11.expand(-1, missing, mel_BFM.shape[2])
            mel_BFM = torch.cat([mel_BFM, tail_BFM], dim=1)
        return mel_BFM.add_(4.0).div_(4.0)

    def _powers(self, frames_xFN: torch.Tensor) -> torch.Tensor:
        """Power in each mel channel of the frames of a clip, or of a batch; `[…, F, M]`."""
        # torch.stft and the squares of its real view, bit for bit, in half of the time
        spectrum_xFK = torch.fft.rfft(frames_xFN * self.window_N)
        power_xFK = spectrum_xFK.real.square().add_(spectrum_xFK.imag.square())
        if power_xFK.shape[-2] < FEW_FRAMES:
            # BLAS sums in an order of the layout's then, and caches of before have this one
            mel_xMF = torch.matmul(self.filters_MK, power_xFK.transpose(-1, -2).contiguous())
            return mel_xMF.transpose(-1, -2)
        return torch.matmul(power_xFK, self.filters_KM)
