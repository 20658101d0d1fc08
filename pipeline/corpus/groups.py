"""The speaker or recording of each clip of a cache, as a number."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.store import TeacherCache
from pipeline.corpus.within import UNKNOWN
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.workers import ahead

READ_AHEAD = 4


def speakers(cache: TeacherCache) -> tuple[NDArray[np.int64], int]:
    """The speaker of each clip `[P]`, or its recording where no speaker is known.

    Args:
        cache: any; its clips are taken in the order of their rows.

    Returns:
        Numbers from 0, `UNKNOWN` where neither is known, and how many there are.

    Raises:
        SpeechkdError: neither is known of any clip.
    """
    number_of: dict[tuple[str, str], int] = {}

    def number(sample: Mapping[str, Any]) -> int:
        for what in ("speaker", "recording"):
            if sample[what] is not None:
                return number_of.setdefault((what, sample[what]), len(number_of))
        return UNKNOWN

    number_P = np.array(
        [
            number(sample)
            for samples in ahead(cache.shard_samples, cache.receipts(), READ_AHEAD)
            for sample in sorted(samples, key=lambda sample: sample["row"])
        ],
        np.int64,
    )
    if not number_of:
        raise SpeechkdError(
            f"{cache.location} knows neither a speaker nor a recording of any clip, so "
            "--teacher-side within-speaker has nothing to take away. Name speakers in the table "
            "that `speechkd shard` reads, or use --teacher-side standardize."
        )
    return number_P, len(number_of)
