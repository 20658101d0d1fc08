"""Whisper's encoder layers on packed sequences, as WhisBERT's audio and fusion encoders have them.

Shapes: N places, L places of the longest sequence, D width.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer, sinusoids

from pipeline.models.lengths import Lengths
from pipeline.models.packing import ATTENTION, packed_attention, without_cudnn_attention

VECTOR_DEVIATION = 0.02
"""Of learned vectors, as of embeddings in Whisper's and BERT's own classes."""


@dataclass(frozen=True)
class LayerSizes:
    """Sizes of a stack of layers.

    Attributes:
        layers: how many.
        width: D.
        heads: attention heads; they divide D.
        feed_forward: width of the feed-forward part.
    """

    layers: int
    width: int
    heads: int
    feed_forward: int


class Layers(nn.Module):
    """Pre-norm encoder layers without dropout, then a layer norm. Each place sees its sequence.

    The layers are transformers' `WhisperEncoderLayer`: keys have no bias, GELU between.

    Args:
        sizes: of the stack.
    """

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        AttentionInterface.register(ATTENTION, packed_attention)
        config = WhisperConfig(
            d_model=sizes.width,
            encoder_attention_heads=sizes.heads,
            encoder_ffn_dim=sizes.feed_forward,
            dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
        )
        config._attn_implementation = ATTENTION
        self.layers = nn.ModuleList(WhisperEncoderLayer(config) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        self.apply(initialise)

    def forward(self, states_ND: Tensor, lengths: Lengths) -> Tensor:
        """Contextual states `[N, D]`."""
        states_1ND = states_ND[None]
        with without_cudnn_attention():
            for layer in self.layers:
                states_1ND = layer(states_1ND, None, packed=lengths)
        return cast(Tensor, self.norm(states_1ND[0]))


def initialise(module: nn.Module) -> None:
    """Draw a linear map's weights with deviation 1 / √(3 · inputs), as torch does; biases are 0.

    At a width of 768 that is 0.021, where Whisper's and BERT's classes have 0.02 at any width. With
    0.02 what a narrow model hears would drown in its positions.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=(3 * module.in_features) ** -0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def positions(lengths: Lengths, width: int) -> Tensor:
    """Whisper's sinusoids `[N, D]` for each place, counted from its sequence's beginning."""
    table_LD: Tensor = sinusoids(lengths.grid_BL.shape[1], width)
    return table_LD.to(lengths.offset_N.device)[lengths.offset_N]


def learned_vector(width: int) -> nn.Parameter:
    """A learned vector, drawn as an embedding is."""
    return nn.Parameter(torch.empty(width).normal_(std=VECTOR_DEVIATION))
