"""Waves → vectors, with the speech encoder in this file's folder.

It stands alone: torch, transformers, safetensors and numpy are all that it needs. A copy of it lies
in the folder speech/ of every run.

    import soundfile
    from front import Speech

    speech = Speech("runs/seq/speech")
    wave, rate = soundfile.read("clip.wav")  # 16 kHz, one channel
    vector = speech(wave, rate)  # [768]

Shapes: S samples, N frames, C channels, D width.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModel, WhisperFeatureExtractor

RATE_HZ = 16_000
HOP_SAMPLES = 160
WINDOW_SECONDS = 30


class Speech:
    """A speech encoder and all that stands before it.

    Args:
        folder: the folder speech/ of a run.

    Raises:
        ValueError: the encoder reads something else than Whisper's log-mel.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.front: dict[str, Any] = json.loads((folder / "front.json").read_text(encoding="utf-8"))
        if self.front["source"]["kind"] != "whisper-mel":
            raise ValueError(
                f"{folder} reads {self.front['source']['kind']}; this file makes whisper-mel alone"
            )
        self.tensors = load_file(folder / "front.safetensors")
        self.mel = WhisperFeatureExtractor(feature_size=self.front["source"]["width"])
        self.encoder = AutoModel.from_pretrained(folder / "encoder", add_pooling_layer=False).eval()

    def frames(self, wave_S: Any, rate_hz: int) -> torch.Tensor:
        """Normalised log-mel frames `[N, C]`, one every 10 ms.

        The wave is taken for all that is known of its speaker, so mean and deviation are its own,
        drawn towards those of the corpus of pre-training.

        Raises:
            ValueError: the rate is not 16 kHz, the wave has several channels, is empty, or longer
                than 30 s.
        """
        wave_S = np.asarray(wave_S, np.float32)
        if rate_hz != RATE_HZ or wave_S.ndim != 1:
            raise ValueError(f"{rate_hz} Hz, shape {wave_S.shape}; wanted is one channel of 16 kHz")
        if not 0 < len(wave_S) <= WINDOW_SECONDS * RATE_HZ:
            raise ValueError(f"{len(wave_S) / RATE_HZ:g} s; wanted is more than 0 and at most 30 s")
        mel_CF = self.mel(wave_S, sampling_rate=RATE_HZ, return_tensors="pt").input_features[0]
        frames_NC = mel_CF.T[: math.ceil(len(wave_S) / HOP_SAMPLES)]
        mean_C, std_C = self.tensors["mean"].double(), self.tensors["std"].double()
        if self.front["normalise"] != "global":
            count = len(frames_NC)
            own = count / (count + self.front["shrink_frames"])
            wide_NC = frames_NC.double()
            mean_C = torch.lerp(mean_C, wide_NC.mean(0), own)
            variance_C = torch.lerp(std_C**2, wide_NC.var(0, correction=0), own)
            std_C = variance_C.sqrt().clamp(min=self.front["floor"])
        normal_NC: torch.Tensor = (frames_NC - mean_C) / std_C
        return normal_NC.float()

    @torch.no_grad()
    def states(self, wave_S: Any, rate_hz: int) -> torch.Tensor:
        """States `[places, D]`: of the learned first place, if there is one, and of the frames."""
        frames_NC = self.frames(wave_S, rate_hz)
        stack = self.front["stack"]
        missing = -len(frames_NC) % stack
        frames_NC = torch.nn.functional.pad(frames_NC, (0, 0, 0, missing))
        stacked_NK = frames_NC.reshape(-1, stack * frames_NC.shape[1])
        values_ND = stacked_NK @ self.tensors["inputs.weight"].T + self.tensors["inputs.bias"]
        if "first" in self.tensors:
            values_ND = torch.cat([self.tensors["first"][None], values_ND])
        states_ND: torch.Tensor = self.encoder(inputs_embeds=values_ND[None]).last_hidden_state[0]
        return states_ND

    def __call__(self, wave_S: Any, rate_hz: int) -> torch.Tensor:
        """What stands for the whole wave: `[D]`."""
        states_ND = self.states(wave_S, rate_hz)
        return states_ND.mean(0) if self.front["read"] == "mean" else states_ND[0]
