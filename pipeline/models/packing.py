"""Sequences laid end to end without padding, and encoders that attend inside each of them.

The encoder is Hugging Face's own, entered through its attention interface; only attention meets
padding, and only a little of it.

Shapes: B sequences, N tokens in all, G places of padded grids, L tokens in the longest, D width,
H heads, E width of a head.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from pipeline.foundation.memory import sent

ATTENTION = "speechkd_packed"
BAND_TOKENS = 16
"""Lengths that share one call of attention on a CPU: 1 to 16 tokens, 17 to 32, …"""


@dataclass(frozen=True)
class Packed:
    """A batch of token sequences laid end to end.

    Attributes:
        ids_N: token ids, int64.
        lengths_B: tokens of each sequence, int64, all at least 1.
        sequence_N: which sequence a token belongs to.
        offset_N: place of a token in its sequence, from 0.
        grid_BL: where token `l` of sequence `b` stands in the packing; 0 where there is none.
        valid_BL: whether sequence `b` has a token `l`.
    """

    ids_N: Tensor
    lengths_B: Tensor
    sequence_N: Tensor
    offset_N: Tensor
    grid_BL: Tensor
    valid_BL: Tensor

    @property
    def starts_B(self) -> Tensor:
        """Where each sequence begins in the packing: the place of its first token."""
        return self.grid_BL[:, 0]

    @cached_property
    def bands(self) -> "Bands":
        """The sequences in groups of like length; made once for all layers."""
        return _bands(self)

    def to(self, device: torch.device) -> "Packed":
        """The same sequences on a device."""
        return Packed(**{f.name: sent(getattr(self, f.name), device) for f in fields(self)})

    def with_ids(self, ids_N: Tensor) -> "Packed":
        """The same sequences with other tokens in the same places, such as masked ones."""
        return Packed(
            ids_N, self.lengths_B, self.sequence_N, self.offset_N, self.grid_BL, self.valid_BL
        )


@dataclass(frozen=True)
class Band:
    """Sequences of like length that share one call of attention.

    Attributes:
        sequences: how many.
        longest: tokens of the longest.
        valid_BL: whether sequence `b` of the band has a token `l`.
    """

    sequences: int
    longest: int
    valid_BL: Tensor


@dataclass(frozen=True)
class Bands:
    """All bands of a batch, their padded grids laid end to end.

    Attributes:
        bands: the bands.
        source_G: the token that stands at each place of the grids; 0 where there is none.
        place_N: the place in the grids of each token.
    """

    bands: tuple[Band, ...]
    source_G: Tensor
    place_N: Tensor


def _bands(packed: Packed) -> Bands:
    """Group sequences by length.

    On a CPU arithmetic is what costs, so lengths within `BAND_TOKENS` of each other form a band;
    on a GPU launches cost more than padding, so all form one.
    """
    if packed.ids_N.device.type != "cpu":
        sequences, longest = packed.grid_BL.shape
        one = Band(sequences, longest, packed.valid_BL)
        place_N = packed.sequence_N * longest + packed.offset_N
        return Bands((one,), packed.grid_BL.flatten(), place_N)
    made: list[Band] = []
    sources: list[Tensor] = []
    place_N = torch.empty_like(packed.ids_N)
    start = 0
    band_B = (packed.lengths_B - 1) // BAND_TOKENS
    for number in sorted(set(band_B.tolist())):
        rows_b = (band_B == number).nonzero()[:, 0]
        longest = int(packed.lengths_B[rows_b].max())
        valid_bL = packed.valid_BL[rows_b, :longest]
        source = packed.grid_BL[rows_b, :longest].flatten()
        held = valid_bL.flatten()
        place_N[source[held]] = held.nonzero()[:, 0] + start
        made.append(Band(len(rows_b), longest, valid_bL))
        sources.append(source)
        start += len(source)
    return Bands(tuple(made), torch.cat(sources), place_N)


class _Spread(torch.autograd.Function):
    """Tokens `[N, …]` → places of the bands' grids `[G, …]`.

    A place without a token shows the first one and must get no gradient, which attention's mask
    sees to; so the gradient of a token is that of its one place. Indexing would add up over all
    places instead, slower by far and on a GPU in no fixed order.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, source_G: Tensor, place_N: Tensor) -> Tensor:
        ctx.save_for_backward(place_N)
        return tokens.index_select(0, source_G)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (place_N,) = ctx.saved_tensors
        return gradient.index_select(0, place_N), None, None


