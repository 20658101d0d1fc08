"""The scale of sentiment labels: whether it is CMU-MOSEI's, and another one mapped onto it."""

from collections.abc import Sequence

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted

LOW, HIGH = -3.0, 3.0
"""CMU-MOSEI's scale."""

FEWEST, MANY = 20, 200
"""Labels from which their range says something, and from which it says much."""

BEYOND = 0.01
"""Share of labels beyond the ends of a scale that is explained by slips; MOSEI's own files have
fewer."""


def check_scale(values: Sequence[float], scale: tuple[float, float] | None, source: str) -> None:
    """Refuse labels that are plainly of another scale than they are taken for.

    Args:
        values: the labels that are known.
        scale: the scale that the user names; None if it is to be CMU-MOSEI's own.
        source: where they come from, for the message.

    Raises:
        SpeechkdError: more than `BEYOND` of them lie beyond it; or, of a scale that the user did
            not name, none comes near one of its ends.
    """
    if len(values) < FEWEST:
        return
    low, high = scale or (LOW, HIGH)
    least, most = min(values), max(values)
    beyond = sum(not low <= value <= high for value in values)
    if beyond <= BEYOND * len(values) and (scale or not _too_narrow(values)):
        return
    labels = counted(len(values), "label")
    in_short = f"{source}: sentiment ranges from {least:g} to {most:g} ({labels})"
    if scale:
        raise SpeechkdError(
            f"{in_short}, and {beyond:,} of these lie beyond --label-scale {low:g}..{high:g}; name "
            "the scale that they have."
        )
    raise SpeechkdError(
        f"{in_short}, but CMU-MOSEI's scale is {LOW:g} to {HIGH:g}: classes and errors would be of "
        f"another scale. Add --label-scale {_likely(least, most)} if that is the scale of these "
        "labels, or LOW..HIGH as it is, which is mapped onto -3..3; --label-scale -3..3 takes "
        "them as they are."
    )


def _too_narrow(values: Sequence[float]) -> bool:
    """Whether no label is negative, none positive, or all are near 0."""
    least, most = min(values), max(values)
    largest = max(-least, most)
    return least >= 0 or most <= 0 or largest <= 1 or (len(values) >= MANY and largest <= 2)


def _likely(least: float, most: float) -> str:
    """The usual scale in which a range fits."""
    usual = ((0, 1), (-1, 1), (0, 2), (-2, 2), (1, 5), (0, 4), (0, 6), (1, 7), (1, 9), (0, 10))
    return next(
        (f"{low}..{high}" for low, high in usual if low <= least and most <= high),
        f"{least:g}..{most:g}",
    )


def mapped(value: float, scale: tuple[float, float]) -> float:
    """A label of `scale` on CMU-MOSEI's; NaN stays."""
    low, high = scale
    if scale == (LOW, HIGH):
        return value
    return LOW + (value - low) * (HIGH - LOW) / (high - low)
