"""Arithmetic and memory that a speech module takes, for utilisation and warnings."""

import math
from typing import Any

from pipeline.models.speech_front import SpeechFront
from pipeline.pretraining.method import Parts
from pipeline.pretraining.sizes import (
    FLOAT_BYTES,
    encoder_flops,
    largest_share,
    mean_places,
    own_clips,
)
from pipeline.pretraining.splat.reading import FRAMES

LAYER_NUMBERS = 20
"""Numbers that a layer keeps for its backward pass per place and unit of width: 8 of the grown
states before and after GELU, 4 of attention, 6 of sums, norms and dropout, and 2 for what the
allocator cannot use."""
PASSING_NUMBERS = 12
"""Numbers that the backward pass of one layer holds beside them: gradients of the grown states."""
CELL_NUMBERS = 22
"""Numbers per cell of the frames that are filled in: raw, normalised, shown, predicted, their
errors and gradients, those of the next batch, and what the allocator cannot use again."""
READ_NUMBERS = 5
"""The same where frames are read and not filled in: raw, normalised, and of the next batch, with
what their making takes."""

ALIGNED_NUMBERS = 6
"""Numbers per place and unit of the text's width that an alignment by tokens holds: states brought
to that width, their directions, the gradients of both, and what normalising takes. torch's profiler
has a peak of 5.5."""


def positions(frames: float, stack: int) -> float:
    """Positions of so many frames of a clip."""
    return math.ceil(frames / stack)


def flops_per_frame(parts: Parts, config: Any, front: SpeechFront, passes: float = 1) -> float:
    """Operations per frame, forward and backward (twice the forward pass).

    `3 (layers · (n (8 D² + 4 D · 4 D) + 4 n² D) + 2 n (K D + D² + D K)) − 2 n K D` per clip of n
    positions: the backward pass costs twice the forward one, but frames need no gradient.

    Args:
        parts: of the run.
        config: of the encoder.
        front: of the module.
        passes: through the encoder per batch.
    """
    frames = mean_places(parts.data.corpus, FRAMES)
    places = positions(frames, front.stack)
    layers, width = int(config.num_hidden_layers), int(config.hidden_size)
    whole = clip_flops(
        places,
        layers=layers,
        width=width,
        inner=int(config.intermediate_size),
        stacked=front.channels * front.stack,
    )
    return passes * whole / frames


def clip_flops(
    places: float,
    *,
    layers: int,
    width: int,
    inner: int,
    stacked: int,
    attended: float | None = None,
) -> float:
    """Operations of one clip, forward and backward, with the head that fills in frames.

    Args:
        places: n, of the clip's frames.
        layers: of the encoder.
        width: D.
        inner: width of the feed-forward part.
        stacked: K, width of what a position reads.
        attended: places of the encoder, if a learned first one is to be counted; n by default.
    """
    body = encoder_flops(places if attended is None else attended, layers, width, inner)
    reading = 2 * places * stacked * width  # whose inputs, the frames, need no gradient
    return 3 * (body + 2 * places * (stacked * width + width**2)) + 2 * reading


def step_bytes(
    parts: Parts,
    config: Any,
    front: SpeechFront,
    passes: int = 1,
    text_width: int = 0,
    fills: bool = True,
) -> int:
    """Upper bound in bytes of what a step holds beside weights, gradients and moments.

    Args:
        parts: of the run.
        config: of the encoder.
        front: of the module.
        passes: through the encoder per batch.
        text_width: E, if each place is compared with tokens of texts; else 0.
        fills: whether hidden frames are filled in.
    """
    clips = own_clips(parts.batches.clips_per_batch, parts.batches.processes)
    frames = largest_share(parts.batches, FRAMES, parts.schedule.total_steps)
    places = -(-frames // front.stack) + 2 * clips
    return held_bytes(
        places,
        frames * front.channels,
        int(config.num_hidden_layers),
        int(config.hidden_size),
        passes,
        text_width,
        CELL_NUMBERS if fills else READ_NUMBERS,
    )


def held_bytes(
    places: int,
    cells: int,
    layers: int,
    width: int,
    passes: int = 1,
    text_width: int = 0,
    cell_numbers: int = CELL_NUMBERS,
) -> int:
    """Bytes that a step of so many places holds beside weights, gradients and moments.

    Args:
        places: of the encoder, over all clips.
        cells: of their frames.
        layers: of the encoder.
        width: D.
        passes: through the encoder.
        text_width: E, if each place is compared with tokens of texts; else 0.
        cell_numbers: numbers that are held per cell.
    """
    body = (passes * LAYER_NUMBERS * layers + PASSING_NUMBERS) * places * width
    aligned = ALIGNED_NUMBERS * places * text_width
    return FLOAT_BYTES * (body + aligned + cell_numbers * cells)
