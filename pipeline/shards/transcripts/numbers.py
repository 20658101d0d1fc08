"""Times as people write them."""

import math
import re
from typing import Any

from pipeline.foundation.units import Seconds

_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,:](\d{1,6}))?")


def seconds(value: Any, what: str) -> Seconds:
    """A number of seconds from JSON or a text; a decimal comma counts as a point.

    Raises:
        ValueError: it is no finite number.
    """
    if isinstance(value, str):
        value = value.strip().replace(",", ".")
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what} is {value!r:.40}, not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{what} is {value!r:.40}, which is not finite")
    return number


def clock(text: str) -> Seconds:
    """Seconds of `hours:minutes:seconds,thousandths`; hours and thousandths may be absent.

    Raises:
        ValueError: it has another form.
    """
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r:.40} is no time of the form 00:00:00,000")
    hours, minutes, whole, part = match.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(f"{whole}.{part or 0}")
