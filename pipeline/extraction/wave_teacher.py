"""Frozen speech encoders that read waves: wav2vec2, HuBERT, WavLM and their kin.

What a clip gets is what the library gives it alone, without padding, whatever clips lie beside it
in a batch. So attention is masked in all models, and where the first layer normalises each channel
over time (`feat_extract_norm` is `group`, as in wav2vec2-base), each clip is normalised over its
own frames. Models in which padding would be heard all the same, because convolutions follow each
other behind the mask, read one clip at a time.

Shapes: B clips, S samples, C channels, T positions (20 ms each in all published models), E width.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.extraction.teacher import EncoderPrecision, masked_mean
from pipeline.extraction.weights import folder_name, folder_sha256
from pipeline.foundation.devices import ieee_float32
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.units import SAMPLE_RATE_HZ, Samples
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.models.loading import load_model

BATCHED_MODELS = ("hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")
SINGLE_MODELS = ("data2vec-audio", "wav2vec2-conformer")
WAVE_MODELS = (*BATCHED_MODELS, *SINGLE_MODELS)
"""Model types of `config.json` that are read. Those of the second kind read one clip at a time."""

SMALLEST_VARIANCE = 1e-7  # as in the library's Wav2Vec2FeatureExtractor
MISMATCHED_MASKS = "Support for mismatched key_padding_mask"  # torch, of WavLM's own attention


@dataclass(frozen=True)
class WaveTeacher:
    """Waves in, states out; built by `load_wave_teacher`.

    Attributes:
        id: name that the user gave; of a local folder only its own name.
        sha256: digest of the tensors of its files.
        model: the library's model, cut behind the layer that is read.
        layer: number of the layer whose states are read; 0 is what the first layer reads. Of the
            last one they are `last_hidden_state`.
        layers: number of the model's last layer.
        normalises: whether each clip is brought to mean 0 and variance 1 first.
        precision: of the model's arithmetic.
        device: where it computes.
    """

    id: str
    sha256: str
    model: Any
    layer: int
    layers: int
    normalises: bool
    precision: EncoderPrecision
    device: torch.device

    @property
    def d_model(self) -> int:
        """Width of the states."""
        return int(self.model.config.hidden_size)

    @property
    def context_seconds(self) -> int:
        """0, because the model sees the clip alone."""
        return 0

    def check(self, clip_seconds: int) -> None:
        """Take clips of any length."""

    @property
    def hop_samples(self) -> Samples:
        """Samples from one position to the next."""
        hop = 1
        for stride in self.model.config.conv_stride:
            hop *= stride
        return hop

    @property
    def centre_samples(self) -> Samples:
        """Samples from a clip's start to the centre of its first position."""
        return self.field_samples // 2

    @property
    def field_samples(self) -> Samples:
        """Samples that a position sees before attention; a shorter clip has no position."""
        field = 1
        config = self.model.config
        for kernel, stride in reversed([*zip(config.conv_kernel, config.conv_stride, strict=True)]):
            field = (field - 1) * stride + kernel
        return field

    def positions_of(self, samples: Samples) -> int:
        """Number of positions of a clip."""
        return self._frames(samples, len(self.model.config.conv_kernel))

    @torch.inference_mode()
    @ieee_float32()
    def grid(self, waves_BS: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """States of a batch of clips.

        Args:
            waves_BS: float32 `[B, S]`, 16 kHz mono, zeros after each clip's end.
            lengths_B: samples of each clip, on the host.

        Returns:
            float32 `[B, T, E]` on the teacher's device, of which a clip owns `positions_of`.
        """
        lengths = [int(samples) for samples in lengths_B]
        if self.model.config.model_type in SINGLE_MODELS and len(lengths) > 1:
            alone = [
                self.grid(waves_BS[place : place + 1, :samples], lengths_B[place : place + 1])
                for place, samples in enumerate(lengths)
            ]
            return nn.utils.rnn.pad_sequence([states_1TE[0] for states_1TE in alone], True)
        missing = self.field_samples - waves_BS.shape[1]
        if missing > 0:
            waves_BS = functional.pad(waves_BS, (0, missing))
        waves_BS = waves_BS.to(self.device, non_blocking=True)
        counts_B = lengths_B.to(self.device, non_blocking=True)
        valid_BS = torch.arange(waves_BS.shape[1], device=self.device) < counts_B[:, None]
        if self.normalises:
            waves_BS = zero_mean_unit_variance(waves_BS, valid_BS)
        for norm in self.model.modules():
            if isinstance(norm, ClipGroupNorm):
                norm.frames = [self._frames(samples, 1) for samples in lengths]
        weight = next(self.model.parameters())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=MISMATCHED_MASKS)
            # the library looks whether a mask hides anything, which has to be waited for
            mask_BS = valid_BS.long() if len({*lengths}) > 1 or missing > 0 else None
            states_BTE = self._read(waves_BS.to(weight.dtype), mask_BS)
        return states_BTE.float()

    def encode(self, waves_BS: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """Mean of each clip's states, accumulated in float32; `[B, E]`."""
        positions_B = torch.tensor([self.positions_of(int(n)) for n in lengths_B]).clamp(min=1)
        states_BTE = self.grid(waves_BS, lengths_B)
        return masked_mean(states_BTE, positions_B.to(self.device, non_blocking=True))

    def _frames(self, samples: Samples, layers: int) -> int:
        """Frames of a clip behind so many of the convolutions."""
        config = self.model.config
        frames = samples
        pairs = zip(config.conv_kernel[:layers], config.conv_stride[:layers], strict=True)
        for kernel, stride in pairs:
            frames = max(0, (frames - kernel) // stride + 1)
        return frames

    def _read(self, waves_BS: torch.Tensor, mask_BS: torch.Tensor | None) -> torch.Tensor:
        """The states of the layer that is read."""
        if self.layer == self.layers:
            states: torch.Tensor = self.model(waves_BS, attention_mask=mask_BS).last_hidden_state
            return states
        seen: list[torch.Tensor] = []
        layers = self.model.encoder.layers
        if self.layer:
            handle = layers[-1].register_forward_hook(
                lambda _, __, output: seen.append(output[0] if type(output) is tuple else output)
            )
        else:
            handle = layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self.model(waves_BS, attention_mask=mask_BS)
        finally:
            handle.remove()
        return seen[0]


class ClipGroupNorm(nn.GroupNorm):
    """Normalises each clip over its own frames, as the library does when it has no padding."""

    frames: Sequence[int] = ()
    """Frames of each clip of the batch that comes next."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise `[B, C, T]`; what is behind a clip's end stays as it is."""
        output = input.clone()
        for place, frames in enumerate(self.frames):
            if frames:
                output[place, :, :frames] = functional.group_norm(
                    input[place : place + 1, :, :frames],
                    self.num_groups,
                    self.weight,
                    self.bias,
                    self.eps,
                )[0]
        return output

    @classmethod
    def like(cls, norm: nn.GroupNorm) -> "ClipGroupNorm":
        """With the weights of another."""
        own = cls(norm.num_groups, norm.num_channels, norm.eps)
        own.weight, own.bias = norm.weight, norm.bias
        return own


def zero_mean_unit_variance(waves_BS: torch.Tensor, valid_BS: torch.Tensor) -> torch.Tensor:
    """Each clip less its mean, over its standard deviation, as `Wav2Vec2FeatureExtractor` does.

    Args:
        waves_BS: waves, zeros after each clip's end.
        valid_BS: what belongs to a clip.

    Returns:
        float32, zeros after each clip's end.
    """
    wide_BS = waves_BS.double()
    samples_B1 = valid_BS.sum(dim=1, keepdim=True)
    apart_BS = (wide_BS - wide_BS.sum(dim=1, keepdim=True) / samples_B1) * valid_BS
    variance_B1 = apart_BS.square().sum(dim=1, keepdim=True) / samples_B1
    return (apart_BS / (variance_B1 + SMALLEST_VARIANCE).sqrt()).float()


def load_wave_teacher(
    name: str,
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    precision: EncoderPrecision = "float32",
    layer: int = -1,
) -> WaveTeacher:
    """Load a speech encoder that reads waves, frozen, onto a device.

    Args:
        name: what the user called it.
        folder: `config.json`, `preprocessor_config.json` and safetensors.
        device: where to compute.
        precision: of the model's arithmetic.
        layer: number of the layer whose states are read; -1 for the last one.

    Raises:
        SpeechkdError: it cannot be read or used. The message says why.
    """
    normalises = _normalises(folder / "preprocessor_config.json")
    model = load_model(_auto_model(), str(folder))
    if getattr(model, "adapter", None) is not None:
        raise SpeechkdError(
            f"--teacher {name} has an adapter behind its encoder, which shortens its output and is "
            "not read here. Name the model without it."
        )
    layers = model.encoder.layers
    count = len(layers)
    wanted = count if layer < 0 else layer
    if wanted > count:
        raise SpeechkdError(f"--layer {layer}: --teacher {name} has {counted(count, 'layer')}.")
    if wanted < count:
        model.encoder.layers = layers[: max(1, wanted)]
    for convolution in model.feature_extractor.conv_layers:
        if isinstance(getattr(convolution, "layer_norm", None), nn.GroupNorm):
            convolution.layer_norm = ClipGroupNorm.like(convolution.layer_norm)
    device = torch.device(device)
    return WaveTeacher(
        id=folder_name(folder) if Path(name).expanduser().is_dir() else name,
        sha256=folder_sha256(folder),
        model=model.eval().requires_grad_(False).to(device, getattr(torch, precision)),
        layer=wanted,
        layers=count,
        normalises=normalises,
        precision=precision,
        device=device,
    )


def _auto_model() -> Any:
    from transformers import AutoModel

    return AutoModel


def _normalises(path: Path) -> bool:
    """What a feature extractor's configuration says of the waves that the model reads."""
    try:
        config = parse_json(read_text_file(path))
    except FileNotFoundError:
        raise NotThere(
            f"{path.parent} has no {path.name}, which says how the model's waves are normalised. "
            "Copy it from where the model comes from."
        ) from None
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} cannot be read ({error}); fetch it again.") from None
    if not isinstance(config, dict):
        raise Damaged(f"{path} is not a JSON object; fetch it again.")
    kind = config.get("feature_extractor_type", "Wav2Vec2FeatureExtractor")
    rate = config.get("sampling_rate", SAMPLE_RATE_HZ)
    width = config.get("feature_size", 1)
    if (kind, rate, width) != ("Wav2Vec2FeatureExtractor", SAMPLE_RATE_HZ, 1):
        raise SpeechkdError(
            f"{path}: the model reads {kind} of {width} values at {rate} Hz; here a "
            f"Wav2Vec2FeatureExtractor of 1 at {SAMPLE_RATE_HZ} Hz is known."
        )
    normalises = config.get("do_normalize", True)
    if type(normalises) is not bool:
        raise Damaged(f"{path}: do_normalize is {normalises!r}, neither true nor false.")
    return normalises
