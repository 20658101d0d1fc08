"""Caches of the same recordings joined by the keys of their clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted

HARDLY = 0.5
"""Caches of whose smaller one a lesser share of clips is in the other do not belong together."""


@dataclass(frozen=True)
class Listing:
    """The clips of one cache, in its order.

    Attributes:
        location: of the cache.
        keys: of its clips.
        texts: their texts.
    """

    location: str
    keys: Sequence[str]
    texts: Sequence[str]


@dataclass(frozen=True)
class Join:
    """Clips that several caches have.

    Attributes:
        places: per cache, the place in its order of each clip that all caches have, in the order of
            the first cache.
        missing: per cache, how many of its clips another cache lacks.
    """

    places: Mapping[str, NDArray[np.int64]]
    missing: Mapping[str, int]

    def __len__(self) -> int:
        return len(next(iter(self.places.values())))

    def in_words(self) -> str:
        """What the caches do not share, in words; empty if they share all."""
        parts = [f"{count:,} of {name} alone" for name, count in self.missing.items() if count]
        return f"{counted(len(self), 'clip')} in all caches, {', '.join(parts)}" if parts else ""


def join(caches: Mapping[str, Listing]) -> Join:
    """Join caches by the keys of their clips.

    Args:
        caches: by name; the first one decides the order.

    Raises:
        SpeechkdError: a key is in a cache twice, the caches hardly meet, or a clip has other words
            in one than in another.
    """
    names = list(caches)
    place_of = {name: _places(listing) for name, listing in caches.items()}
    common = [
        key for key in caches[names[0]].keys if all(key in place_of[name] for name in names[1:])
    ]
    smallest = min(names, key=lambda name: len(place_of[name]))
    if len(common) <= HARDLY * len(place_of[smallest]):
        raise SpeechkdError(
            f"{' and '.join(caches[name].location for name in names)} hardly meet: "
            f"{len(common):,} of the {len(place_of[smallest]):,} clips of {smallest} have a key "
            "that the others have too. Name caches made from the same recordings."
        )
    places = {name: np.array([place_of[name][key] for key in common], np.int64) for name in names}
    for name in names[1:]:
        _check_texts(caches[names[0]], caches[name], places[names[0]], places[name])
    return Join(places, {name: len(place_of[name]) - len(common) for name in names})


def _places(listing: Listing) -> dict[str, int]:
    place_of = {key: place for place, key in enumerate(listing.keys)}
    if len(place_of) < len(listing.keys):
        twice = next(k for place, k in enumerate(listing.keys) if place_of[k] != place)
        raise SpeechkdError(
            f"{listing.location} has the key {twice!r} twice, so nothing can be joined to it by "
            "key. Make its shards anew with keys that differ."
        )
    return place_of


def _check_texts(
    one: Listing, other: Listing, one_J: NDArray[np.int64], other_J: NDArray[np.int64]
) -> None:
    differing = [
        (i, j)
        for i, j in zip(one_J.tolist(), other_J.tolist(), strict=True)
        if one.texts[i] != other.texts[j]
    ]
    if differing:
        i, j = differing[0]
        raise SpeechkdError(
            f"{len(differing):,} of {len(one_J):,} clips have another text in {other.location} "
            f"than in {one.location}: {one.keys[i]!r} is {other.texts[j][:80]!r} there and "
            f"{one.texts[i][:80]!r} here. Make both from the same shards."
        )
