"""Is what an encoder gives for several texts what it gives for each alone? Asked when it is loaded.

Three ways of laying out texts are tried, the fastest first, on a few tokens and with the encoder's
own weights. What counts is what plain transformers gives for each text alone. An encoder for which
no way is right is refused.

Shapes: B sequences, N tokens in all, D width, V vocabulary.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.foundation.errors import Damaged, SpeechkdError, first_line, unless_of_memory
from pipeline.foundation.progress import say
from pipeline.models.loading import quiet
from pipeline.models.packing import (
    ATTENTION,
    encode_first_tokens,
    encode_packed,
    first_position,
    most_tokens,
    pack,
    use_packed_attention,
)
from pipeline.models.padding import Layout, Reading, remember

LENGTHS = (5, 9, 5)
"""Tokens of the texts that are tried: two lengths, so that there is padding, and one of them
twice, so that a batch of one length holds several texts."""
LONGEST_TRIED = 130
TOLERANCE = 2e-4
"""Greatest deviation, as a share of the states' root mean square. In fresh encoders of two layers
rounding gives 1e-6 of it, and texts that read each other 1e-3 to 1e-1 (`bench/encoders.py`)."""
PLAIN = "eager"
_SPECIAL = ("pad", "bos", "eos", "cls", "sep", "mask", "unk", "decoder_start")
LAYOUTS: tuple[Layout, ...] = ("packed", "padded", "one length")
_SLOWER: dict[Layout, str] = {
    "padded": "reads padded batches by plain transformers, which is slower",
    "one length": "reads texts of one length at a time by plain transformers, which is slower, "
    "because padding changes what it gives",
}


def find_reading(
    encoder: PreTrainedModel, name: str, layouts: tuple[Layout, ...] = LAYOUTS
) -> Reading:
    """Find out how an encoder takes several texts at once, set it to that, and say what is slow.

    An encoder on torch's meta device has no weights, so nothing is run: it is set to the first way.

    Args:
        encoder: the encoder, with the weights that it will be used with.
        name: what messages call it.
        layouts: the ways to try, the best first.

    Raises:
        Damaged: its states are no numbers.
        SpeechkdError: it is no text encoder, or several texts at once change what it gives.
    """
    kind = str(getattr(encoder.config, "model_type", type(encoder).__name__))
    if getattr(encoder.config, "is_encoder_decoder", False):
        raise SpeechkdError(
            f"{name}: a {kind} gives the states of a decoder, which reads a text from left to "
            "right only. Name an encoder, such as BERT's kind."
        )
    if encoder.device.type == "meta":
        use_packed_attention(encoder)
        return Reading(layouts[0], first_position(encoder), most_tokens(encoder))
    before = encoder.config._attn_implementation
    if before == ATTENTION:
        before = PLAIN
        encoder.set_attn_implementation(before)
    with _undisturbed(encoder):
        plain = _plain(encoder, name, kind)
        wrong: dict[Layout, str] = {}
        for layout in layouts:
            reading = Reading(layout, plain.first_position, plain.most_tokens)
            remember(encoder, reading)
            fault = _fault(encoder, plain, layout, before)
            if fault is None:
                if layout != layouts[0]:
                    _say_once(f"{name}: {kind} {_SLOWER[layout]}")
                return reading
            wrong[layout] = fault
    faults = "; ".join(f"{layout}: {fault}" for layout, fault in wrong.items())
    raise SpeechkdError(
        f"{name}: a {kind} gives other states for several texts at once than for each alone "
        f"({faults}). It cannot be used. docs/encoders.md lists kinds that can."
    )


def check_head(model: PreTrainedModel, logits_of: Callable[[Tensor], Tensor], name: str) -> None:
    """Check that a masked-LM head gives the same apart from its encoder as with it.

    Args:
        model: the whole model; its encoder was checked.
        logits_of: gives logits `[N, V]` of hidden states `[N, D]` through the head alone.
        name: what messages call it.

    Raises:
        SpeechkdError: it does not.
    """
    encoder: PreTrainedModel = model.base_model
    if encoder.device.type == "meta":
        return
    packed = encoder.config._attn_implementation == ATTENTION
    with _undisturbed(model):
        ids_N = _sample(encoder, _lengths(encoder.config))[0]
        if packed:
            encoder.set_attn_implementation(PLAIN)
        try:
            whole_NV: Tensor = model(input_ids=ids_N[None]).logits[0]
            fault = _deviation(logits_of(_alone(encoder, ids_N)), whole_NV)
        except Exception as error:  # whatever a kind's code raises
            unless_of_memory(error)
            fault = first_line(error)
        finally:
            if packed:
                use_packed_attention(encoder)
    if fault is not None:
        raise SpeechkdError(
            f"{name}: the masked-LM head of a {model.config.model_type} cannot be run on chosen "
            f"tokens alone ({fault}), so it cannot be a student. docs/encoders.md lists kinds that "
            "can."
        )


@dataclass(frozen=True)
class _Plain:
    """What plain transformers gives for each text alone."""

    texts: list[Tensor]
    states_ND: Tensor
    first_position: int
    most_tokens: int | None


def _plain(encoder: PreTrainedModel, name: str, kind: str) -> _Plain:
    *texts, other_N = _sample(encoder, _lengths(encoder.config))
    middle = len(other_N) // 2
    other_N[middle] = texts[-1][middle]
    tables: dict[str, tuple[int, int]] = {}
    try:
        states = []
        for ids_N in texts:
            with _watched_positions(encoder, len(ids_N), tables):
                states.append(_alone(encoder, ids_N))
        elsewhere_ND = _alone(encoder, other_N)
        encoder.train()
        _alone(encoder, other_N)
        encoder.eval()
    except Exception as error:  # whatever a kind's code raises
        unless_of_memory(error)
        raise SpeechkdError(
            f"{name}: a {kind} cannot read a text as token ids alone ({first_line(error)}), so it "
            "is no text encoder. docs/encoders.md lists kinds that can be used."
        ) from error
    if not all(torch.isfinite(states_ND).all() for states_ND in states):
        raise Damaged(f"{name}: its states are no finite numbers. Are its weights whole?")
    if _deviation(elsewhere_ND[middle], states[-1][middle]) is None:
        raise SpeechkdError(
            f"{name}: the states of this {kind} do not depend on a token's neighbours, so whether "
            "texts are kept apart cannot be checked. Is a part of it missing, or not yet trained?"
        )
    return _Plain(texts, torch.cat(states), *_positions(encoder, tables))


def _alone(encoder: PreTrainedModel, ids_N: Tensor) -> Tensor:
    """States `[N, D]` of one text by plain transformers."""
    hidden_1ND: Tensor = encoder(
        input_ids=ids_N[None], attention_mask=torch.ones_like(ids_N)[None]
    ).last_hidden_state
    wanted = (1, len(ids_N), int(encoder.config.hidden_size))
    if hidden_1ND.shape != wanted:
        raise ValueError(f"states {tuple(hidden_1ND.shape)} in place of {wanted}")
    return hidden_1ND[0].clone()


def _lengths(config: Any) -> list[int]:
    """Tokens of the texts to try; one is longer than the window of attention, if there is one."""
    claims = config.to_dict()
    whole, half = claims.get("local_attention"), claims.get("sliding_window")
    window = half if isinstance(half, int) else whole // 2 if isinstance(whole, int) else 0
    lengths = [*LENGTHS, min(window + 2, LONGEST_TRIED)] if window else [*LENGTHS]
    positions = claims.get("max_position_embeddings")
    most = max(positions - 2, 1) if isinstance(positions, int) and positions > 0 else LONGEST_TRIED
    lengths = [min(length, most) for length in lengths]
    return [*lengths, lengths[-1]]


def _positions(
    encoder: PreTrainedModel, tables: dict[str, tuple[int, int]]
) -> tuple[int, int | None]:
    """Position id of a text's first token, and how many tokens there are positions for."""
    if tables:
        return max(first for _, first in tables.values()), min(
            rows - first for rows, first in tables.values()
        )
    claimed = getattr(encoder.config, "max_position_embeddings", None)
    most = claimed if isinstance(claimed, int) and claimed > 0 else None
    return first_position(encoder), most


