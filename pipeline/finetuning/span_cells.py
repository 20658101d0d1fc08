"""The cells of time in which an answer can begin and end, and the answer that scores most.

Shapes: C cells of a passage, K cells of the longest answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.foundation.arrays import Array
from pipeline.foundation.units import Seconds
from pipeline.tasks.spans.overlap import overlap_scores


@dataclass(frozen=True)
class Cells:
    """The cells of a passage, clip after clip; no cell has audio of two clips.

    Attributes:
        per_clip: how many cells each clip has.
        starts_C: where each begins in the passage, in seconds, float64.
        ends_C: where it ends.
    """

    per_clip: tuple[int, ...]
    starts_C: Array
    ends_C: Array

    @classmethod
    def of(
        cls,
        starts_s: Sequence[Seconds],
        seconds: Sequence[Seconds],
        positions: Sequence[int],
        pool: int,
        position_seconds: Seconds,
    ) -> "Cells":
        """Cells of `pool` positions each; the last of a clip may have fewer, and ends with it.

        Args:
            starts_s: where each clip begins in its passage.
            seconds: how long it is.
            positions: how many positions an encoder has of it.
            pool: positions that become one cell.
            position_seconds: from one position to the next.
        """
        step = pool * position_seconds
        counts = [-(-count // pool) for count in positions]
        offsets = [np.arange(count) * step for count in counts]
        ends = [
            np.minimum(offset + step, own) for offset, own in zip(offsets, seconds, strict=True)
        ]
        clips = zip(starts_s, offsets, ends, strict=True)
        both = [(start + offset, start + end) for start, offset, end in clips]
        # clips may overlap by a rounding of their times; `nearest` wants both in order
        starts_C, ends_C = (
            np.maximum.accumulate(np.concatenate(side)) for side in zip(*both, strict=True)
        )
        return cls(tuple(counts), starts_C, ends_C)

    @property
    def count(self) -> int:
        """C."""
        return len(self.starts_C)

    @property
    def places(self) -> int:
        """Cells, and a mark between each clip and the next."""
        return self.count + len(self.per_clip) - 1

    @cached_property
    def place_C(self) -> Array:
        """Where each cell stands among cells and marks."""
        return np.arange(self.count) + np.repeat(np.arange(len(self.per_clip)), self.per_clip)

    def nearest(self, answer: tuple[Seconds, Seconds]) -> tuple[int, int, float]:
        """The first and the last cell of what comes nearest to an answer, and its AOS.

        With one end fixed, AOS rises towards the true other end and falls behind it. So each end
        lies at a border of a cell next to the true one, or one further where two clips overlap by a
        rounding and the answer lies there.
        """
        first = int(np.searchsorted(self.starts_C, answer[0], side="right")) - 1
        last = int(np.searchsorted(self.ends_C, answer[1], side="left"))
        begins = [a for a in (first, first + 1, first - 1) if 0 <= a < self.count]
        ends = [b for b in (last, last - 1, last + 1) if 0 <= b < self.count]
        spans = [(a, b) for a in begins for b in ends if a <= b]
        times = np.array([(self.starts_C[a], self.ends_C[b]) for a, b in spans])
        aos, _ = overlap_scores(np.tile(np.array(answer), (len(spans), 1, 1)), times)
        best = int(aos.argmax())
        return (*spans[best], float(aos[best]))

    def greatest_aos(self, answer: tuple[Seconds, Seconds], most: int) -> float:
        """The greatest AOS with an answer that at most `most` cells in a row can have.

        `nearest` without a limit. A stretch that is shorter than the answer scores the more, the
        more of it lies inside, so that each first cell asks for as many as there may be.
        """
        first, last, aos = self.nearest(answer)
        if last - first < most:
            return aos
        begins = np.arange(max(0, first - 1), last + 1)
        ends = [
            np.minimum(begins + most - 1, min(end, self.count - 1))
            for end in (last - 1, last, last + 1)  # where the true end lies near a border
        ]
        pairs = np.concatenate([np.stack([begins, end], 1) for end in ends])
        pairs = pairs[pairs[:, 0] <= pairs[:, 1]]
        times = np.stack([self.starts_C[pairs[:, 0]], self.ends_C[pairs[:, 1]]], 1)
        return float(overlap_scores(np.tile(np.array(answer), (len(pairs), 1, 1)), times)[0].max())


def best_answer(start_C: Tensor, end_C: Tensor, most: int) -> tuple[int, int, float]:
    """The cells a ≤ b of at most `most` cells with the greatest `start_C[a] + end_C[b]`, and that.

    Args:
        start_C: a score of each cell as the first of the answer, such as its log-probability.
        end_C: of each as the last.
        most: K, cells of the longest answer.
    """
    width = min(most, len(start_C))
    before_CK = functional.pad(start_C, (width - 1, 0), value=-torch.inf).unfold(0, width, 1)
    best_C, place_C = before_CK.max(1)
    total, last = (best_C + end_C).max(0)
    end = int(last)
    return end - width + 1 + int(place_C[end]), end, float(total)
