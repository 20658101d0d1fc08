"""A frozen Whisper encoder and its pooling: waves → one vector per clip. It cannot train.

Shapes: B clips, S samples, M mel channels, F mel frames, T encoder positions, E width.

Source: "Teach me with a Whisper" (the paper), section 3: clips of 15 s in Whisper's 30 s
window, the last 750 of 1,500 positions dropped, the mean of the first 750.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from pipeline.extraction.mel import LogMel
from pipeline.extraction.weights import folder_name, read_encoder, teacher_folder, tensors_sha256
from pipeline.extraction.whisper import WhisperEncoder
from pipeline.foundation.devices import ieee_float32
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.units import (
    CLIP_ENCODER_FRAMES,
    CLIP_SAMPLES,
    CLIP_SECONDS,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_ENCODER_FRAME,
    WINDOW_ENCODER_FRAMES,
    WINDOW_SECONDS,
    Samples,
)

FramePooling = Literal["fixed750", "length"]
EncoderPrecision = Literal["float32", "bfloat16", "float16"]
ContextWindow = Literal["30s", "15s"]

POSITIONS: dict[ContextWindow, int] = {"30s": WINDOW_ENCODER_FRAMES, "15s": CLIP_ENCODER_FRAMES}
DUMMY_WIDTH = 384


@dataclass(frozen=True)
class Teacher:
    """Waves in, one float32 vector per clip out; built by `load_teacher`.

    There are two poolings. `fixed750`, the paper's, averages the first 750 positions, so the mean
    of a short clip includes padding. `length` averages only positions that hold audio. They agree
    on a full 15 s clip. Of a longer one `fixed750` would read half, so only `length` takes it.
    """

    id: str
    """Name that the user gave; of a local folder only its own name, so that caches can be moved."""
    sha256: str
    """Digest of the encoder's tensors (`weights.tensors_sha256`)."""
    encoder: WhisperEncoder
    log_mel: LogMel
    pooling: FramePooling
    precision: EncoderPrecision
    context: ContextWindow
    device: torch.device

    @property
    def d_model(self) -> int:
        """Width of the vectors."""
        return self.encoder.shape.d_model

    @property
    def layer(self) -> int:
        """Number of the layer whose states are read."""
        return self.encoder.layer

    @property
    def layers(self) -> int:
        """Number of the last layer."""
        return self.encoder.shape.encoder_layers

    @property
    def hop_samples(self) -> Samples:
        """Samples from one position to the next."""
        return SAMPLES_PER_ENCODER_FRAME

    @property
    def centre_samples(self) -> Samples:
        """Samples from a clip's start to the centre of its first position."""
        return SAMPLES_PER_ENCODER_FRAME // 2

    @property
    def context_seconds(self) -> int:
        """Seconds that the encoder sees, padding included."""
        return int(self.context.removesuffix("s"))

    def positions_of(self, samples: Samples) -> int:
        """Number of positions of a clip that hold audio."""
        return -(-samples // SAMPLES_PER_ENCODER_FRAME)

    def check(self, clip_seconds: int) -> None:
        """Refuse clips of which a part would be read; see `check_clip_seconds`.

        Raises:
            SpeechkdError: clips may be too long.
        """
        check_clip_seconds(clip_seconds, self.pooling, self.context)

    def grid(self, waves_BS: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """States of a batch of clips, float32 `[B, T, E]`; a clip owns its `positions_of` first."""
        return self.states(waves_BS, max(self.positions_of(n) for n in lengths_B.tolist()))

    @property
    def longest(self) -> Samples:
        """The longest clip whose every position is read."""
        if self.pooling == "fixed750":
            return CLIP_SAMPLES
        return POSITIONS[self.context] * SAMPLES_PER_ENCODER_FRAME

    @torch.inference_mode()
    @ieee_float32()
    def encode(self, waves_BS: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """Vectors of a batch of clips. A clip's vector does not depend on the others.

        Whatever is float32, the log-mel at least, is IEEE float32 on a GPU too.

        Args:
            waves_BS: float32 `[B, S]`, 16 kHz mono, zeros after each clip's end; S at most
                `longest`.
            lengths_B: samples of each clip, 1 to S.

        Returns:
            float32 `[B, E]`, on the teacher's device.

        Raises:
            ValueError: S is over `longest`.
        """
        if self.pooling == "fixed750":
            return self.states(waves_BS, CLIP_ENCODER_FRAMES).mean(dim=1)
        positions_B = (lengths_B + SAMPLES_PER_ENCODER_FRAME - 1) // SAMPLES_PER_ENCODER_FRAME
        positions_B = positions_B.clamp(1, POSITIONS[self.context])
        hidden_BTE = self.states(waves_BS, int(positions_B.max()))
        return masked_mean(hidden_BTE, positions_B.to(self.device, non_blocking=True))

    @torch.inference_mode()
    @ieee_float32()
    def states(self, waves_BS: torch.Tensor, keep: int) -> torch.Tensor:
        """States of a batch of clips at their first `keep` positions of 20 ms.

        Args:
            waves_BS: float32 `[B, S]`, as for `encode`.
            keep: positions to return.

        Returns:
            float32 `[B, keep, E]`, on the teacher's device.

        Raises:
            ValueError: S is over `longest`.
        """
        if waves_BS.shape[1] > self.longest:
            raise ValueError(f"waves of {waves_BS.shape[1]} samples; at most {self.longest}")
        waves_BS = waves_BS.to(self.device, non_blocking=True)
        mel_BMF = self.log_mel(waves_BS, frames=2 * POSITIONS[self.context])
        hidden_BTE: torch.Tensor = self.encoder(mel_BMF, keep=keep)
        return hidden_BTE

    @ieee_float32()
    def last_states(self, states_BTE: torch.Tensor) -> torch.Tensor:
        """States of the last layer, from those that `states` gave at all positions.

        Raises:
            ValueError: it was loaded without the layers that this takes.
        """
        return self.encoder.finish(states_BTE)


@dataclass(frozen=True)
class DummyTeacher:
    """Takes a teacher's place and costs nothing, so that reading and writing can be measured.

    Its vectors are the clip's loudness in 384 equal slices of 15 s, or of the longest clip that the
    manifest allows, if that is longer. They depend on the clip, but are of no use to a student.
    """

    device: torch.device
    clip_seconds: int = CLIP_SECONDS
    id: str = "dummy"
    sha256: str = "0" * 64
    d_model: int = DUMMY_WIDTH
    precision: EncoderPrecision = "float32"
    layer: int = 1
    layers: int = 1

    def positions_of(self, samples: Samples) -> int:
        """One: it has a vector of every clip."""
        return min(1, samples)

    def check(self, clip_seconds: int) -> None:
        """Take clips of any length."""

    @torch.inference_mode()
    def encode(self, waves_BS: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Mean absolute value of each slice. Shapes are those of `Teacher.encode`."""
        loudness_BS = waves_BS.to(self.device, non_blocking=True).abs()
        longest = max(CLIP_SAMPLES, self.clip_seconds * SAMPLE_RATE_HZ)
        slices = -(-longest // DUMMY_WIDTH) * DUMMY_WIDTH
        padded_BS = nn.functional.pad(loudness_BS, (0, slices - waves_BS.shape[1]))
        return padded_BS.view(len(padded_BS), DUMMY_WIDTH, -1).mean(dim=2)


def load_teacher(
    name: str,
    *,
    device: str | torch.device = "cpu",
    precision: EncoderPrecision = "float32",
    pooling: FramePooling = "fixed750",
    context: ContextWindow = "30s",
    layer: int = -1,
    keep_later: bool = False,
) -> Teacher:
    """Load the encoder of a Whisper, frozen, onto a device.

    Args:
        name: Hugging Face id, local folder in Hugging Face's format, or `offline:tiny.en`.
        device: where to compute.
        precision: precision of the encoder; the log-mel and the mean are always float32.
        pooling: `fixed750` (the paper's) or `length`.
        context: `30s`, as Whisper was trained, or `15s`: the encoder sees only the clip's own
            750 positions, which is cheaper and gives other vectors.
        layer: number of the layer whose states are read; -1 for the last one.
        keep_later: keep the later layers for `last_states`, which a decoder reads.

    Raises:
        SpeechkdError: the teacher cannot be found, read or used. The message says why.
    """
    folder = teacher_folder(name)
    shape, tensors = read_encoder(folder)
    if shape.max_source_positions < POSITIONS[context]:
        raise SpeechkdError(
            f"--teacher {name} has {shape.max_source_positions} positions; {context} of context "
            f"needs {POSITIONS[context]}."
        )
    if layer > shape.encoder_layers:
        layers = counted(shape.encoder_layers, "layer")
        raise SpeechkdError(f"--layer {layer}: --teacher {name} has {layers}.")
    encoder = WhisperEncoder.from_tensors(shape, tensors, str(folder))
    if layer >= 0:
        encoder.cut(layer, keep_later=keep_later)
    device = torch.device(device)
    return Teacher(
        id=folder_name(folder) if Path(name).expanduser().is_dir() else name,
        sha256=tensors_sha256(tensors),
        encoder=encoder.to(device, getattr(torch, precision)),
        log_mel=LogMel(shape.num_mel_bins).to(device),
        pooling=pooling,
        precision=precision,
        context=context,
        device=device,
    )


def check_clip_seconds(clip_seconds: int, pooling: FramePooling, context: ContextWindow) -> None:
    """Refuse clips of which Whisper, or the pooling, would read only a part.

    Args:
        clip_seconds: the longest clip that the manifest allows.
        pooling: how a clip's positions become its vector.
        context: what the encoder sees.

    Raises:
        SpeechkdError: they are too long. The message says what would take them.
    """
    if clip_seconds > WINDOW_SECONDS:
        raise SpeechkdError(
            f"the manifest has clips of up to {clip_seconds} s, and Whisper hears "
            f"{WINDOW_SECONDS} s. Make the shards with --clip-seconds {WINDOW_SECONDS} or less."
        )
    if clip_seconds <= CLIP_SECONDS:
        return
    if context == "15s":
        raise SpeechkdError(
            f"the manifest has clips of up to {clip_seconds} s, and --context 15s hears 15 s. "
            "Use --context 30s."
        )
    if pooling == "fixed750":
        raise SpeechkdError(
            f"the manifest has clips of up to {clip_seconds} s, and --pooling fixed750, the "
            "paper's, averages the first 15 s alone. Use --pooling length."
        )


def masked_mean(hidden_BTE: torch.Tensor, positions_B: torch.Tensor) -> torch.Tensor:
    """Mean over each row's first `positions_B` positions, accumulated in float32; `[B, E]`."""
    indices_T = torch.arange(hidden_BTE.shape[1], device=hidden_BTE.device)
    mask_BT1 = (indices_T < positions_B[:, None]).float()[..., None]
    return (hidden_BTE.float() * mask_BT1).sum(dim=1) / positions_B[:, None].float()
