"""Sequences laid end to end without padding, and encoders that attend inside each of them.

The encoder is Hugging Face's own, entered through its attention interface. Only attention meets
padding, and only a little of it.

Shapes: B sequences, N tokens in all, K places to keep, G places of padded grids, L tokens of the
longest sequence, D width, H heads, E width of a head.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from pipeline.models.dropout import draws_of
from pipeline.models.grids import attention, collect, spread
from pipeline.models.lengths import Lengths
from pipeline.models.padding import encode_padded, reading_of

ATTENTION = "speechkd_packed"
BF16_ROWS = 64
"""Batches in bf16 on a CPU have a multiple of so many tokens: a few sizes, and little waste."""
_BERT_LAYER = {"attention", "intermediate", "output"}


def batches_by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Group texts of like length into batches, the shortest first.

    Args:
        lengths: tokens that each text takes in a batch.
        tokens: the most that a batch takes; a text longer than that is a batch of its own.

    Yields:
        Indices into `lengths`, one list per batch.
    """
    batch: list[int] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and total + lengths[index] > tokens:
            yield batch
            batch, total = [], 0
        batch.append(index)
        total += lengths[index]
    if batch:
        yield batch


@dataclass(frozen=True)
class Packed(Lengths):
    """A batch of token sequences laid end to end.

    Attributes:
        ids_N: token ids, int64.
    """

    ids_N: Tensor

    def with_ids(self, ids_N: Tensor) -> "Packed":
        """The same sequences with other tokens in the same places, such as masked ones."""
        return replace(self, ids_N=ids_N)


def pack(ids_N: Tensor, lengths_B: Tensor) -> Packed:
    """Describe token sequences that lie end to end.

    Done on the host and moved as a whole (`Packed.to`), because lengths that lie on a GPU have to
    be waited for.

    Args:
        ids_N: token ids of all sequences, one sequence after the other, of any integer type.
        lengths_B: tokens of each sequence.

    Raises:
        ValueError: a sequence is empty, or the lengths do not add up to the tokens.
    """
    return Packed(**Lengths.parts(lengths_B, len(ids_N), ids_N.device), ids_N=ids_N.long())


def packed_attention(
    module: nn.Module,
    query_1HNE: Tensor,
    key_1HNE: Tensor,
    value_1HNE: Tensor,
    _: Tensor | None,
    *,
    packed: Lengths,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **__: Any,
) -> tuple[Tensor, None]:
    """Attention inside each packed sequence, in Hugging Face's attention interface.

    Sequences of like length are spread over a padded grid, pass one call of scaled-dot-product
    attention, and are collected again. `sliding_window` is the first distance that is too far, as
    the library passes it.
    """
    bands = packed.bands
    spare = query_1HNE.shape[2] - len(bands.place_N)
    query_GHE, key_GHE, value_GHE = (
        spread(x_1HNE[0, :, : -spare or None].transpose(0, 1), bands)
        for x_1HNE in (query_1HNE, key_1HNE, value_1HNE)
    )
    mixed: list[Tensor] = []
    start = 0
    for band in bands.bands:
        end = start + band.sequences * band.longest
        query_BHLE, key_BHLE, value_BHLE = (
            x_GHE[start:end].view(band.sequences, band.longest, *x_GHE.shape[1:]).transpose(1, 2)
            for x_GHE in (query_GHE, key_GHE, value_GHE)
        )
        allowed = band.valid_BL[:, None, None, :]
        if sliding_window is not None:
            place_L = torch.arange(band.longest, device=allowed.device)
            apart_LL = (place_L[:, None] - place_L[None, :]).abs()
            # padding beyond the window sees itself: a softmax over nothing is not a number
            allowed = (allowed & (apart_LL < sliding_window)) | (apart_LL == 0)
        mixed_BHLE = attention(
            query_BHLE,
            key_BHLE,
            value_BHLE,
            allowed,
            dropout=dropout if module.training else 0.0,
            scale=scaling,
        )
        mixed.append(mixed_BHLE.transpose(1, 2).flatten(0, 1))
        start = end
    return add_rows(collect(torch.cat(mixed), bands), spare)[None], None


