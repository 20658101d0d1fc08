"""Holm's correction for several comparisons."""

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float], family: int) -> list[float]:
    """Holm's adjusted p: the least level at which each would be rejected (Holm 1979).

    Args:
        p: of the comparisons that are there.
        family: how many there are to be; those that are not there count as never rejected.
    """
    order = np.argsort(p, kind="stable")
    adjusted, highest = [1.0] * len(p), 0.0
    for rank, place in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (family - rank) * p[place]))
        adjusted[place] = highest
    return adjusted
