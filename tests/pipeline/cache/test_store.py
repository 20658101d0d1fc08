import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cache.store import TeacherCache
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import digest
from stages.cache import MergeSettings, merge
from tests.helpers.caches import identity, make_cache, manifest, shard_result

WIDTH = 8


def test_what_goes_in_comes_out_in_manifest_order(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([5, 300]), identity(), {})
    results = [shard_result(5, WIDTH, 0, refused=(1, 4)), shard_result(300, WIDTH, 1)]
    for shard in (1, 0):  # the order of writing must not matter
        cache.write_shard(shard, results[shard], {})

    opened = TeacherCache.open(tmp_path / "c")
    samples = opened.samples()
    assert samples.keys == [s["key"] for r in results for s in r.samples]
    assert samples.texts == [s["text"] for r in results for s in r.samples]
    expected = np.concatenate([results[0].vectors_NE[[0, 2, 3]], results[1].vectors_NE])
    np.testing.assert_array_equal(opened.vectors(), expected)
    assert opened.unfinished() == []


def test_plain_zarr_reads_it_and_unwritten_rows_are_nan(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([3, 4]), identity(), {})
    result = shard_result(3, WIDTH, 0, refused=(2,))
    cache.write_shard(0, result, {})
    embedding = zarr.open_group(tmp_path / "c", mode="r")["embedding"]
    assert embedding.shape == (512, WIDTH)
    np.testing.assert_array_equal(embedding[:2], result.vectors_NE[:2])
    assert np.isnan(embedding[2:]).all()


def test_shards_share_no_storage_object(tmp_path):
    cache = make_cache(tmp_path / "c", [1, 257, 256], WIDTH)
    before = {p: p.read_bytes() for p in (tmp_path / "c").rglob("c/*/*")}
    cache.write_shard(1, shard_result(257, WIDTH, seed=9), {})
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
    statistics, vectors = cache.statistics(), cache.vectors().astype(np.float64)
    assert statistics.count == len(vectors) == sum(sizes)
    np.testing.assert_allclose(statistics.mean_E, vectors.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(statistics.std_E, vectors.std(axis=0), atol=1e-12)


def test_a_shard_of_refusals_only_counts_for_nothing(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([2, 3]), identity(), {})
    cache.write_shard(0, shard_result(2, WIDTH, 0, refused=(0, 1)), {})
    cache.write_shard(1, shard_result(3, WIDTH, 1), {})
    assert cache.statistics().count == len(cache.samples()) == len(cache.vectors()) == 3
    np.testing.assert_allclose(cache.statistics().mean_E, cache.vectors().mean(axis=0), atol=1e-6)


def test_a_shard_is_done_only_by_a_whole_receipt_of_the_same_settings(tmp_path):
    cache = make_cache(tmp_path / "c", [2, 2, 2, 2], WIDTH)
    receipts = tmp_path / "c" / "receipts"
    whole = (receipts / "000000.json").read_text()
    (receipts / "000000.json").write_text(whole[: len(whole) // 2])
    other = json.loads((receipts / "000001.json").read_text())
    (receipts / "000001.json").write_text(json.dumps({**other, "settings_sha256": "f" * 64}))
    (receipts / "000002.json").unlink()
    assert cache.unfinished() == [0, 1, 2]
    assert len(cache.samples()) == 2


def test_a_result_must_account_for_every_sample(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([4]), identity(), {})
    result = shard_result(4, WIDTH, 0)
    result.samples.pop()
    with pytest.raises(ValueError, match="3 of 4 samples accounted for"):
        cache.write_shard(0, result, {})
    assert cache.unfinished() == [0]


def test_a_vector_that_float16_cannot_hold_is_refused(tmp_path):
    identity16 = identity(dtype="float16")
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([1]), identity16, {})
    result = shard_result(1, WIDTH, 0)
    result.vectors_NE[0, 0] = 1e6
    with pytest.raises(ValueError, match="not finite as float16"):
        cache.write_shard(0, result, {})


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"pooling": "length"}, "pooling: cache 'fixed750', now 'length'"),
        ({"dtype": "float16"}, "dtype: cache 'float32', now 'float16'"),
        ({"teacher": "other"}, "teacher: cache 'made-up', now 'other'"),
    ],
)
def test_other_settings_are_refused_with_both_values(tmp_path, changes, shown):
    make_cache(tmp_path / "c", [2], WIDTH)
    with pytest.raises(SpeechkdError, match=shown):
        TeacherCache.create_or_open(tmp_path / "c", manifest([2]), identity(**changes), {})


def test_another_manifest_is_refused(tmp_path):
    make_cache(tmp_path / "c", [2], WIDTH)
    with pytest.raises(SpeechkdError, match="manifest_sha256"):
        TeacherCache.create_or_open(tmp_path / "c", manifest([3]), identity(), {})


