"""An encoder of frames whose layers also look at the final states of a text encoder (CTAL).

Each layer attends to the frames, then to the text, then passes a feed-forward part; each of the
three ends in a residual and a layer norm. No frame is hidden from another one. The released code
of CTAL passes a causal mask here without meaning to; the paper has none.

Source: Li et al. 2021, "CTAL", section 3.1. Parameters of layers are named as in a decoder of BERT.

Shapes: F frames of all clips end to end, P positions of the stack (F where nothing is stacked), T
tokens of all texts, B clips, C columns of a position, D width, K width of the text's states, H
heads, E width of a head.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional

from pipeline.foundation.errors import Damaged, NotThere, first_line, unless_of_memory
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.models.dropout import hash_dropout
from pipeline.models.grids import Meeting, attend, between, within
from pipeline.models.lengths import Lengths
from pipeline.models.loading import MAX_LAYERS, MAX_NUMBER, check_parameters
from pipeline.models.packing import without_cudnn_attention


@dataclass(frozen=True)
class AudioConfig:
    """What a text-referred stack is made of.

    Attributes:
        columns: C, values of a position as it is read.
        width: D, width of its states.
        text_width: K, width of the text's states.
        layers: how many.
        heads: of attention.
        inner_width: of the feed-forward parts.
        positions: the longest clip that it has position vectors for.
        cross: whether its layers look at the text at all.
        dropout: of states; attention drops nothing.
        norm_epsilon: of layer norms; BERT's.
        spread: standard deviation of fresh weights.
    """

    columns: int
    width: int
    text_width: int
    layers: int
    heads: int
    inner_width: int
    positions: int
    cross: bool = True
    dropout: float = 0.1
    norm_epsilon: float = 1e-12
    spread: float = 0.02

    def record(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "AudioConfig":
        """Read what `record` gave, whoever wrote it.

        Raises:
            ValueError: a field is missing, unknown, of another type or out of bounds.
        """
        wanted = {f.name: f.type for f in fields(cls)}
        if set(record) != set(wanted):
            raise ValueError(f"it has {', '.join(sorted(record))}")
        for name, kind in wanted.items():
            value = record[name]
            if type(value) is not kind:
                raise ValueError(f"{name} is {value!r}")
            if kind is int and not 1 <= value <= (MAX_LAYERS if name == "layers" else MAX_NUMBER):
                raise ValueError(f"{name} is {value}")
            if kind is float and not 0 <= value < 1:
                raise ValueError(f"{name} is {value}")
        config = cls(**record)
        if config.width % config.heads:
            raise ValueError(f"{config.heads} heads do not divide a width of {config.width}")
        return config


class _Projections(nn.Module):
    """Queries, keys and values of attention."""

    def __init__(self, config: AudioConfig, keys_width: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(keys_width, config.width)
        self.value = nn.Linear(keys_width, config.width)

    def forward(self, states_PD: Tensor, others_MK: Tensor, meeting: Meeting) -> Tensor:
        query_PHE, key_MHE, value_MHE = (
            x.unflatten(-1, (self.heads, -1))
            for x in (self.query(states_PD), self.key(others_MK), self.value(others_MK))
        )
        return attend(query_PHE, key_MHE, value_MHE, meeting).flatten(1)


class _Residual(nn.Module):
    """The end of each part: dense, dropout, and the layer norm of the sum with what came in."""

    def __init__(self, config: AudioConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor, before_PD: Tensor) -> Tensor:
        summed_PD: Tensor = self.LayerNorm(self.dropout(self.dense(states)) + before_PD)
        return summed_PD


class _Attention(nn.Module):
    def __init__(self, config: AudioConfig, keys_width: int) -> None:
        super().__init__()
        self.self = _Projections(config, keys_width)
        self.output = _Residual(config, config.width)

    def forward(self, states_PD: Tensor, others_MK: Tensor, meeting: Meeting) -> Tensor:
        mixed_PD: Tensor = self.output(self.self(states_PD, others_MK, meeting), states_PD)
        return mixed_PD


class _Dense(nn.Module):
    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.inner_width)

    def forward(self, states_PD: Tensor) -> Tensor:
        return functional.gelu(self.dense(states_PD))


class TextReferredLayer(nn.Module):
    """Self-attention of frames, their attention to the text, feed-forward."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.attention = _Attention(config, config.width)
        self.crossattention = _Attention(config, config.text_width) if config.cross else None
        self.intermediate = _Dense(config)
        self.output = _Residual(config, config.inner_width)

    def forward(
        self, states_PD: Tensor, text_TK: Tensor, of_audio: Meeting, of_text: Meeting
    ) -> Tensor:
        """States of the next layer."""
        states_PD = self.attended(states_PD, of_audio)
        if self.crossattention is not None:
            states_PD = self.crossattention(states_PD, text_TK, of_text)
        fed_PD: Tensor = self.output(self.intermediate(states_PD), states_PD)
        return fed_PD

    def attended(self, states_PD: Tensor, of_audio: Meeting) -> Tensor:
        """States after self-attention, which ask the text."""
        attended_PD: Tensor = self.attention(states_PD, states_PD, of_audio)
        return attended_PD


