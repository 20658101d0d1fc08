"""A speech encoder on packed frames: Hugging Face's own BERT, fed with vectors of frames.

Shapes: N positions of frames (a frame, or `stack` of them), P places with the learned first ones,
B clips, C channels of a row, K = stack × C, D width.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, BertModel, PreTrainedModel

from pipeline.foundation.errors import Damaged
from pipeline.models.dropout import hash_dropout
from pipeline.models.lengths import Lengths, Movable
from pipeline.models.loading import load_model, quiet
from pipeline.models.packing import encode_first_values, encode_values, use_packed_attention
from pipeline.models.speech_front import (
    ENCODER_FOLDER,
    TENSORS_FILE,
    Read,
    SpeechFront,
    read_front,
)


@dataclass(frozen=True)
class SpeechShape:
    """The size of a speech encoder; the paper's by default (SPLAT, section 3.1 and Table 1).

    Attributes:
        channels: C, values of a row.
        stack: rows that become one position; the last position of a clip may have fewer.
        most_rows: of the longest clip.
        layers: of the encoder.
        width: D.
        heads: of attention.
        dropout: of hidden states; attention drops nothing, or torch leaves its fused kernel.
        read: what stands for a whole clip.
    """

    channels: int
    most_rows: int
    stack: int = 1
    layers: int = 3
    width: int = 768
    heads: int = 12
    dropout: float = 0.1
    read: Read = "cls"

    @property
    def positions(self) -> int:
        """Positions of the longest clip."""
        return math.ceil(self.most_rows / self.stack) + (self.read == "cls")


@dataclass(frozen=True)
class SpeechInput(Movable):
    """Stacked, normalised rows of some clips, and where the encoder has them.

    Attributes:
        frames: where each clip's positions begin and end in `values_NK`.
        placed: the places of the encoder: those of the frames, and the learned first ones.
        place_N: the place of each position of frames.
        values_NK: the rows.
    """

    frames: Lengths
    placed: Lengths
    place_N: Tensor
    values_NK: Tensor

    @classmethod
    def of(cls, frames: Lengths, values_NK: Tensor, read: Read) -> "SpeechInput":
        """Made on the host; `to` moves it as a whole."""
        own_N = torch.arange(len(frames.sequence_N), device=frames.sequence_N.device)
        if read != "cls":
            return cls(frames, frames, own_N, values_NK)
        return cls(
            frames, Lengths.of(frames.lengths_B + 1), own_N + frames.sequence_N + 1, values_NK
        )

    def with_values(self, values_NK: Tensor) -> "SpeechInput":
        """The same clips with other rows in the same places, such as masked ones."""
        return replace(self, values_NK=values_NK)


@dataclass(frozen=True)
class SpeechStates:
    """What a speech encoder makes of some clips.

    Attributes:
        vector_BD: what stands for each clip.
        frames_ND: the state of each position of frames; the learned first position is left out.
    """

    vector_BD: Tensor
    frames_ND: Tensor


class SpeechModule(nn.Module):
    """Frames → states: a linear layer, a learned first position if asked for, and an encoder.

    Args:
        encoder: a `BertModel` without pooling.
        channels: K, the width of what it reads: stacked rows.
        read: what stands for a whole clip.
    """

    def __init__(self, encoder: PreTrainedModel, channels: int, read: Read) -> None:
        super().__init__()
        self.encoder, self.read, self.channels = encoder, read, channels
        width = int(encoder.config.hidden_size)
        self.inputs = nn.Linear(channels, width)
        self.first = nn.Parameter(torch.randn(width) * 0.02) if read == "cls" else None
        # no frame is a token: the table of tokens has one row, which nothing reads
        encoder.get_input_embeddings().requires_grad_(False)
        use_packed_attention(encoder)
        self.draws = hash_dropout(encoder)

    @property
    def width(self) -> int:
        """D."""
        return int(self.encoder.config.hidden_size)

    @property
    def most_positions(self) -> int:
        """Positions of frames of the longest clip."""
        return int(self.encoder.config.max_position_embeddings) - (self.first is not None)

    def begin(self, clips: "SpeechInput", number_B: Tensor, key: Tensor) -> None:
        """Draw the dropout of the next pass, which then follows from clip, place and step alone.

        Args:
            clips: of the pass.
            number_B: a number of each clip; those from it on, one per place, are its own.
            key: int64 `[]`, which names seed, step and pass.
        """
        placed = clips.placed
        self.draws.begin(number_B[placed.sequence_N] + placed.offset_N, key)

    def forward(self, clips: "SpeechInput") -> SpeechStates:
        """States of all positions of some clips."""
        hidden_PD = encode_values(self.encoder, clips.placed, self._embedded(clips))
        frames_ND = hidden_PD
        if self.first is not None:
            frames_ND = hidden_PD.index_select(0, clips.place_N)
        if self.read == "mean":
            return SpeechStates(means(frames_ND, clips.frames), frames_ND)
        return SpeechStates(hidden_PD.index_select(0, clips.placed.starts_B), frames_ND)

    def vectors(self, clips: "SpeechInput") -> Tensor:
        """What stands for each clip `[B, D]`, without what only other positions need."""
        if self.read == "mean":
            return means(
                encode_values(self.encoder, clips.placed, self._embedded(clips)), clips.frames
            )
        return encode_first_values(self.encoder, clips.placed, self._embedded(clips))

    def _embedded(self, clips: "SpeechInput") -> Tensor:
        values_ND: Tensor = self.inputs(clips.values_NK)
        if self.first is None:
            return values_ND
        embedded_PD = values_ND.new_zeros(len(clips.placed.sequence_N), self.width)
        embedded_PD = embedded_PD.index_copy(0, clips.place_N, values_ND)
        first_BD = self.first.to(values_ND.dtype).expand(len(clips.frames.lengths_B), -1)
        return embedded_PD.index_copy(0, clips.placed.starts_B, first_BD)

    def save(self, folder: Path, front: SpeechFront) -> None:
        """Write `encoder/` as Hugging Face does, and the front end beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.encoder.save_pretrained(folder / ENCODER_FOLDER)
        front.write(folder)
        tensors = {
            **front.tensors(),
            "inputs.weight": self.inputs.weight,
            "inputs.bias": self.inputs.bias,
            **({} if self.first is None else {"first": self.first}),
        }
        save_file(
            {n: t.detach().float().cpu().contiguous() for n, t in tensors.items()},
            folder / TENSORS_FILE,
        )


