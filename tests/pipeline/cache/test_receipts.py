"""Receipts: what counts as one, and how little is read of the storage to know."""

import json
import os

import numpy as np
import pytest

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import write_vectors
from pipeline.foundation.folder import Folder
from tests.helpers.caches import make_cache, shard_result

WIDTH = 8


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are read, in order."""
    names, read_many = [], Folder.read_many

    def told(folder, wanted):
        names.extend(wanted)
        return read_many(folder, wanted)

    monkeypatch.setattr(Folder, "read_many", told)
    return names


def test_a_receipt_is_read_once_until_it_changes(tmp_path, read):
    cache = make_cache(tmp_path / "c", [2, 3, 4], WIDTH)
    first = cache.receipts()
    assert len(read) == 3
    assert (cache.receipts(), cache.unfinished(), cache.written) == (first, [], 9)
    assert len(read) == 3
    write_vectors(TeacherCache.open(tmp_path / "c"), 1, shard_result(3, WIDTH, seed=9), {})
    (tmp_path / "c" / "receipts" / "000002.json").unlink()
    second = cache.receipts()
    assert read[3:] == ["receipts/000001.json"]
    assert list(second) == [0, 1]
    assert second[1]["vectors_sha256"] != first[1]["vectors_sha256"]


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path):
    cache = make_cache(tmp_path / "c", [2, 3], WIDTH)
    path = tmp_path / "c" / "receipts" / "000001.json"
    before, stat = cache.receipts(), path.stat()
    text = path.read_text().replace(before[1]["input_sha256"], "f" * 64)
    cache.folder.write("receipts/000001.json", text.encode())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert cache.receipts()[1]["input_sha256"] == "f" * 64


def test_only_the_receipts_asked_for_are_read(tmp_path, read):
    cache = make_cache(tmp_path / "c", [2, 3, 4], WIDTH)
    (tmp_path / "c" / "receipts" / "000000.json").unlink()
    assert list(cache.receipts([2, 0])) == [2]
    assert sorted(read) == ["receipts/000000.json", "receipts/000002.json"]


def test_finished_shards_are_known_from_the_listing_alone(tmp_path, read):
    cache = make_cache(tmp_path / "c", [2, 3, 4], WIDTH)
    receipts = tmp_path / "c" / "receipts"
    os.utime(receipts / "000001.json", (7, 7))
    for stray in ("000009.json", "notes.txt", ".000000.json.x.partial"):
        (receipts / stray).write_text("{}")
    found = cache.finished()
    assert list(found) == [0, 1, 2]
    assert found[1] == 7
    assert read == []


def test_statistics_are_exact_and_stay_out_of_what_is_kept(tmp_path):
    cache = make_cache(tmp_path / "c", [5, 6], WIDTH, dtype="float16")
    vectors = cache.block(1)[:6].astype(np.float64)
    stored = cache.shard_statistics(1)
    np.testing.assert_array_equal(stored.mean_E, vectors.mean(axis=0))
    np.testing.assert_array_equal(stored.m2_E, ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=0))
    assert all("statistics" not in receipt for receipt in cache.receipts().values())


def test_a_receipt_without_statistics_is_none(tmp_path):
    cache = make_cache(tmp_path / "c", [2, 3], WIDTH)
    path = tmp_path / "c" / "receipts" / "000001.json"
    receipt = json.loads(path.read_text())
    del receipt["statistics"]
    path.write_text(json.dumps(receipt))
    assert cache.unfinished() == [1]
