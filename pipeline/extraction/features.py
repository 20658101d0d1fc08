"""Features of speech that need no teacher, as rows of a cache; each is made by a class of its own.

Shapes: B clips, M mel channels, F frames.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from pipeline.cache.identity import Dtype, Identity, sequence_identity
from pipeline.extraction.batches import WaveBatch
from pipeline.extraction.ctal_mel import (
    ADDED_POWER,
    CTAL_CHANNELS,
    CTAL_HOP,
    CTAL_POINTS,
    CTAL_WINDOW,
    CtalMel,
)
from pipeline.extraction.mel import LogMel
from pipeline.extraction.prosody import (
    HIGHEST_PITCH_HZ,
    LOWEST_PITCH_HZ,
    PITCH_WINDOW,
    PROSODY_COLUMNS,
    prosody,
    prosody_frames,
)
from pipeline.extraction.rows import Encodes, Rows, packed
from pipeline.extraction.settings import FeatureSettings
from pipeline.foundation.devices import CPU, ieee_float32
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import HOP_LENGTH, N_FFT, SAMPLE_RATE_HZ, WINDOW_SECONDS

PROSODY_ROWS_PER_OBJECT = 2**15
"""A shard's last object is written whole. Rows are narrow, and a small one wastes little."""


@dataclass(frozen=True)
class WhisperMel:
    """Whisper's own log-mel: the frames of 10 ms whose centre lies in the audio, ⌈samples / 160⌉.

    A frame is what Whisper sees of the clip padded with zeros to 30 s.
    """

    width: int
    """Mel channels: 80, or 128 as from large-v3 on."""
    device: torch.device

    @property
    def beside_reading(self) -> bool:
        """On a CPU each reading process computes those of its own clips."""
        return self.device.type == "cpu"

    @cached_property
    def _log_mel(self) -> LogMel:
        return LogMel(self.width).to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; it makes its own filters."""
        return {"width": self.width, "device": self.device}

    @torch.inference_mode()
    @ieee_float32()
    def rows_of(self, batch: WaveBatch) -> Rows:
        """The frames of each clip."""
        counts = [-(-samples // HOP_LENGTH) for samples in batch.lengths_B.tolist()]
        waves_BS = batch.waves_BS.to(self.device, non_blocking=True)
        return Rows(packed(self._log_mel.rows(waves_BS, frames=max(counts)), counts), counts)

    def identity(self, dtype: Dtype, clip_seconds: int) -> Identity:
        """Of a cache of these frames.

        Raises:
            SpeechkdError: clips may be longer than Whisper's window of 30 s.
        """
        if clip_seconds > WINDOW_SECONDS:
            raise SpeechkdError(
                f"the manifest has clips of up to {clip_seconds} s, and whisper-mel is of "
                f"Whisper's window of {WINDOW_SECONDS} s. Make the shards with --clip-seconds "
                f"{WINDOW_SECONDS} or less."
            )
        return sequence_identity(
            "whisper-mel",
            width=self.width,
            most_rows=clip_seconds * SAMPLE_RATE_HZ // HOP_LENGTH,
            hop_samples=HOP_LENGTH,
            dtype=dtype,
            clip_seconds=clip_seconds,
            settings={"front_end": "openai/whisper", "n_fft": N_FFT},
        )


@dataclass(frozen=True)
class CtalFrames:
    """CTAL's raw log-mel: a frame around the clip's start and one every 12.5 ms after it."""

    device: torch.device

    @property
    def beside_reading(self) -> bool:
        """On a CPU each reading process computes those of its own clips."""
        return self.device.type == "cpu"

    @cached_property
    def _log_mel(self) -> CtalMel:
        return CtalMel().to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; it makes its own filters."""
        return {"device": self.device}

    @torch.inference_mode()
    def rows_of(self, batch: WaveBatch) -> Rows:
        """The frames of each clip."""
        counts = [CtalMel.frames_of(samples) for samples in batch.lengths_B.tolist()]
        mel_BMF = self._log_mel(batch.waves_BS.to(self.device, non_blocking=True))
        return Rows(packed(mel_BMF.transpose(1, 2), counts), counts)

    def identity(self, dtype: Dtype, clip_seconds: int) -> Identity:
        """Of a cache of these frames."""
        return sequence_identity(
            "ctal-mel",
            width=CTAL_CHANNELS,
            most_rows=CtalMel.frames_of(clip_seconds * SAMPLE_RATE_HZ),
            hop_samples=CTAL_HOP,
            dtype=dtype,
            clip_seconds=clip_seconds,
            settings={
                "front_end": "ctal",
                "n_fft": CTAL_POINTS,
                "window_samples": CTAL_WINDOW,
                "added_power": ADDED_POWER,
            },
        )


@dataclass(frozen=True)
class ProsodyFrames:
    """Pitch, energy and voicing at the frames of `WhisperMel`, computed on a CPU."""

    device: torch.device = CPU
    beside_reading: bool = True

    def rows_of(self, batch: WaveBatch) -> Rows:
        """The frames of each clip."""
        rows = [
            prosody(wave_S[:samples].numpy())
            for wave_S, samples in zip(batch.waves_BS, batch.lengths_B.tolist(), strict=True)
        ]
        return Rows(torch.from_numpy(np.concatenate(rows)), [len(rows_FC) for rows_FC in rows])

    def identity(self, dtype: Dtype, clip_seconds: int) -> Identity:
        """Of a cache of these frames."""
        return sequence_identity(
            "prosody",
            width=len(PROSODY_COLUMNS),
            most_rows=prosody_frames(clip_seconds * SAMPLE_RATE_HZ),
            hop_samples=HOP_LENGTH,
            dtype=dtype,
            clip_seconds=clip_seconds,
            settings={
                "front_end": "librosa.pyin",
                "columns": " ".join(PROSODY_COLUMNS),
                "lowest_pitch_hz": LOWEST_PITCH_HZ,
                "highest_pitch_hz": HIGHEST_PITCH_HZ,
                "window_samples": PITCH_WINDOW,
            },
            rows_per_object=PROSODY_ROWS_PER_OBJECT,
        )


def make_features(settings: FeatureSettings, device: torch.device) -> Encodes:
    """What computes the features that the settings name, on a device."""
    match settings.features:
        case "ctal-mel":
            return CtalFrames(device)
        case "prosody":
            return ProsodyFrames()
        case _:
            return WhisperMel(int(settings.mels), device)
