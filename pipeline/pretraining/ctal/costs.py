"""Arithmetic and memory of a step of CTAL, for utilisation and warnings.

Shapes: P positions of a clip, T tokens of its text.
"""

from pipeline.models.student import Student
from pipeline.models.text_referred import AudioConfig

VALUES_PER_STATE = 38
"""Numbers of 4 bytes that a step of float32 holds per position, layer and unit of width: 27 that
self-attention, cross-attention and a feed-forward part four times as wide keep for the backward
pass, and what that pass takes for itself. docs/ctal.md has it beside measured peaks."""


def audio_flops(config: AudioConfig, positions: float, tokens: float) -> float:
    """Floating-point operations of one clip forward through the audio stack.

    Two per weight and position of each matrix; those of the text's keys and values per token.

    Args:
        config: the stack.
        positions: P.
        tokens: T.
    """
    width, inner = config.width, config.inner_width
    per_position = 4 * width**2 + 2 * width * inner
    per_token = 0
    attention = 2 * positions * positions * width
    if config.cross:
        per_position += 2 * width**2
        per_token = 2 * width * config.text_width
        attention += 2 * positions * tokens * width
    layer = 2 * (per_position * positions + per_token * tokens + attention)
    return config.layers * layer + 2 * config.columns * width * positions


def text_flops(text: Student, tokens: float) -> float:
    """The same of one text through the text encoder."""
    body: int = sum(
        p.numel()
        for name, p in text.encoder.named_parameters()
        if p.ndim == 2 and "embed" not in name
    )
    layers = int(text.model.config.num_hidden_layers)
    return 2.0 * tokens * (body + 2 * layers * text.width * tokens)


def heads_flops(
    text: Student, config: AudioConfig, target_columns: int, masked: float, chosen: float
) -> float:
    """The same of both heads, which see chosen places alone.

    Args:
        text: the text encoder.
        config: of the audio stack.
        target_columns: values of a position that are predicted.
        masked: tokens that are predicted.
        chosen: positions that are.
    """
    vocabulary = int(text.model.config.vocab_size)
    of_tokens = text.width * (text.width + vocabulary)
    return 2.0 * (masked * of_tokens + chosen * config.width * (config.width + target_columns))


def step_bytes(
    text: Student,
    config: AudioConfig,
    target_columns: int,
    *,
    positions: int,
    tokens: int,
    masked: int,
) -> int:
    """Upper bound in bytes for what a step holds beside weights, gradients and moments.

    Args:
        text: the text encoder.
        config: of the audio stack.
        target_columns: values of a position that are predicted; all positions may be.
        positions: of a batch in this process.
        tokens: of it.
        masked: tokens of it that the text's head predicts; four numbers per logit.
    """
    of_audio = VALUES_PER_STATE * positions * config.layers * config.width
    layers = int(text.model.config.num_hidden_layers)
    of_text = VALUES_PER_STATE * tokens * layers * text.width
    vocabulary = int(text.model.config.vocab_size)
    of_heads = 4 * masked * vocabulary + 3 * vocabulary * text.width
    return 4 * (of_audio + of_text + of_heads + 8 * positions * target_columns)