class _Collect(torch.autograd.Function):
    """Places of the bands' grids `[G, …]` → tokens `[N, …]`."""

    @staticmethod
    def forward(ctx: Any, places: Tensor, place_N: Tensor) -> Tensor:
        ctx.save_for_backward(place_N)
        ctx.places = len(places)
        return places.index_select(0, place_N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (place_N,) = ctx.saved_tensors
        spread = gradient.new_zeros(ctx.places, *gradient.shape[1:])
        return spread.index_copy(0, place_N, gradient), None


def pack(ids_N: Tensor, lengths_B: Tensor) -> Packed:
    """Describe sequences that lie end to end.

    Args:
        ids_N: tokens of all sequences, one after the other, of any integer type.
        lengths_B: tokens of each sequence.

    Raises:
        ValueError: a sequence is empty, or the lengths do not add up to the tokens.
    """
    lengths_B = lengths_B.long()
    if int(lengths_B.sum()) != len(ids_N) or int(lengths_B.min()) < 1:
        raise ValueError(
            f"lengths add up to {int(lengths_B.sum())} (shortest {int(lengths_B.min())}) "
            f"for {len(ids_N)} tokens"
        )
    device = ids_N.device
    starts_B = lengths_B.cumsum(0) - lengths_B
    sequence_N = torch.arange(len(lengths_B), device=device).repeat_interleave(lengths_B)
    offset_N = torch.arange(len(ids_N), device=device) - starts_B[sequence_N]
    place_L = torch.arange(int(lengths_B.max()), device=device)
    valid_BL = place_L < lengths_B[:, None]
    grid_BL = torch.where(valid_BL, starts_B[:, None] + place_L, 0)
    return Packed(ids_N.long(), lengths_B, sequence_N, offset_N, grid_BL, valid_BL)


def packed_attention(
    module: nn.Module,
    query_1HNE: Tensor,
    key_1HNE: Tensor,
    value_1HNE: Tensor,
    _: Tensor | None,
    *,
    packed: Packed,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **__: Any,
) -> tuple[Tensor, None]:
    """Attention inside each packed sequence, in Hugging Face's attention interface.

    Sequences of like length are spread over a padded grid for one call of scaled-dot-product
    attention and collected again. Only this step meets padding, and only a little of it.
    `sliding_window` is the first distance that is too far, as the library passes it.
    """
    bands = packed.bands
    query_GHE, key_GHE, value_GHE = (
        _Spread.apply(x_1HNE[0].transpose(0, 1), bands.source_G, bands.place_N)  # type: ignore[no-untyped-call]
        for x_1HNE in (query_1HNE, key_1HNE, value_1HNE)
    )
    mixed: list[Tensor] = []
    start = 0
    for band in bands.bands:
        end = start + band.sequences * band.longest
        query_BHLE, key_BHLE, value_BHLE = (
            x_GHE[start:end].unflatten(0, (band.sequences, band.longest)).transpose(1, 2)
            for x_GHE in (query_GHE, key_GHE, value_GHE)
        )
        allowed = band.valid_BL[:, None, None, :]
        if sliding_window is not None:
            place_L = torch.arange(band.longest, device=allowed.device)
            near_LL = (place_L[:, None] - place_L[None, :]).abs() < sliding_window
            allowed = allowed & near_LL
        mixed_BHLE = functional.scaled_dot_product_attention(
            query_BHLE,
            key_BHLE,
            value_BHLE,
            attn_mask=allowed,
            dropout_p=dropout if module.training else 0.0,
            scale=scaling,
        )
        mixed.append(mixed_BHLE.transpose(1, 2).flatten(0, 1))
        start = end
    mixed_NHE = _Collect.apply(torch.cat(mixed), bands.place_N)  # type: ignore[no-untyped-call]
    return mixed_NHE[None], None


AttentionInterface.register(ATTENTION, packed_attention)


def use_packed_attention(encoder: PreTrainedModel) -> None:
    """Send the encoder's attention through `packed_attention`."""
    encoder.set_attn_implementation(ATTENTION)


def encode_packed(encoder: PreTrainedModel, packed: Packed) -> Tensor:
    """Hidden states `[N, D]` of the last layer, for an encoder set to packed attention."""
    hidden_1ND: Tensor = encoder(
        input_ids=packed.ids_N[None],
        position_ids=(packed.offset_N + first_position(encoder))[None],
        packed=packed,
    ).last_hidden_state
    return hidden_1ND[0]


def first_position(encoder: PreTrainedModel) -> int:
    """Position id of a sequence's first token: RoBERTa's family counts from padding_idx + 1."""
    embeddings: Any = getattr(encoder, "embeddings", None)
    if hasattr(embeddings, "create_position_ids_from_input_ids"):
        return int(embeddings.padding_idx) + 1
    return 0
