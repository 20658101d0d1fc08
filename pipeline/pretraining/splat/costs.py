"""Arithmetic and memory that a speech module takes, for utilisation and warnings."""

import math
from typing import Any

from pipeline.models.speech_front import SpeechFront
from pipeline.pretraining.method import Parts
from pipeline.pretraining.sizes import (
    FLOAT_BYTES,
    encoder_bytes,
    encoder_flops,
    mean_places,
    most_places,
    own_clips,
)
from pipeline.pretraining.splat.reading import FRAMES

CELL_NUMBERS = 12
"""Numbers per cell of the frames: raw, normalised, shown, predicted, errors, and straight lines."""


def positions(frames: float, stack: int) -> float:
    """Positions of so many frames of a clip."""
    return math.ceil(frames / stack)


def flops_per_frame(parts: Parts, config: Any, front: SpeechFront, passes: float = 1) -> float:
    """Operations per frame, forward and backward (twice the forward pass).

    `3 layers · (n (8 D² + 4 D · 4 D) + 4 n² D) + 2 n (K D + D² + D K)` per clip of n positions.

    Args:
        parts: of the run.
        config: of the encoder.
        front: of the module.
        passes: through the encoder per batch.
    """
    frames = mean_places(parts.data.corpus, FRAMES)
    places, width = positions(frames, front.stack), int(config.hidden_size)
    inner, stacked = int(config.intermediate_size), front.channels * front.stack
    body = encoder_flops(places, int(config.num_hidden_layers), width, inner)
    ends = 2 * places * (2 * stacked * width + width**2)
    return 3 * passes * (body + ends) / frames


def step_bytes(parts: Parts, config: Any, front: SpeechFront, passes: int = 1) -> int:
    """Upper bound in bytes of what a step holds beside weights, gradients and moments.

    Args:
        parts: of the run.
        config: of the encoder.
        front: of the module.
        passes: through the encoder per batch.
    """
    clips = own_clips(parts.batches.clips_per_batch, parts.batches.processes)
    frames = most_places(parts.data.corpus, FRAMES, clips)
    places = -(-frames // front.stack) + 2 * clips
    body = encoder_bytes(places, int(config.num_hidden_layers), int(config.hidden_size))
    cells = FLOAT_BYTES * CELL_NUMBERS * frames * front.channels
    return passes * body + cells
