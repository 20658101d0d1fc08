"""Waves → CTAL's log-mel spectrogram, a whole batch at once, on the device of the waves.

Shapes: B clips, S samples, N samples of a window, M mel channels, F frames (12.5 ms each), K
frequencies of the spectrum.

Source: Li et al. 2021, "CTAL", section 3 (50 ms windows every 12.5 ms), and the released code's
front end: librosa's power mel spectrogram (Hann window of 800 samples, 2,048 points, Slaney
filters up to 8 kHz), then the natural logarithm of 10⁻⁶ more. Ends are padded with zeros, as
librosa does from 0.9 on; earlier versions mirrored the audio, which changes the two frames at each
end.

Deltas and normalisation are not here: they are functions of these rows and are computed when a
batch is made, because masking comes in between (`pipeline.corpus.acoustic`).
"""

import torch
from torch import nn

from pipeline.foundation.devices import ieee_float32
from pipeline.foundation.units import SAMPLE_RATE_HZ, Frames, Samples

CTAL_CHANNELS = 80
CTAL_HOP: Samples = 200  # 12.5 ms
CTAL_WINDOW: Samples = 800  # 50 ms
CTAL_POINTS: Samples = 2048
ADDED_POWER = 1e-6
FRAMES_IN_CACHE: Frames = 256


class CtalMel(nn.Module):
    """CTAL's 80 raw log-mel channels. A clip's frames do not depend on the clips beside it."""

    filters_KM: torch.Tensor
    window_N: torch.Tensor

    def __init__(self) -> None:
        from librosa.filters import mel

        super().__init__()
        filters_MK = mel(sr=SAMPLE_RATE_HZ, n_fft=CTAL_POINTS, n_mels=CTAL_CHANNELS)
        filters_KM = torch.from_numpy(filters_MK).float().T.contiguous()
        self.register_buffer("filters_KM", filters_KM, persistent=False)
        self.register_buffer("window_N", torch.hann_window(CTAL_WINDOW), persistent=False)

    @staticmethod
    def frames_of(samples: Samples) -> Frames:
        """Number of frames of a clip: one around its start, and one every 12.5 ms after it."""
        return 1 + samples // CTAL_HOP

    @torch.inference_mode()
    @ieee_float32()
    def forward(self, waves_BS: torch.Tensor) -> torch.Tensor:
        """Log-mel of a batch of waves; IEEE float32 on a GPU too.

        Args:
            waves_BS: float32 `[B, S]`, 16 kHz, full scale ±1, each padded on the right with zeros.

        Returns:
            float32 `[B, 80, F]`, in nepers of power; a clip owns its first `frames_of` frames.

        Raises:
            ValueError: S is 0.
        """
        if not waves_BS.shape[-1]:
            raise ValueError("waves have no samples")
        margin = CTAL_WINDOW // 2
        frames_BFN = nn.functional.pad(waves_BS, (margin, margin)).unfold(1, CTAL_WINDOW, CTAL_HOP)
        at_once = frames_BFN.shape[1]
        if waves_BS.device.type == "cpu":  # so few that a spectrum stays in the processor's cache
            at_once = max(1, FRAMES_IN_CACHE // len(waves_BS))
        mels = []
        for part_BfN in torch.split(frames_BFN, at_once, dim=1):
            # where a window lies among zeros changes phases alone, so it may stand at the front
            spectrum_BfK = torch.fft.rfft(part_BfN * self.window_N, n=CTAL_POINTS)
            power_BfK = spectrum_BfK.real.square().add_(spectrum_BfK.imag.square())
            mels.append(power_BfK @ self.filters_KM)
        return torch.cat(mels, dim=1).add_(ADDED_POWER).log_().transpose(1, 2)
