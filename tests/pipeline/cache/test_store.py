"""A cache gives back what was written, in manifest order, or refuses what it cannot account for."""

import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cache import layout
from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import write_vectors
from pipeline.foundation.errors import SpeechkdError
from tests.helpers.caches import (
    identity,
    make_cache,
    manifest,
    samples_of,
    shard_result,
    vectors_of,
)

WIDTH = 8


def test_what_goes_in_comes_out_in_manifest_order(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([5, 300]), identity(), {})
    results = [shard_result(5, WIDTH, 0, refused=(1, 4)), shard_result(300, WIDTH, 1)]
    for shard in (1, 0):  # the order of writing must not matter
        write_vectors(cache, shard, results[shard], {})

    opened = TeacherCache.open(tmp_path / "c")
    samples = samples_of(opened)
    assert samples.keys == [s["key"] for r in results for s in r.samples]
    assert samples.texts == [s["text"] for r in results for s in r.samples]
    expected = np.concatenate([results[0].vectors_NE[[0, 2, 3]], results[1].vectors_NE])
    np.testing.assert_array_equal(vectors_of(opened), expected)
    assert opened.unfinished() == []


def test_plain_zarr_reads_it_and_unwritten_rows_are_nan(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([3, 4]), identity(), {})
    result = shard_result(3, WIDTH, 0, refused=(2,))
    write_vectors(cache, 0, result, {})
    embedding = zarr.open_group(tmp_path / "c", mode="r")["embedding"]
    assert embedding.shape == (512, WIDTH)
    np.testing.assert_array_equal(embedding[:2], result.vectors_NE[:2])
    assert np.isnan(embedding[2:]).all()


def test_shards_share_no_storage_object(tmp_path):
    cache = make_cache(tmp_path / "c", [1, 257, 256], WIDTH)
    before = {p: p.read_bytes() for p in (tmp_path / "c").rglob("c/*/*")}
    write_vectors(cache, 1, shard_result(257, WIDTH, seed=9), {})
    changed = {p for p, content in before.items() if p.read_bytes() != content}
    inside = {p.relative_to(tmp_path / "c").as_posix() for p in changed}
    assert inside == {"embedding/c/1/0", "embedding/c/2/0"}


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    dtype=st.sampled_from(["float16", "float32"]),
)
def test_statistics_equal_numpys_over_all_vectors(tmp_path_factory, sizes, dtype):
    cache = make_cache(tmp_path_factory.mktemp("c") / "c", sizes, WIDTH, dtype=dtype)
    statistics, vectors = cache.statistics(), vectors_of(cache).astype(np.float64)
    assert statistics.count == len(vectors) == sum(sizes)
    np.testing.assert_allclose(statistics.mean_E, vectors.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(statistics.std_E, vectors.std(axis=0), atol=1e-12)


def test_a_shard_of_refusals_only_counts_for_nothing(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([2, 3]), identity(), {})
    write_vectors(cache, 0, shard_result(2, WIDTH, 0, refused=(0, 1)), {})
    write_vectors(cache, 1, shard_result(3, WIDTH, 1), {})
    assert cache.statistics().count == len(samples_of(cache)) == len(vectors_of(cache)) == 3
    np.testing.assert_allclose(cache.statistics().mean_E, vectors_of(cache).mean(axis=0), atol=1e-6)


def test_a_shard_is_done_only_by_a_whole_receipt_of_the_same_settings(tmp_path):
    cache = make_cache(tmp_path / "c", [2, 2, 2, 2], WIDTH)
    receipts = tmp_path / "c" / "receipts"
    whole = (receipts / "000000.json").read_text()
    (receipts / "000000.json").write_text(whole[: len(whole) // 2])
    other = json.loads((receipts / "000001.json").read_text())
    (receipts / "000001.json").write_text(json.dumps({**other, "settings_sha256": "f" * 64}))
    (receipts / "000002.json").unlink()
    assert cache.unfinished() == [0, 1, 2]
    assert len(samples_of(cache)) == 2


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"pooling": "length"}, "pooling: cache 'fixed750', now 'length'"),
        ({"dtype": "float16"}, "dtype: cache 'float32', now 'float16'"),
        ({"teacher": "other", "teacher_sha256": "1" * 64}, "teacher: cache 'made-up', now 'other'"),
    ],
)
def test_other_settings_are_refused_with_both_values(tmp_path, changes, shown):
    make_cache(tmp_path / "c", [2], WIDTH)
    with pytest.raises(SpeechkdError, match=shown):
        TeacherCache.create_or_open(tmp_path / "c", manifest([2]), identity(**changes), {})


