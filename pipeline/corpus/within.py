"""What all vectors of one speaker, or of one word, have in common, so that it can be taken away.

What is left of a vector without its speaker's mean is how it was said, not who said it. What is
left of a word's vector without the mean of all words that are spelled alike is how it was said, not
which sounds it has.

Shapes: G groups, S vectors, n vectors of a piece, E width.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1


@dataclass
class GroupSums:
    """Sums of vectors by group, in float64; sums over parts of a cache add up to those of it all.

    Vectors are counted from a centre near their mean, so that squares of a large common part do not
    drown what differs.

    Attributes:
        centre_E: what vectors are counted from; the same for all sums that are added up.
        count_G: vectors of each group.
        sum_GE: their sums.
        square_E: sum of squares over all vectors of any group.
    """

    centre_E: NDArray[np.float64]
    count_G: NDArray[np.int64]
    sum_GE: NDArray[np.float64]
    square_E: NDArray[np.float64]

    @classmethod
    def none(cls, groups: int, centre_E: NDArray[np.float64]) -> "GroupSums":
        """The sums of no vectors."""
        width = len(centre_E)
        return cls(centre_E, np.zeros(groups, np.int64), np.zeros((groups, width)), np.zeros(width))

    def add(self, vectors_nE: NDArray[np.floating[Any]], group_n: NDArray[np.int64]) -> None:
        """Count some vectors; those of group `UNKNOWN` are left out."""
        known_n = group_n != UNKNOWN
        away_nE = vectors_nE[known_n].astype(np.float64) - self.centre_E
        groups, place_n = np.unique(group_n[known_n], return_inverse=True)
        order_n = place_n.argsort(kind="stable")
        counts = np.bincount(place_n, minlength=len(groups))
        if len(groups):
            begins = counts.cumsum() - counts
            self.sum_GE[groups] += np.add.reduceat(away_nE[order_n], begins)
            self.count_G[groups] += counts
            self.square_E += np.einsum("ne,ne->e", away_nE, away_nE)

    def plus(self, other: "GroupSums") -> "GroupSums":
        """The sums of both."""
        return GroupSums(
            self.centre_E,
            self.count_G + other.count_G,
            self.sum_GE + other.sum_GE,
            self.square_E + other.square_E,
        )

    def within(self) -> "Within":
        """What groups have in common, and the spread of what is left without it.

        A group of one vector has nothing in common: its vector would be left as zero. What is taken
        away from it is the mean over all vectors, as from vectors of an unknown group.
        """
        several_G = self.count_G > 1
        mean_GE = np.where(
            several_G[:, None], self.sum_GE / np.maximum(self.count_G, 1)[:, None], 0.0
        )
        # Σ (x − mean)² = Σ x² − Σ n mean², over groups; single vectors keep their whole square
        left_E = self.square_E - np.einsum("g,ge->e", self.count_G * several_G, mean_GE**2)
        std_E = np.sqrt(np.maximum(left_E, 0) / max(int(self.count_G.sum()), 1))
        everything_1E = np.zeros((1, len(self.centre_E)))  # the row that UNKNOWN, −1, refers to
        taken_GE = np.concatenate([mean_GE, everything_1E]) + self.centre_E
        return Within(
            taken_GE.astype(np.float32),
            std_E,
            groups=int((self.count_G > 0).sum()),
            single=int((self.count_G == 1).sum()),
            vectors=int(self.count_G.sum()),
        )


@dataclass(frozen=True)
class Within:
    """What is taken away from the vectors of each group.

    Attributes:
        taken_GE: mean of each group, float32 `[G + 1, E]`; the last row is for `UNKNOWN`.
        std_E: spread of what is left.
        groups: groups with vectors.
        single: groups with one vector.
        vectors: vectors of known groups.
    """

    taken_GE: NDArray[np.float32]
    std_E: NDArray[np.float64]
    groups: int
    single: int
    vectors: int


def within(
    pieces: Iterable[tuple[NDArray[np.floating[Any]], NDArray[np.int64]]],
    groups: int,
    centre_E: NDArray[np.float64],
) -> Within:
    """Read vectors once, piece by piece.

    Args:
        pieces: vectors `[n, E]` and the group `[n]` of each, `UNKNOWN` for none.
        groups: how many groups there are.
        centre_E: mean over all vectors.
    """
    sums = GroupSums.none(groups, centre_E)
    for vectors_nE, group_n in pieces:
        sums.add(vectors_nE, group_n)
    return sums.within()