def use_packed_attention(encoder: PreTrainedModel) -> None:
    """Send the encoder's attention through `packed_attention`."""
    AttentionInterface.register(ATTENTION, packed_attention)
    encoder.set_attn_implementation(ATTENTION)


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """While the block runs, attention with a mask does not go to cuDNN's kernels.

    torch prefers them on an H100. They make a plan for every new shape, and packed batches have a
    new one each step. Some resolve dropout to sixteenths only (pytorch pull request 174245), and
    some give gradients that are no numbers for certain lengths (pytorch issue 196678). Plans and
    such gradients were seen on an H200 (docs/gpu.md). Whisper's encoder has one shape, no mask and
    no dropout, and keeps them.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def encode_packed(encoder: PreTrainedModel, packed: Packed) -> Tensor:
    """Hidden states `[N, D]` of the last layer.

    The encoder is set to packed attention, unless it was found to read padded batches
    (`pipeline.models.checking`).
    """
    # while a compiler traces, its caller has seen to it
    aside = nullcontext() if torch.compiler.is_compiling() else without_cudnn_attention()
    reading = reading_of(encoder)
    with aside:
        if reading and reading.layout != "packed":
            return encode_padded(encoder, packed.ids_N, packed, reading.layout)
        spare = _spare_tokens(encoder, packed.ids_N)
        position_N = packed.offset_N + first_position(encoder)
        hidden_1ND: Tensor = encoder(
            input_ids=add_rows(packed.ids_N, spare)[None],
            position_ids=add_rows(position_N, spare)[None],
            packed=packed,
        ).last_hidden_state
    return hidden_1ND[0, : len(packed.ids_N)]


def spare_rows(x_N: Tensor) -> int:
    """How many rows to add to a batch, so that its products are of a size that was met before.

    For products in bf16 on a CPU, oneDNN makes code for each new number of rows. That took longer
    than the products themselves (`bench/rows.py`), so their number is rounded up to `BF16_ROWS`.
    """
    if x_N.device.type != "cpu" or torch.compiler.is_compiling():
        return 0
    bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return -len(x_N) % BF16_ROWS if bf16 else 0


def add_rows(x_N: Tensor, rows: int, value: int = 0) -> Tensor:
    """`[N, …]` → `[N + rows, …]`, those at the end of one value; the same tensor for no rows."""
    return functional.pad(x_N, (0, 0) * (x_N.dim() - 1) + (0, rows), value=value) if rows else x_N


def _spare_tokens(encoder: PreTrainedModel, x_N: Tensor) -> int:
    """As `spare_rows`, and makes room for them in what the encoder's dropout draws.

    Tokens that are added attend to nothing, nothing attends to them, and no gradient leaves them.
    """
    spare = spare_rows(x_N)
    draws = draws_of(encoder) if spare else None
    if draws and draws.keys_PN is not None and draws.keys_PN.shape[1] == len(x_N):
        draws.pad(len(x_N) + spare)
    return spare


def encode_values(
    encoder: PreTrainedModel,
    lengths: Lengths,
    values_ND: Tensor,
    *,
    place_N: Tensor | None = None,
    type_N: Tensor | None = None,
) -> Tensor:
    """Hidden states `[N, D]` of vectors that take the place of token embeddings, such as frames.

    Args:
        encoder: an encoder set to packed attention that takes `inputs_embeds`, as BERT does; it
            adds its own position embeddings.
        lengths: of the sequences.
        values_ND: their vectors, as wide as the encoder's embeddings.
        place_N: the position of each vector, from 0; its place in its sequence by default.
        type_N: its token type, of an encoder that has several; 0 by default.
    """
    aside = nullcontext() if torch.compiler.is_compiling() else without_cudnn_attention()
    with aside:
        spare = _spare_tokens(encoder, values_ND)
        own_N = lengths.offset_N if place_N is None else place_N
        types = {} if type_N is None else {"token_type_ids": add_rows(type_N, spare)[None]}
        hidden_1ND: Tensor = encoder(
            inputs_embeds=add_rows(values_ND, spare)[None],
            position_ids=add_rows(own_N + first_position(encoder), spare)[None],
            packed=lengths,
            **types,
        ).last_hidden_state
    return hidden_1ND[0, : len(values_ND)]


def encode_first_tokens(encoder: PreTrainedModel, packed: Packed) -> Tensor:
    """Hidden states `[B, D]` of each sequence's first token, from the last layer.

    After the last layer's attention no token looks at another one. So in encoders whose layers are
    laid out as BERT's, the dense part of the last layer skips all tokens but the first ones, which
    saves up to three quarters of that layer's work. Other encoders compute every state.
    """
    reading = reading_of(encoder)
    dense = after_attention(encoder)
    if dense is None or (reading and reading.layout != "packed"):
        return encode_packed(encoder, packed)[packed.starts_B]
    with kept_alone(encoder, dense, packed.starts_B):
        return encode_packed(encoder, packed)


def encode_first_values(encoder: PreTrainedModel, lengths: Lengths, values_ND: Tensor) -> Tensor:
    """Hidden states `[B, D]` of each sequence's first vector; as `encode_values` otherwise.

    The last layer's dense part skips the others, as in `encode_first_tokens`.
    """
    dense = after_attention(encoder)
    if dense is None:
        return encode_values(encoder, lengths, values_ND)[lengths.starts_B]
    with kept_alone(encoder, dense, lengths.starts_B):
        return encode_values(encoder, lengths, values_ND)


@contextmanager
def kept_alone(encoder: nn.Module, dense: nn.Module, place_K: Tensor) -> Iterator[None]:
    """While the block runs, a module of an encoder sees these places and no other one.

    They drop what they would drop among all others.
    """

    def keep(_: nn.Module, inputs_1ND: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x_1ND.index_select(1, place_K) for x_1ND in inputs_1ND)

    draws = draws_of(encoder)
    handle = dense.register_forward_pre_hook(keep)
    if draws:
        draws.kept_K = place_K
    try:
        yield
    finally:
        handle.remove()
        if draws:
            draws.kept_K = None


def after_attention(encoder: PreTrainedModel) -> nn.Module | None:
    """In a BERT's last layer: the module that attention's result and its residual enter."""
    layers = getattr(getattr(encoder, "encoder", None), "layer", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        return None
    if {name for name, _ in layers[-1].named_children()} != _BERT_LAYER:
        return None
    output = getattr(layers[-1].attention, "output", None)
    return output if isinstance(output, nn.Module) else None


def first_position(encoder: PreTrainedModel) -> int:
    """Position id of a sequence's first token: 0, or padding_idx + 1 in RoBERTa's family."""
    reading = reading_of(encoder)
    if reading:
        return reading.first_position
    embeddings: Any = getattr(encoder, "embeddings", None)
    if hasattr(embeddings, "create_position_ids_from_input_ids"):
        return int(embeddings.padding_idx) + 1
    return 0


def most_tokens(encoder: PreTrainedModel) -> int | None:
    """Tokens of the longest text that an encoder has positions for; None for no limit."""
    reading = reading_of(encoder)
    if reading:
        return reading.most_tokens
    positions = getattr(encoder.config, "max_position_embeddings", None)
    return positions - first_position(encoder) if isinstance(positions, int) else None