class FrameEmbeddings(nn.Module):
    """Positions' values → width, position vectors, layer norm.

    The paper has no layer norm here; the released code has one, as BERT.
    """

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.columns, config.width)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, values_PC: Tensor, offset_P: Tensor) -> Tensor:
        """Vectors `[P, D]` that enter the first layer."""
        summed_PD = self.projection(values_PC) + self.position_embeddings(offset_P)
        embedded_PD: Tensor = self.dropout(self.LayerNorm(summed_PD))
        return embedded_PD


class AudioStack(nn.Module):
    """Frames and a text's final states → states of the frames.

    Args:
        config: what it is made of. Weights are drawn from torch's global generator, N(0, 0.02):
            seed it beforehand.

    Raises:
        ValueError: the width is no multiple of the heads.
    """

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        if config.width % config.heads:
            raise ValueError(f"{config.heads} heads do not divide a width of {config.width}")
        self.config = config
        self.embeddings = FrameEmbeddings(config)
        self.layer = nn.ModuleList(TextReferredLayer(config) for _ in range(config.layers))
        self.apply(self._begin)
        self.draws = hash_dropout(self)

    def forward(
        self,
        values_PC: Tensor,
        audio: Lengths,
        text_TK: Tensor,
        text: Lengths,
        partner_B: Tensor | None = None,
    ) -> Tensor:
        """States `[P, D]` of the last layer.

        Args:
            values_PC: what is read of each position, clip by clip.
            audio: positions of each clip.
            text_TK: final states of the texts; every layer looks at the same.
            text: tokens of each text.
            partner_B: which text each clip looks at, each at another one; None for its own.
        """
        with without_cudnn_attention():
            of_audio = within(audio)
            of_text = between(audio, text, partner_B) if self.config.cross else of_audio
            states_PD: Tensor = self.embeddings(values_PC, audio.offset_N)
            for layer in self.layer:
                states_PD = layer(states_PD, text_TK, of_audio, of_text)
        return states_PD

    def heard_by_token(
        self, values_PC: Tensor, audio: Lengths, text_TK: Tensor, text: Lengths, at_layer: int
    ) -> Tensor:
        """For each token the mean of the states of the frames that look at it, `[T, D]`.

        It is Σ_f α_fn h_f / Σ_f α_fn, where α is the attention of frame f to token n in one layer,
        the mean over heads, and h the last layer's states.

        Args:
            values_PC: what is read of each position.
            audio: positions of each clip.
            text_TK: final states of the texts.
            text: tokens of each text.
            at_layer: the layer whose attention it is, from 0.

        Raises:
            ValueError: the stack does not look at texts.
        """
        at = cast(TextReferredLayer, self.layer[at_layer])
        cross = at.crossattention
        if cross is None:
            raise ValueError("this stack does not look at texts")
        with without_cudnn_attention():
            of_audio, of_text = within(audio), between(audio, text)
            states_PD = self.embeddings(values_PC, audio.offset_N)
            asking_PD = states_PD
            for place, layer in enumerate(self.layer):
                if place == at_layer:
                    asking_PD = at.attended(states_PD, of_audio)
                states_PD = layer(states_PD, text_TK, of_audio, of_text)
        heads = self.config.heads
        query_PHE = cross.self.query(asking_PD).unflatten(-1, (heads, -1))
        key_THE = cross.self.key(text_TK).unflatten(-1, (heads, -1))
        heard = []
        clips = zip(audio.lengths_B.tolist(), text.lengths_B.tolist(), strict=True)
        frame = token = 0
        for frames, tokens in clips:
            of_frames, of_tokens = slice(frame, frame + frames), slice(token, token + tokens)
            score_HFT = torch.einsum("fhe,the->hft", query_PHE[of_frames], key_THE[of_tokens])
            weight_HFT = (score_HFT.float() * query_PHE.shape[-1] ** -0.5).softmax(-1)
            weight_FT = weight_HFT.mean(0)
            share_FT = weight_FT / weight_FT.sum(0).clamp(min=1e-12)
            heard.append(share_FT.T @ states_PD[of_frames].float())
            frame, token = frame + frames, token + tokens
        return torch.cat(heard)

    def _begin(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.spread)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def save_audio(stack: AudioStack, folder: Path) -> None:
    """Write a stack as `config.json` and `model.safetensors`; the folder is there."""
    (folder / "config.json").write_text(json.dumps(stack.config.record(), indent=2) + "\n")
    save_model(stack, str(folder / "model.safetensors"))


def load_audio(folder: Path) -> AudioStack:
    """Read what `save_audio` wrote.

    Raises:
        NotThere: there is no such folder.
        Damaged: it holds something else.
    """
    remedy = "Take the folder of the model anew from the run that made it."
    try:
        config = AudioConfig.of_record(parse_json(read_text_file(folder / "config.json")))
        with torch.device("meta"):
            check_parameters(folder, AudioStack(config))
        stack = AudioStack(config)
        load_model(stack, str(folder / "model.safetensors"))
    except FileNotFoundError as error:
        raise NotThere(f"{folder} holds no audio stack: {first_line(error)}.") from None
    except Damaged:
        raise
    except Exception as error:  # a forged file may fail in any way
        unless_of_memory(error)
        raise Damaged(f"{folder} is no audio stack ({first_line(error)}). {remedy}") from error
    return stack
