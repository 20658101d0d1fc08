"""A shard of vectors is written whole or refused, and vectors are looked up by key."""

import numpy as np
import pytest

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import vectors_by_key, write_vectors
from tests.helpers.caches import (
    identity,
    make_cache,
    manifest,
    samples_of,
    shard_result,
    vectors_of,
)

WIDTH = 8


def test_a_result_must_account_for_every_sample(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([4]), identity(), {})
    result = shard_result(4, WIDTH, 0)
    result.samples.pop()
    with pytest.raises(ValueError, match="3 of 4 samples accounted for"):
        write_vectors(cache, 0, result, {})
    assert cache.unfinished() == [0]


def test_a_vector_that_float16_cannot_hold_is_refused(tmp_path):
    identity16 = identity(dtype="float16")
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([1]), identity16, {})
    result = shard_result(1, WIDTH, 0)
    result.vectors_NE[0, 0] = 1e6
    with pytest.raises(ValueError, match="not finite as float16"):
        write_vectors(cache, 0, result, {})


@pytest.mark.parametrize("moment", ["samples", "receipts"])
def test_two_writers_with_other_last_bits_leave_what_the_last_receipt_says(
    tmp_path, monkeypatch, moment
):
    """Two kinds of hardware at the same shard: one writes all of it in the midst of the other."""
    from pipeline.cache.verification import Damage, verify
    from pipeline.foundation.folder import Folder

    first = TeacherCache.create_or_open(tmp_path / "c", manifest([3]), identity(), {})
    second = TeacherCache.open(tmp_path / "c")
    write, interrupted = Folder.write, []

    def interleaved(folder, name, content):
        if folder is first.folder and name.startswith(moment) and not interrupted:
            interrupted.append(name)
            write_vectors(second, 0, shard_result(3, WIDTH, seed=8), {})
        write(folder, name, content)

    monkeypatch.setattr(Folder, "write", interleaved)
    write_vectors(first, 0, shard_result(3, WIDTH, seed=7), {})
    assert interrupted
    damage = [found for found in verify(first, tars=False) if isinstance(found, Damage)]
    assert all("another tar" in found.what for found in damage)  # made-up tars have no digest
    alone = make_cache(tmp_path / "alone", [3], WIDTH)
    write_vectors(alone, 0, shard_result(3, WIDTH, seed=7), {})
    assert first.digest() == alone.digest()


@pytest.fixture
def three_shards(tmp_path):
    return make_cache(tmp_path / "cache", [3, 4, 2])


def test_each_clip_gets_its_own_vector_in_the_order_asked_for(three_shards):
    place = {key: row for row, key in enumerate(samples_of(three_shards).keys)}
    names = ["clip-2-1", "unknown", "clip-0-0", "clip-2-0", "", "clip-1-3"]
    places, vectors_nE = vectors_by_key(three_shards, names)
    assert places == [0, 2, 3, 5]
    wanted = vectors_of(three_shards)[[place[names[i]] for i in places]]
    assert vectors_nE.dtype == np.float32
    np.testing.assert_array_equal(vectors_nE, wanted)


def test_shards_without_a_wanted_clip_are_not_read(three_shards, monkeypatch):
    read = []
    block = type(three_shards).block
    monkeypatch.setattr(
        type(three_shards), "block", lambda self, shard: read.append(shard) or block(self, shard)
    )
    vectors_by_key(three_shards, ["clip-1-0"])
    assert read == [1]


def test_no_clip_found_and_refused_clips(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "cache", manifest([4]), identity(), {})
    write_vectors(cache, 0, shard_result(4, 8, 0, refused=(1,)), {})
    places, vectors_nE = vectors_by_key(cache, ["clip-0-1", "x"])
    assert places == []
    assert vectors_nE.shape == (0, 8)
    places, vectors_nE = vectors_by_key(cache, ["clip-0-1", "clip-0-2"])
    assert places == [1]
    np.testing.assert_array_equal(vectors_nE[0], vectors_of(cache)[1])
