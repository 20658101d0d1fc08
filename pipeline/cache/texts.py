"""What caches of the same clips have in common: keys and texts, and a digest of both."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.cache.store import TeacherCache


def texts_sha256(cache: TeacherCache) -> str:
    """Digest of the keys and texts of all clips that a cache has, in the manifest's order.

    It does not depend on the kind of the cache. Two caches with the same digest have the same
    clips with the same texts, so that a cache of text states fits a cache of frames clip by clip.

    Raises:
        SpeechkdError: the samples of a shard are damaged.
    """
    return samples_texts_sha256(
        sample for shard in cache.receipts() for sample in cache.shard_samples(shard)
    )


def samples_texts_sha256(samples: Iterable[Mapping[str, Any]]) -> str:
    """The same digest, of samples with `key` and `text`, in their order."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps([sample["key"], sample["text"]]).encode() + b"\n")
    return digest.hexdigest()
