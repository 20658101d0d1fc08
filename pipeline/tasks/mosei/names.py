"""Names of CMU-MOSEI's tasks, light enough for a command line to import."""

import math
from typing import Literal, TypeAlias, get_args

from pipeline.foundation.errors import SpeechkdError

TaskName: TypeAlias = Literal[
    "sentiment7",
    "sentiment5",
    "sentiment3",
    "sentiment2",
    "sentiment2-with-neutral",
    "sentiment",
    "happiness",
    "sadness",
    "anger",
    "surprise",
    "disgust",
    "fear",
    "emotions",
]

TASK_NAMES: tuple[str, ...] = get_args(TaskName)

SENTIMENT_CLASSES = (
    "sentiment7",
    "sentiment5",
    "sentiment3",
    "sentiment2",
    "sentiment2-with-neutral",
)
"""The columns of the paper's Table 1, in its order."""

SCALE_HELP = (
    "LOW..HIGH: the scale of the sentiment labels, which is mapped onto CMU-MOSEI's -3..3 in a "
    "straight line, such as -1..1 (CH-SIMS) or 0..6. Without it labels that are plainly of "
    "another scale are refused; -3..3 takes them as they are."
)


def parse_scale(text: str) -> tuple[float, float] | None:
    """Both ends of a scale from `LOW..HIGH`; None from an empty text.

    Raises:
        SpeechkdError: it is no scale.
    """
    if not text:
        return None
    low, dots, high = text.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = math.nan, math.nan
    if not (dots and all(map(math.isfinite, ends)) and ends[0] < ends[1]):
        raise SpeechkdError(f"--label-scale is {text!r}; write LOW..HIGH, such as -1..1.")
    return ends
