"""A clip's rows as bytes: value = low + step · q, with one `low` and one `step` per clip.

The error of a value is at most half a step, which is 1/510 of the clip's range.

Shapes: N rows of a clip, E width.
"""

import numpy as np
from numpy.typing import NDArray

LEVELS = 255


def quantised(rows_NE: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, float]:
    """Bytes of one clip's rows, and the clip's `low` and `step`, which float32 holds exactly.

    Args:
        rows_NE: finite values, at least one row.
    """
    low = rows_NE.min()
    step = np.float32((np.float64(rows_NE.max()) - np.float64(low)) / LEVELS)
    if step == 0:
        return np.zeros(rows_NE.shape, np.uint8), float(low), 0.0
    levels_NE = np.rint((rows_NE.astype(np.float64) - low) / np.float64(step))
    return levels_NE.clip(0, LEVELS).astype(np.uint8), float(low), float(step)


def values_of(
    bytes_NE: NDArray[np.uint8], low: float | NDArray[np.float32], step: float | NDArray[np.float32]
) -> NDArray[np.float32]:
    """The values that bytes stand for, float32.

    Args:
        bytes_NE: as stored.
        low: of the clip, or `[N, 1]` of the clip of each row.
        step: as `low`.
    """
    scaled_NE = bytes_NE.astype(np.float32)
    scaled_NE *= np.asarray(step, np.float32)
    scaled_NE += np.asarray(low, np.float32)
    return scaled_NE
