"""States of the first tokens alone, without what the last layer does for the others.

After the last layer's attention no token looks at another one any more. Where only the first token
of each text is read, that layer's dense part need not see the others: the result is the same, and
up to three quarters of one layer's work is saved.

Shapes: B sequences, N tokens in all, D width.
"""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.models.packing import Packed, encode_packed

_BERT_LAYER = {"attention", "intermediate", "output"}


def encode_first_tokens(encoder: PreTrainedModel, packed: Packed) -> Tensor:
    """Hidden states `[B, D]` of each sequence's first token, from the last layer.

    Encoders whose layers are laid out as BERT's skip the dense part of the last layer for all
    other tokens; of any other kind every state is computed and the first ones are taken.
    """
    after_attention = _after_attention(encoder)
    if after_attention is None:
        return encode_packed(encoder, packed)[packed.starts_B]

    def keep_first(_: nn.Module, inputs_1ND: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x_1ND.index_select(1, packed.starts_B) for x_1ND in inputs_1ND)

    handle = after_attention.register_forward_pre_hook(keep_first)
    try:
        return encode_packed(encoder, packed)
    finally:
        handle.remove()


def _after_attention(encoder: PreTrainedModel) -> nn.Module | None:
    """The module that takes (what attention mixed, its residual) in the last layer of a BERT."""
    layers = getattr(getattr(encoder, "encoder", None), "layer", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        return None
    if {name for name, _ in layers[-1].named_children()} != _BERT_LAYER:
        return None
    found = getattr(layers[-1].attention, "output", None)
    return found if isinstance(found, nn.Module) else None
