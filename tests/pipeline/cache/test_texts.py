"""The digest of keys and texts is the same for caches of every kind of the same clips."""

import hashlib
import json

from pipeline.cache.texts import texts_sha256
from tests.helpers.caches import make_cache, make_sequence_cache, samples_of


def test_the_digest_is_over_keys_and_texts_in_order(tmp_path):
    cache = make_cache(tmp_path / "a", [3, 2])
    samples = samples_of(cache)
    lines = [json.dumps([k, t]) + "\n" for k, t in zip(samples.keys, samples.texts, strict=True)]
    assert texts_sha256(cache) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_kind_of_the_cache_does_not_matter_but_every_text_does(tmp_path):
    vectors = make_cache(tmp_path / "a", [3, 2])
    same = make_cache(tmp_path / "b", [3, 2], dtype="float16")
    other = make_cache(tmp_path / "c", [3, 2], words=5)
    fewer = make_cache(tmp_path / "d", [3])
    frames = make_sequence_cache(tmp_path / "e", [3, 2])
    assert texts_sha256(vectors) == texts_sha256(same)
    assert len({texts_sha256(c) for c in (vectors, other, fewer)}) == 3
    expected = [s for shard in frames.receipts() for s in frames.shard_samples(shard)]
    lines = "".join(json.dumps([s["key"], s["text"]]) + "\n" for s in expected)
    assert texts_sha256(frames) == hashlib.sha256(lines.encode()).hexdigest()
