"""Attention among sequences that lie end to end: of a sequence to itself, or to another one.

Sequences of like length are spread over padded grids, pass one call of scaled-dot-product
attention, and are collected again.

Shapes: N queries in all, M keys in all, G places of padded grids, B sequences of a band, L places
of its longest one, H heads, E width of a head.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pipeline.models.lengths import Band, Bands, Lengths


class _Spread(torch.autograd.Function):
    """Tokens `[N, …]` → places of the bands' grids `[G, …]`.

    A place without a token holds a copy of the first one. Attention's mask keeps any gradient from
    it, so the gradient of a token is that of its one place. Indexing would add up over all places
    instead: far slower, and in no fixed order on a GPU.
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


def spread(tokens: Tensor, bands: Bands) -> Tensor:
    """Tokens `[N, …]` at their places of the bands' grids `[G, …]`."""
    return cast(Tensor, _Spread.apply(tokens, bands.source_G, bands.place_N))  # type: ignore[no-untyped-call]


def collect(places: Tensor, bands: Bands) -> Tensor:
    """Places of the bands' grids `[G, …]` as tokens `[N, …]`."""
    return cast(Tensor, _Collect.apply(places, bands.place_N))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Meeting:
    """Which sequence of keys each sequence of queries attends to.

    Attributes:
        queries: the sequences that ask, in bands.
        keys: for each band of these, the sequences that they ask, in the same order.
    """

    queries: Bands
    keys: Bands


def within(lengths: Lengths) -> Meeting:
    """Each sequence attends to itself."""
    return Meeting(lengths.bands, lengths.bands)


def between(queries: Lengths, keys: Lengths, partner_B: Tensor | None = None) -> Meeting:
    """Each sequence of queries attends to one of keys.

    Args:
        queries: such as frames of clips.
        keys: as many sequences, such as the tokens of their texts.
        partner_B: which sequence of keys each one of queries attends to, each to another one; None
            for the one of the same number.

    Raises:
        ValueError: there are more sequences of one kind than of the other.
    """
    if len(queries.lengths_B) != len(keys.lengths_B):
        raise ValueError(f"{len(queries.lengths_B)} sequences of queries, {len(keys.lengths_B)}")
    asking = queries.bands
    bands: list[Band] = []
    sources: list[Tensor] = []
    begin_B = torch.empty_like(keys.lengths_B)
    start = place = 0
    for band in asking.bands:
        end = start + band.sequences * band.longest
        # the first place of a sequence is never padding
        sequence_b = queries.sequence_N[asking.source_G[start : end : band.longest]]
        partner_b = sequence_b if partner_B is None else partner_B[sequence_b]
        longest = keys.grid_BL.shape[1]
        if begin_B.device.type == "cpu":  # on a GPU there is one band, and its longest is known
            longest = int(keys.lengths_B[partner_b].max())
        bands.append(Band(band.sequences, longest, keys.valid_BL[partner_b, :longest]))
        sources.append(keys.grid_BL[partner_b, :longest].flatten())
        number_b = torch.arange(band.sequences, device=begin_B.device)
        begin_B[partner_b] = place + number_b * longest
        start, place = end, place + band.sequences * longest
    place_M = begin_B[keys.sequence_N] + keys.offset_N
    return Meeting(asking, Bands(tuple(bands), torch.cat(sources), place_M))


def attention(
    query_BHLE: Tensor,
    key_BHME: Tensor,
    value_BHME: Tensor,
    allowed: Tensor,
    *,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Scaled-dot-product attention of a grid, by torch.

    On a CPU what is trained in bf16 attends in float32, because torch's backward pass in bf16 takes
    two to nine times as long there (`bench/attention.py`).

    Args:
        query_BHLE: queries.
        key_BHME: keys.
        value_BHME: values.
        allowed: whether a query may see a key; of any shape that broadcasts to `[B, H, L, M]`.
        dropout: share of the attention that is dropped.
        scale: factor on the scores; None for 1 / √E.

    Returns:
        `[B, H, L, E]`, in the queries' type.
    """
    on_cpu = query_BHLE.device.type == "cpu"
    if not (on_cpu and query_BHLE.dtype == torch.bfloat16 and query_BHLE.requires_grad):
        return functional.scaled_dot_product_attention(
            query_BHLE, key_BHME, value_BHME, attn_mask=allowed, dropout_p=dropout, scale=scale
        )
    with torch.autocast("cpu", enabled=False):
        mixed_BHLE = functional.scaled_dot_product_attention(
            query_BHLE.float(),
            key_BHME.float(),
            value_BHME.float(),
            attn_mask=allowed,
            dropout_p=dropout,
            scale=scale,
        )
    return mixed_BHLE.to(query_BHLE.dtype)


def attend(
    query_NHE: Tensor,
    key_MHE: Tensor,
    value_MHE: Tensor,
    meeting: Meeting,
    *,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attention of each sequence of queries to its sequence of keys.

    Args:
        query_NHE: queries of all sequences, end to end.
        key_MHE: keys of all sequences, end to end.
        value_MHE: their values.
        meeting: which sequence attends to which.
        dropout: share of the attention that is dropped.
        scale: factor on the scores; None for 1 / √E.

    Returns:
        `[N, H, E]`.
    """
    query_GHE = spread(query_NHE, meeting.queries)
    key_GHE, value_GHE = (spread(x_MHE, meeting.keys) for x_MHE in (key_MHE, value_MHE))
    mixed: list[Tensor] = []
    at = keys_at = 0
    for asking, asked in zip(meeting.queries.bands, meeting.keys.bands, strict=True):
        end = at + asking.sequences * asking.longest
        keys_end = keys_at + asked.sequences * asked.longest
        query_BLHE = query_GHE[at:end].view(asking.sequences, asking.longest, *query_GHE.shape[1:])
        key_BHLE, value_BHLE = (
            x_GHE[keys_at:keys_end]
            .view(asked.sequences, asked.longest, *x_GHE.shape[1:])
            .transpose(1, 2)
            for x_GHE in (key_GHE, value_GHE)
        )
        mixed_BHLE = attention(
            query_BLHE.transpose(1, 2),
            key_BHLE,
            value_BHLE,
            asked.valid_BL[:, None, None, :],
            dropout=dropout,
            scale=scale,
        )
        mixed.append(mixed_BHLE.transpose(1, 2).flatten(0, 1))
        at, keys_at = end, keys_end
    return collect(torch.cat(mixed), meeting.queries)