def _fault(encoder: PreTrainedModel, plain: _Plain, layout: Layout, before: str) -> str | None:
    """What is wrong with a layout; None if it gives what each text gives alone."""
    try:
        if layout == "packed":
            use_packed_attention(encoder)
        elif encoder.config._attn_implementation == ATTENTION:
            encoder.set_attn_implementation(before)
        lengths_B = torch.tensor([len(ids_N) for ids_N in plain.texts])
        packed = pack(torch.cat(plain.texts), lengths_B)
        fault = _deviation(encode_packed(encoder, packed), plain.states_ND)
        if fault is None:
            first_BD = encode_first_tokens(encoder, packed)
            fault = _deviation(first_BD, plain.states_ND[packed.starts_B])
        return fault
    except Exception as error:  # whatever a kind's code raises
        unless_of_memory(error)
        return first_line(error)


def _deviation(given: Tensor, wanted: Tensor) -> str | None:
    """How far two tensors differ, in words; None if it is rounding."""
    if given.shape != wanted.shape:
        return f"{tuple(given.shape)} in place of {tuple(wanted.shape)}"
    size = float(wanted.float().square().mean().sqrt())
    off = float((given.float() - wanted.float()).abs().max())
    return None if off <= TOLERANCE * size else f"off by {off:.2g}, their size is {size:.2g}"


@contextmanager
def _undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout, gradients, notices, and draws from torch's generator."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), quiet():
            yield
    finally:
        model.train(training)


@functools.cache
def _say_once(text: str) -> None:
    """Say it once per process, because a command loads an encoder more than once."""
    say(text)


def _sample(encoder: PreTrainedModel, lengths: Sequence[int]) -> list[Tensor]:
    """Texts of random tokens, none of them special."""
    weight = getattr(encoder.get_input_embeddings(), "weight", None)
    rows = int(encoder.config.vocab_size) if weight is None else len(weight)
    special = {getattr(encoder.config, f"{name}_token_id", None) for name in _SPECIAL}
    usable = torch.tensor([i for i in range(rows) if i not in special] or [0])
    generator = torch.Generator().manual_seed(0)
    return [usable[torch.randint(len(usable), (n,), generator=generator)] for n in lengths]


@contextmanager
def _watched_positions(
    encoder: PreTrainedModel, tokens: int, tables: dict[str, tuple[int, int]]
) -> Iterator[None]:
    """Note rows and first index of every table that is asked for as many positions in a row."""

    def watch(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], _: Any) -> None:
            index = arguments[0] if arguments else None
            if not isinstance(index, Tensor) or index.is_floating_point():
                return
            index = index.flatten()[:tokens]
            if len(index) == tokens > 1 and bool((index.diff() == 1).all()):
                weight: Any = module.weight
                tables[name] = (len(weight), int(index[0]))

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in encoder.named_modules()
        if "position" in name.rpartition(".")[2]
        and isinstance(getattr(module, "weight", None), Tensor)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