def build_speech(shape: SpeechShape) -> SpeechModule:
    """A module with fresh weights, drawn from torch's global generator: seed it beforehand.

    Positions are learned, and begin as the usual sinusoids.
    """
    config = BertConfig(
        vocab_size=1,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        hidden_dropout_prob=shape.dropout,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=shape.positions,
        type_vocab_size=1,
    )
    encoder = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        table_PD = encoder.embeddings.position_embeddings.weight
        table_PD.copy_(sinusoids(shape.positions, shape.width))
    return SpeechModule(encoder, shape.channels * shape.stack, shape.read)


def load_speech(folder: Path) -> tuple[SpeechModule, SpeechFront]:
    """Load what `SpeechModule.save` wrote.

    Raises:
        NotThere: a file is missing.
        Damaged: the parts do not fit each other.
        SpeechkdError: the encoder cannot be loaded.
    """
    front, tensors = read_front(folder)
    encoder: PreTrainedModel = load_model(AutoModel, str(folder / ENCODER_FOLDER))
    encoder.pooler = None  # the run had none, so it would be drawn at random
    module = SpeechModule(encoder, front.channels * front.stack, front.read)
    own = {name: value for name, value in module.state_dict().items() if name in tensors}
    wanted = {name for name in module.state_dict() if not name.startswith("encoder.")}
    if {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in own.items()} or (
        set(tensors) != wanted
    ):
        raise Damaged(f"{folder}: {TENSORS_FILE} and the encoder do not fit each other.")
    module.load_state_dict(tensors, strict=False)
    return module, front


def sinusoids(positions: int, width: int) -> Tensor:
    """Sines and cosines `[positions, width]` of Vaswani et al. (2017), section 3.5."""
    place_P1 = torch.arange(positions, dtype=torch.float64)[:, None]
    rate_Q = 10000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle_PQ = place_P1 * rate_Q
    table_PD = torch.stack([angle_PQ.sin(), angle_PQ.cos()], dim=2).flatten(1)
    return table_PD[:, :width].float()


def attended(states_ND: Tensor, score_N: Tensor, frames: Lengths) -> Tensor:
    """Mean `[B, D]` of each clip's states, weighted by a softmax of their scores in the clip."""
    clips, clip_N = len(frames.lengths_B), frames.sequence_N
    wide_N = score_N.float()
    highest_B = wide_N.new_full((clips,), -torch.inf).scatter_reduce(
        0, clip_N, wide_N.detach(), "amax"
    )
    weight_N = (wide_N - highest_B[clip_N]).exp()
    sum_B = weight_N.new_zeros(clips).index_add(0, clip_N, weight_N)
    weighted_ND = states_ND * (weight_N / sum_B[clip_N])[:, None].to(states_ND.dtype)
    return states_ND.new_zeros(clips, states_ND.shape[1]).index_add(0, clip_N, weighted_ND)


def means(states_ND: Tensor, frames: Lengths) -> Tensor:
    """Mean `[B, D]` of the states of each clip."""
    sum_BD = states_ND.new_zeros(len(frames.lengths_B), states_ND.shape[1])
    sum_BD = sum_BD.index_add(0, frames.sequence_N, states_ND)
    return sum_BD / frames.lengths_B[:, None]
