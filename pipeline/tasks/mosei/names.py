"""Names of CMU-MOSEI's tasks, light enough for a command line to import."""

from typing import Literal, TypeAlias, get_args

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