def test_another_manifest_is_refused(tmp_path):
    make_cache(tmp_path / "c", [2], WIDTH)
    with pytest.raises(SpeechkdError, match=r"made from another list of tars: s-000000\.tar"):
        TeacherCache.create_or_open(tmp_path / "c", manifest([3]), identity(), {})


@pytest.mark.parametrize("content", [None, "{}", "not json", '{"zarr_format": 3}'])
def test_what_is_not_a_cache_is_said_to_be_none(tmp_path, content):
    if content is not None:
        (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(SpeechkdError, match="there is no cache here"):
        TeacherCache.open(tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(SpeechkdError, match="not a teacher cache"):
        TeacherCache.create_or_open(tmp_path, manifest([2]), identity(), {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_digest_tells_contents_apart_but_not_places(tmp_path):
    first, second = (make_cache(tmp_path / name, [3], WIDTH) for name in "ab")
    assert first.digest() == second.digest()
    write_vectors(second, 0, shard_result(3, WIDTH, seed=7), {})
    assert first.digest() != second.digest()


def test_texts_with_unusual_line_breaks_come_back(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([2]), identity(), {})
    result = shard_result(2, WIDTH, 0)
    for sample, text in zip(result.samples, ["a\u2028b\x85c", "d\r\ne\x0bf"], strict=True):
        sample["text"] = text
    write_vectors(cache, 0, result, {})
    assert samples_of(cache).texts == ["a\u2028b\x85c", "d\r\ne\x0bf"]


@pytest.mark.parametrize("version", [1, 4])
def test_a_cache_of_another_format_is_refused(tmp_path, version):
    cache = make_cache(tmp_path / "c", [3], WIDTH)
    group = zarr.open_group(cache.location, mode="r+")
    record = {**cache.identity.record(), "format_version": version}
    group.attrs["speechkd"] = {**dict(group.attrs)["speechkd"], "identity": record}
    refusal = (
        rf"format {version}; this version of speechkd reads formats 2 and 3\..* extract-teacher"
    )
    with pytest.raises(SpeechkdError, match=refusal):
        TeacherCache.open(cache.location)
    with pytest.raises(SpeechkdError, match=refusal):
        TeacherCache.create_or_open(cache.location, cache.manifest, cache.identity, {})


def test_who_comes_second_takes_the_cache_of_who_was_first(tmp_path, monkeypatch):
    """A task sees no cache yet, and another one has made it when the first wants to."""
    listed = manifest([3])
    first = TeacherCache.create_or_open(tmp_path / "c", listed, identity(), {})
    answers, is_cache = iter([False]), layout.is_cache
    monkeypatch.setattr(layout, "is_cache", lambda folder: next(answers, is_cache(folder)))
    second = TeacherCache.create_or_open(tmp_path / "c", listed, identity(), {})
    assert second.settings_sha256 == first.settings_sha256
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_folder_of_something_else_does_not_become_a_cache(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "notes.txt").write_text("mine")
    with pytest.raises(SpeechkdError, match="holds files but is not a teacher cache"):
        TeacherCache.create_or_open(tmp_path / "c", manifest([3]), identity(), {})
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["notes.txt"]
