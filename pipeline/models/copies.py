"""States at some places of texts that are nearly copies of each other, such as one masked copy of a
sentence per token.

Nothing is approximated: work is left out whose result is known or not asked for. Encoders whose
layers are laid out as BERT's enter their first layer with states that token and position alone
decide, so that each different one passes the first projections once; and the dense part of their
last layer sees the asked places alone. In an encoder of two layers that is half of all work. Other
encoders compute everything.

Shapes: N tokens in all, U different ones of them at different positions, K asked places, D width.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.models.packing import Packed, after_attention, encode_packed, kept_alone
from pipeline.models.padding import reading_of


def encode_copies(encoder: PreTrainedModel, packed: Packed, place_K: Tensor) -> Tensor:
    """Hidden states `[K, D]` of the last layer at some places; no gradient is meant to follow.

    Args:
        encoder: any encoder that `encode_packed` takes.
        packed: the texts.
        place_K: places in the packing, on its device.
    """
    reading = reading_of(encoder)
    dense = after_attention(encoder)
    if dense is None or (reading and reading.layout != "packed"):
        return encode_packed(encoder, packed)[place_K]
    with ExitStack() as stack:
        stack.enter_context(kept_alone(encoder, dense, place_K))
        stack.enter_context(_projected_once(_first_projections(encoder), packed))
        return encode_packed(encoder, packed)


def _first_projections(encoder: Any) -> list[nn.Module]:
    """Query, key and value of the first layer; none where they have other names."""
    attention = getattr(encoder.encoder.layer[0].attention, "self", None)
    return [
        part
        for name in ("query", "key", "value")
        if isinstance(part := getattr(attention, name, None), nn.Linear)
    ]


@contextmanager
def _projected_once(projections: list[nn.Module], packed: Packed) -> Iterator[None]:
    """While the block runs, the projections see each different state once.

    Whether states of the same token at the same position are the same is looked at, bit for bit, so
    that an encoder of another kind loses time and nothing else.
    """
    positions = int(packed.grid_BL.shape[1])
    kind_N = packed.ids_N * positions + packed.offset_N
    different_U, inverse_N = torch.unique(kind_N, return_inverse=True)
    any_U = torch.empty_like(different_U)
    any_U[inverse_N] = torch.arange(len(inverse_N), device=inverse_N.device)
    known: list[tuple[Tensor, Tensor]] = []

    def fewer(_: nn.Module, inputs_1ND: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (state_1ND,) = inputs_1ND
        if not known or known[0][0] is not state_1ND:
            known.clear()
            state_1UD = state_1ND.index_select(1, any_U)
            if not torch.equal(state_1UD.index_select(1, inverse_N), state_1ND):
                return inputs_1ND
            known.append((state_1ND, state_1UD))
        return (known[0][1],)

    def all_again(_: nn.Module, inputs: tuple[Tensor, ...], projected_1UD: Tensor) -> Tensor:
        if not known or inputs[0] is not known[0][1]:
            return projected_1UD
        return projected_1UD.index_select(1, inverse_N)

    with ExitStack() as stack:
        for projection in projections:
            stack.callback(projection.register_forward_pre_hook(fewer).remove)
            stack.callback(projection.register_forward_hook(all_again).remove)
        yield
