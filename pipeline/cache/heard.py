"""What the teacher heard in given clips: their vectors, found in a cache by name."""

from collections.abc import Sequence

import numpy as np

from pipeline.cache.store import TeacherCache
from pipeline.tasks.metrics import Array


def heard(cache: TeacherCache, names: Sequence[str]) -> tuple[list[int], Array]:
    """Look up clips whose names are keys of a cache's samples.

    Shards without any of them are not read.

    Returns:
        Places in `names` of the clips that the cache has, in their order, and the teacher's
        vectors `[n, d_model]` (float32) of these.
    """
    place_of = {name: place for place, name in enumerate(names)}
    found: dict[int, Array] = {}
    for shard in cache.receipts():
        here = {
            place_of[record["key"]]: record["row"]
            for record in cache.shard_samples(shard)
            if record["key"] in place_of
        }
        if here:
            rows = np.fromiter(here.values(), np.int64) - cache.rows_of(shard).start
            found |= dict(zip(here, cache.block(shard)[rows].astype(np.float32), strict=True))
    places = sorted(found)
    if not places:
        return [], np.empty((0, cache.identity.d_model), np.float32)
    return places, np.stack([found[place] for place in places])
