"""Encoders whose attention cannot be told where a text ends run on padded batches, or on none.

Their code is transformers' own, entered as it is meant to be: token ids and an attention mask. A
`Reading` says how an encoder takes several texts at once. `pipeline.models.checking` finds it out
when the encoder is loaded.

Shapes: B sequences, N tokens in all, G places of padded grids, L tokens of the longest sequence,
D width.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.models.lengths import Lengths

Layout = Literal["packed", "padded", "one length"]
"""`packed` end to end without padding; `padded` to the longest of a group of like length; texts of
`one length` together, for encoders that padding disturbs."""
_ATTRIBUTE = "speechkd_reading"


@dataclass(frozen=True)
class Reading:
    """How an encoder takes several texts at once.

    Attributes:
        layout: how they are laid out.
        first_position: position id of a text's first token.
        most_tokens: tokens of the longest text that it has positions for; None for no limit.
    """

    layout: Layout
    first_position: int
    most_tokens: int | None


def reading_of(encoder: PreTrainedModel) -> Reading | None:
    """How an encoder takes texts, as `remember` noted it; None if it was not checked."""
    reading: Reading | None = getattr(encoder, _ATTRIBUTE, None)
    return reading


def remember(encoder: PreTrainedModel, reading: Reading) -> None:
    """Note on an encoder, and so on its copies, how it takes texts; nothing of it is saved."""
    setattr(encoder, _ATTRIBUTE, reading)


def encode_padded(
    encoder: PreTrainedModel, ids_N: Tensor, lengths: Lengths, layout: Layout
) -> Tensor:
    """Hidden states `[N, D]` of the last layer, each group of like length in a batch of its own.

    Args:
        encoder: the encoder, with attention of transformers' own.
        ids_N: tokens of all texts, end to end.
        lengths: where each text begins and ends.
        layout: `padded` or `one length`.
    """
    bands = lengths.bands if layout == "padded" else lengths.bands_of_one_length
    ids_G = ids_N.index_select(0, bands.source_G)
    parts: list[Tensor] = []
    start = 0
    for band in bands.bands:
        end = start + band.sequences * band.longest
        ids_BL = ids_G[start:end].view(band.sequences, band.longest)
        padded_BL = torch.where(band.valid_BL, ids_BL, padding_id(encoder))
        hidden_BLD: Tensor = encoder(
            input_ids=padded_BL, attention_mask=band.valid_BL.long()
        ).last_hidden_state
        parts.append(hidden_BLD.flatten(0, 1))
        start = end
    return torch.cat(parts).index_select(0, bands.place_N)


def padding_id(encoder: PreTrainedModel) -> int:
    """The token that an encoder's configuration names for padding, else the first one."""
    return int(getattr(encoder.config, "pad_token_id", None) or 0)
