import numpy as np
import pytest

from pipeline.cache.heard import heard
from pipeline.cache.store import TeacherCache
from tests.helpers.caches import identity, make_cache, manifest, shard_result


@pytest.fixture
def cache(tmp_path):
    return make_cache(tmp_path / "cache", [3, 4, 2])


def test_each_clip_gets_its_own_vector_in_the_order_asked_for(cache):
    place = {key: row for row, key in enumerate(cache.samples().keys)}
    names = ["clip-2-1", "unknown", "clip-0-0", "clip-2-0", "", "clip-1-3"]
    places, vectors_nD = heard(cache, names)
    assert places == [0, 2, 3, 5]
    wanted = cache.vectors()[[place[names[i]] for i in places]]
    assert vectors_nD.dtype == np.float32
    np.testing.assert_array_equal(vectors_nD, wanted)


def test_shards_without_a_wanted_clip_are_not_read(cache, monkeypatch):
    read = []
    block = type(cache).block
    monkeypatch.setattr(
        type(cache), "block", lambda self, shard: read.append(shard) or block(self, shard)
    )
    heard(cache, ["clip-1-0"])
    assert read == [1]


def test_no_clip_found_and_refused_clips(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "cache", manifest([4]), identity(), {})
    cache.write_shard(0, shard_result(4, 8, 0, refused=(1,)), {})
    places, vectors_nD = heard(cache, ["clip-0-1", "x"])
    assert places == []
    assert vectors_nD.shape == (0, 8)
    places, vectors_nD = heard(cache, ["clip-0-1", "clip-0-2"])
    assert places == [1]
    np.testing.assert_array_equal(vectors_nD[0], cache.vectors()[1])