@pytest.mark.parametrize("content", [None, "{}", "not json", '{"zarr_format": 3}'])
def test_what_is_not_a_cache_is_said_to_be_none(tmp_path, content):
    if content is not None:
        (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(SpeechkdError, match="teacher cache"):
        TeacherCache.open(tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(SpeechkdError, match="not a teacher cache"):
        TeacherCache.create_or_open(tmp_path, manifest([2]), identity(), {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_digest_tells_contents_apart_but_not_places(tmp_path):
    first, second = (make_cache(tmp_path / name, [3], WIDTH) for name in "ab")
    assert first.digest() == second.digest()
    second.write_shard(0, shard_result(3, WIDTH, seed=7), {})
    assert first.digest() != second.digest()


def test_texts_with_unusual_line_breaks_come_back(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([2]), identity(), {})
    result = shard_result(2, WIDTH, 0)
    for sample, text in zip(result.samples, ["a\u2028b\x85c", "d\r\ne\x0bf"], strict=True):
        sample["text"] = text
    cache.write_shard(0, result, {})
    assert cache.samples().texts == ["a\u2028b\x85c", "d\r\ne\x0bf"]


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
            second.write_shard(0, shard_result(3, WIDTH, seed=8), {})
        write(folder, name, content)

    monkeypatch.setattr(Folder, "write", interleaved)
    first.write_shard(0, shard_result(3, WIDTH, seed=7), {})
    assert interrupted
    damage = [found for found in verify(first, tars=False) if isinstance(found, Damage)]
    assert all("another tar" in found.what for found in damage)  # made-up tars have no digest
    alone = make_cache(tmp_path / "alone", [3], WIDTH)
    alone.write_shard(0, shard_result(3, WIDTH, seed=7), {})
    assert first.digest() == alone.digest()


# --- caches of format 1 -----------------------------------------------------------------------


def as_format_1(cache: TeacherCache) -> TeacherCache:
    """The cache as the first format had it: statistics in arrays, none in receipts."""
    group, folder = zarr.open_group(cache.location, mode="r+"), cache.folder
    statistics = [cache.shard_statistics(shard) for shard in range(len(cache.manifest))]
    for name, values in (
        ("statistics_mean", [s.mean_E for s in statistics]),
        ("statistics_m2", [s.m2_E for s in statistics]),
    ):
        shape = (len(values), cache.identity.d_model)
        array = group.create_array(
            name, shape=shape, chunks=(1, shape[1]), dtype="float64", compressors=None
        )
        array[:] = np.stack(values)
    first = replace(cache.identity, format_version=1)
    group.attrs["speechkd"] = {**dict(group.attrs)["speechkd"], "identity": asdict(first)}
    for name in folder.files("receipts"):
        receipt = json.loads(folder.read(f"receipts/{name}"))
        del receipt["statistics"]
        receipt["settings_sha256"] = digest(asdict(first))
        folder.write(f"receipts/{name}", json.dumps(receipt).encode())
    return TeacherCache.open(cache.location)


def test_a_cache_of_format_1_is_read_as_it_was(tmp_path):
    second = make_cache(tmp_path / "c", [3, 5], WIDTH)
    vectors, statistics = second.vectors(), second.statistics()
    first = as_format_1(second)
    np.testing.assert_array_equal(first.vectors(), vectors)
    np.testing.assert_array_equal(first.statistics().mean_E, statistics.mean_E)
    np.testing.assert_array_equal(first.statistics().std_E, statistics.std_E)
    assert first.unfinished() == []
    assert "statistics_m2/c/1/0" in set(first.object_names(1))


def test_a_cache_of_format_1_is_not_added_to_but_merged_into_a_new_one(tmp_path):
    second = make_cache(tmp_path / "c", [3, 5], WIDTH)
    before = second.digest()
    as_format_1(second)
    with pytest.raises(SpeechkdError, match=r"cache merge .*c --out NEW"):
        TeacherCache.create_or_open(tmp_path / "c", second.manifest, second.identity, {})
    merge(MergeSettings(caches=[str(tmp_path / "c")], out=str(tmp_path / "new")))
    assert TeacherCache.open(tmp_path / "new").digest() == before


def test_an_unknown_format_is_refused(tmp_path):
    cache = make_cache(tmp_path / "c", [3], WIDTH)
    group = zarr.open_group(cache.location, mode="r+")
    record = {**asdict(cache.identity), "format_version": 3}
    group.attrs["speechkd"] = {**dict(group.attrs)["speechkd"], "identity": record}
    with pytest.raises(SpeechkdError, match="format 3; this version of speechkd reads formats 1"):
        TeacherCache.open(cache.location)
