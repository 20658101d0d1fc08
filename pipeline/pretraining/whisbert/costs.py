"""Arithmetic and memory of a WhisBERT step, pass by pass (whisbert.md 1.7 of the specification).

Shapes: D width, W width of a frame, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.models.student import Student
from pipeline.models.whisbert.layers import LayerSizes
from pipeline.models.whisbert.speech_encoder import KERNEL
from pipeline.pretraining.whisbert.losses import HEAR, HIDE, JOIN, Loss
from pipeline.pretraining.whisbert.module import Shape

BACKWARD = 3.0
"""Forward and backward together cost three times the forward pass."""
NUMBERS_PER_STATE = 32
"""Numbers that a layer keeps per place and unit of width, as measured of BERT's in float32."""
STEM_NUMBERS = 6
"""Of the stem, per frame and unit of width: both convolutions' states, their GELUs, gradients."""


@dataclass(frozen=True)
class Clip:
    """Mean sizes of a clip.

    Attributes:
        frames: rows of the cache.
        tokens: special ones included.
    """

    frames: float
    tokens: float


def pass_flops(student: Student, shape: Shape, clip: Clip, masked_share: float) -> dict[str, float]:
    """Floating-point operations of each pass over one clip, forward.

    `text`, `text head`, `stem`, `audio`, `fusion` and `fusion head`; two per multiplication and
    addition, attention over the clip's own places.
    """
    patches = clip.frames / shape.per_patch
    width = shape.audio.width
    convolved = clip.frames * shape.frame_width * KERNEL * width + patches * width * KERNEL * width
    return {
        "text": clip.tokens * _text_flops(student, clip.tokens),
        "text head": clip.tokens * masked_share * _head_flops(student, student.width),
        "stem": 2 * convolved,
        "audio": (patches + 1) * _layer_flops(shape.audio, patches + 1),
        "fusion": (2 + patches + clip.tokens)
        * _layer_flops(shape.fusion, 2 + patches + clip.tokens),
        "fusion head": clip.tokens * masked_share * _head_flops(student, shape.fusion.width),
    }


def passes(losses: Mapping[Loss, float]) -> dict[str, int]:
    """How often a step makes each pass."""
    on = set(losses)
    clean = int("mmc" in on)
    return {
        "text": 1 + clean,
        "text head": 1,
        "stem": int(bool(on & HEAR)),
        "audio": int(bool(on & HIDE)) + clean,
        "fusion": int(bool(on & JOIN)) + int("atm" in on),
        "fusion head": int("mmm" in on),
    }


def clip_flops(flops: Mapping[str, float], losses: Mapping[Loss, float]) -> float:
    """Floating-point operations of a step per clip, forward."""
    return sum(count * flops[name] for name, count in passes(losses).items())


def step_bytes(
    student: Student,
    shape: Shape,
    losses: Mapping[Loss, float],
    clip: Clip,
    clips: int,
    masked: int,
) -> int:
    """Upper bound in bytes for what a step holds beside weights, gradients and moments.

    Args:
        student: the text encoder.
        shape: of the rest.
        losses: what is trained, with weights.
        clip: mean sizes of a clip of the largest batch.
        clips: of it in this process.
        masked: tokens of these that a masked-LM head predicts; four numbers per logit.
    """
    config = student.model.config
    counts = passes(losses)
    patches = clip.frames / shape.per_patch
    text = counts["text"] * clip.tokens * int(config.num_hidden_layers) * student.width
    audio = counts["audio"] * (patches + 1) * shape.audio.layers * shape.audio.width
    places = 2 + patches + clip.tokens
    fusion = counts["fusion"] * places * shape.fusion.layers * shape.fusion.width
    stem = counts["stem"] * STEM_NUMBERS * clip.frames * shape.audio.width
    vocabulary = int(config.vocab_size)
    heads = counts["text head"] + counts["fusion head"]
    logits = 4 * heads * masked * vocabulary
    numbers = clips * (NUMBERS_PER_STATE * (text + audio + fusion) + stem) + logits
    return 4 * round(numbers + 3 * vocabulary * student.width)


def _layer_flops(sizes: LayerSizes, places: float) -> float:
    """Of all layers, per place of a sequence of so many places."""
    maps = 4 * sizes.width**2 + 2 * sizes.width * sizes.feed_forward
    return sizes.layers * (2 * maps + 4 * sizes.width * places)


def _text_flops(student: Student, tokens: float) -> float:
    """Of the text encoder, per token: its matrices (embeddings are looked up) and attention."""
    body: int = sum(
        p.numel()
        for name, p in student.encoder.named_parameters()
        if p.ndim == 2 and "embed" not in name
    )
    layers = int(student.model.config.num_hidden_layers)
    return 2.0 * body + 4.0 * layers * student.width * tokens


def _head_flops(student: Student, width: int) -> float:
    """Of a masked-LM head, per token: its transform and the vocabulary."""
    embedded: int = student.encoder.get_input_embeddings().weight.shape[1]
    return 2.0 * (width * embedded + embedded * int(student.model.config.vocab_size))
