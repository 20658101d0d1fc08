"""Where sequences that lie end to end begin and end, and how attention groups them by length.

Tokens of texts, frames of recordings and vectors of words are all such sequences. What holds them
(`packing.Packed` for tokens, `corpus.rows.Rows` for rows of a cache) is a `Lengths` with values.

Shapes: B sequences, N places in all, G places of padded grids, L places of the longest sequence.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

BAND_TOKENS = 16
"""Lengths that share one call of attention on a CPU: 1 to 16 tokens, 17 to 32, …"""
LONG_BAND_TOKENS = 128
LONG_FROM = 513
"""Sequences of so many places, such as frames, share wider bands: padding is a small share of
them, and each band is a call."""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the copy from this machine's memory to a GPU is not waited for."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True)
class Movable:
    """What a batch is made of: frozen data classes of tensors and of one another."""

    def to(self, device: torch.device) -> Self:
        """The same with every tensor on a device; itself if all are there."""
        changes: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                moved: object = to_device(value, device)
            elif isinstance(value, Movable):
                moved = value.to(device)
            else:
                continue
            if moved is not value:
                changes[f.name] = moved
        return replace(self, **changes) if changes else self


@dataclass(frozen=True)
class Lengths(Movable):
    """Sequences that lie end to end without padding, whatever they hold.

    Attributes:
        lengths_B: places of each sequence, int64, all at least 1.
        sequence_N: the sequence that each place belongs to.
        offset_N: each place's distance from the beginning of its sequence, from 0.
        grid_BL: where place `l` of sequence `b` stands in the packing; 0 where there is none.
        valid_BL: whether sequence `b` has a place `l`.
    """

    lengths_B: Tensor
    sequence_N: Tensor
    offset_N: Tensor
    grid_BL: Tensor
    valid_BL: Tensor

    @classmethod
    def of(cls, lengths_B: Tensor) -> "Lengths":
        """Describe sequences of these lengths, on the host; `to` moves the result as a whole.

        Raises:
            ValueError: a sequence is empty.
        """
        return Lengths(**cls.parts(lengths_B, int(lengths_B.sum())))

    @staticmethod
    def parts(
        lengths_B: Tensor, places: int, device: torch.device | None = None
    ) -> dict[str, Tensor]:
        """The fields of `Lengths`, for a class that adds values of its own to them.

        Args:
            lengths_B: places of each sequence.
            places: how many values there are.
            device: where they are; the lengths' own by default.

        Raises:
            ValueError: a sequence is empty, or the lengths do not add up to the places.
        """
        lengths_B = lengths_B.long()
        total, shortest, longest = (int(x) for x in (lengths_B.sum(), *lengths_B.aminmax()))
        if total != places or shortest < 1:
            raise ValueError(f"lengths add up to {total} (shortest {shortest}) for {places} tokens")
        device = device or lengths_B.device
        starts_B = lengths_B.cumsum(0) - lengths_B
        sequence_N = torch.arange(len(lengths_B), device=device).repeat_interleave(
            lengths_B, output_size=total
        )
        place_L = torch.arange(longest, device=device)
        valid_BL = place_L < lengths_B[:, None]
        return {
            "lengths_B": lengths_B,
            "sequence_N": sequence_N,
            "offset_N": torch.arange(total, device=device) - starts_B[sequence_N],
            "grid_BL": torch.where(valid_BL, starts_B[:, None] + place_L, 0),
            "valid_BL": valid_BL,
        }

    @property
    def starts_B(self) -> Tensor:
        """Where each sequence begins in the packing: its first place."""
        return self.grid_BL[:, 0]

    @cached_property
    def bands(self) -> "Bands":
        """The sequences in groups of like length, computed once for all layers."""
        return _bands(self)

    @cached_property
    def bands_of_one_length(self) -> "Bands":
        """The sequences in groups of equal length, whose grids have no padding."""
        return _bands(self, 1)


@dataclass(frozen=True)
class Band:
    """Sequences of like length that share one call of attention.

    Attributes:
        sequences: how many there are.
        longest: places of the longest one.
        valid_BL: whether sequence `b` of the band has a place `l`.
    """

    sequences: int
    longest: int
    valid_BL: Tensor


@dataclass(frozen=True)
class Bands:
    """All bands of a batch, their padded grids laid end to end.

    Attributes:
        bands: the bands.
        source_G: what stands at each place of the grids, by its place in the packing; 0 where
            there is nothing.
        place_N: the place in the grids of each place of the packing.
    """

    bands: tuple[Band, ...]
    source_G: Tensor
    place_N: Tensor


def _bands(lengths: Lengths, width: int | None = None) -> Bands:
    """Group sequences by length.

    On a CPU arithmetic costs most, so lengths within `BAND_TOKENS` of each other form a band.
    On a GPU launches cost more than padding, so all sequences form one. A `width` decides itself.
    """
    if width is None and lengths.sequence_N.device.type != "cpu":
        sequences, longest = lengths.grid_BL.shape
        one = Band(sequences, longest, lengths.valid_BL)
        place_N = lengths.sequence_N * longest + lengths.offset_N
        return Bands((one,), lengths.grid_BL.flatten(), place_N)
    bands: list[Band] = []
    sources: list[Tensor] = []
    place_N = torch.empty_like(lengths.sequence_N)
    start = 0
    if width is None:
        width = BAND_TOKENS if lengths.grid_BL.shape[1] < LONG_FROM else LONG_BAND_TOKENS
    band_B = (lengths.lengths_B - 1) // width
    for number in sorted(set(band_B.tolist())):
        rows_b = (band_B == number).nonzero()[:, 0]
        longest = int(lengths.lengths_B[rows_b].max())
        valid_bL = lengths.valid_BL[rows_b, :longest]
        source = lengths.grid_BL[rows_b, :longest].flatten()
        has_token = valid_bL.flatten()
        place_N[source[has_token]] = has_token.nonzero()[:, 0] + start
        bands.append(Band(len(rows_b), longest, valid_bL))
        sources.append(source)
        start += len(source)
    return Bands(tuple(bands), torch.cat(sources), place_N)
