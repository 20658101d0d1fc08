"""Looking into, checking, exporting and merging caches: every damage is found and named."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from pipeline.cache.store import TeacherCache
from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.manifest import Manifest, Shard, read_manifest, write_manifest
from stages.cache import (
    ExportSettings,
    InfoSettings,
    MergeSettings,
    VerifySettings,
    export,
    info,
    merge,
    verify,
)
from stages.extract_teacher import ExtractSettings, run
from tests.helpers.caches import samples_of, vectors_of
from tests.helpers.tars import line, sample, tar_bytes, write_corpus

COUNTS = [3, 2, 4]


def extract(manifest, cache, **changes) -> TeacherCache:
    options = {"encoder": "dummy", "workers": 0, "devices": "cpu", **changes}
    run(ExtractSettings(manifest=str(manifest), cache=str(cache), **options))
    return TeacherCache.open(cache)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    manifest = write_corpus(folder / "corpus", COUNTS)
    extract(manifest, folder / "cache")
    return folder


@pytest.fixture
def corpus_and_cache(made, tmp_path):
    """A copy that may be damaged."""
    shutil.copytree(made / "corpus", tmp_path / "corpus")
    extract(tmp_path / "corpus" / "manifest.jsonl", tmp_path / "cache")
    return tmp_path / "corpus", tmp_path / "cache"


def damages(cache, capsys, **options) -> str:
    capsys.readouterr()
    with pytest.raises(SpeechkdError, match=r"\d+ problems?, listed above"):
        verify(VerifySettings(cache=str(cache), **options))
    return capsys.readouterr().out


def test_a_sound_cache_is_said_to_be_sound(corpus_and_cache, capsys):
    verify(VerifySettings(cache=str(corpus_and_cache[1])))
    assert "sound; 9 rows, 3 of 3 tars checked too" in capsys.readouterr().out


def test_a_flipped_byte_anywhere_in_the_vectors_is_found(corpus_and_cache, capsys):
    _, cache = corpus_and_cache
    stored = cache / "embedding" / "c" / "1" / "0"
    for place in (0, 777, stored.stat().st_size - 1):
        content = bytearray(stored.read_bytes())
        content[place] ^= 1
        stored.write_bytes(content)
        assert "shard 1 (1.tar): the vectors are not those of the receipt" in damages(cache, capsys)
        content[place] ^= 1
        stored.write_bytes(content)
    verify(VerifySettings(cache=str(cache)))


@pytest.mark.parametrize("name", ["embedding/c/2/0", "samples/000002.jsonl"])
def test_a_missing_object_is_found(corpus_and_cache, capsys, name):
    _, cache = corpus_and_cache
    (cache / name).unlink()
    found = damages(cache, capsys)
    assert "shard 2 (2.tar)" in found
    assert name in found


def test_a_swapped_pair_of_rows_is_found(corpus_and_cache, capsys):
    _, cache = corpus_and_cache
    array = zarr.open_group(cache, mode="r+")["embedding"]
    array[0:2] = array[0:2][::-1]
    assert "rows swapped" in damages(cache, capsys)


def test_a_swapped_pair_of_keys_is_found(corpus_and_cache, capsys):
    _, cache = corpus_and_cache
    path = cache / "samples" / "000000.jsonl"
    text = path.read_text().replace("clip-0-0", "X").replace("clip-0-1", "clip-0-0")
    path.write_text(text.replace("X", "clip-0-1"))
    assert "the keys are not those of the receipt" in damages(cache, capsys)


def test_a_changed_text_is_found(corpus_and_cache, capsys):
    _, cache = corpus_and_cache
    path = cache / "samples" / "000000.jsonl"
    path.write_text(path.read_text().replace("this is", "this was"))
    assert "not the one the receipt vouches for" in damages(cache, capsys)


def test_a_receipt_of_another_run_is_found(corpus_and_cache, capsys, tmp_path):
    corpus, cache = corpus_and_cache
    extract(corpus / "manifest.jsonl", tmp_path / "other", dtype="float32")
    shutil.copy(tmp_path / "other" / "receipts" / "000001.json", cache / "receipts")
    assert "shard 1 (1.tar): its receipt is torn or of another run" in damages(cache, capsys)


def test_a_receipt_of_another_shard_is_found(corpus_and_cache, capsys):
    _, cache = corpus_and_cache
    shutil.copy(cache / "receipts" / "000000.json", cache / "receipts" / "000001.json")
    assert "shard 1 (1.tar): its receipt is torn or of another run" in damages(cache, capsys)


def test_a_changed_tar_is_found(corpus_and_cache, capsys):
    corpus, cache = corpus_and_cache
    content = bytearray((corpus / "1.tar").read_bytes())
    content[600] ^= 1
    (corpus / "1.tar").write_bytes(content)
    assert "changed tar" in damages(cache, capsys)
    verify(VerifySettings(cache=str(cache), tars=False))


def test_tars_that_are_gone_are_told_but_no_damage(corpus_and_cache, capsys):
    corpus, cache = corpus_and_cache
    shutil.rmtree(corpus)
    verify(VerifySettings(cache=str(cache)))
    told = capsys.readouterr()
    assert "3 tars were not checked" in told.err
    assert "0 of 3 tars" in told.out


def test_nan_rows_are_found_even_where_the_receipt_was_made_to_fit(corpus_and_cache, capsys):
    from pipeline.cache.samples import vectors_sha256

    _, cache = corpus_and_cache
    zarr.open_group(cache, mode="r+")["embedding"][1] = np.nan
    path = cache / "receipts" / "000000.json"
    receipt = json.loads(path.read_text())
    receipt["vectors_sha256"] = vectors_sha256(TeacherCache.open(cache).block(0))
    path.write_text(json.dumps(receipt))
    assert "the vector of clip-0-1 has NaN" in damages(cache, capsys)


def with_statistics(cache, change) -> None:
    """Change what the receipt of shard 1 says of its vectors' statistics."""
    path = cache / "receipts" / "000001.json"
    receipt = json.loads(path.read_text())
    path.write_text(json.dumps({**receipt, "statistics": change(receipt["statistics"])}))


def test_wrong_statistics_are_found(corpus_and_cache, capsys):
    _, cache = corpus_and_cache
    true = TeacherCache.open(cache).shard_statistics(1)
    wrong = replace(true, mean_E=true.mean_E + np.eye(len(true.mean_E))[5] / 2)
    with_statistics(cache, lambda _: wrong.record())
    assert "stored mean or variance" in damages(cache, capsys)


@pytest.mark.parametrize(
    "change",
    [lambda s: {"mean": s["mean"]}, lambda s: {**s, "m2": s["m2"][4:]}, lambda s: {**s, "m2": "?"}],
    ids=["one is missing", "too short", "no base64"],
)
def test_damaged_statistics_are_found_and_refused(corpus_and_cache, capsys, change):
    _, cache = corpus_and_cache
    with_statistics(cache, change)
    assert "000001.json has damaged statistics" in damages(cache, capsys)
    with pytest.raises(SpeechkdError, match=r"000001\.json has damaged statistics"):
        TeacherCache.open(cache).statistics()


def test_duplicate_keys_across_shards_are_found(tmp_path, capsys):
    tars = [tar_bytes([*sample("a", 1), *sample("b", 2)]), tar_bytes(sample("a", 3))]
    shards = [
        line(content, count, f"{i}.tar")
        for i, (content, count) in enumerate(zip(tars, (2, 1), strict=True))
    ]
    for shard, content in zip(shards, tars, strict=True):
        (tmp_path / shard.url).write_bytes(content)
    write_manifest(tmp_path / "manifest.jsonl", shards)
    extract(tmp_path / "manifest.jsonl", tmp_path / "cache")
    assert "shard 1 (1.tar): duplicate key a, also in shard 0" in damages(
        tmp_path / "cache", capsys
    )


def test_a_shard_of_which_nothing_is_kept_is_sound(tmp_path, capsys):
    tars = [tar_bytes(sample("long", samples=16 * 16_000)), tar_bytes(sample("good", 1))]
    shards = [line(content, 1, f"{i}.tar") for i, content in enumerate(tars)]
    for shard, content in zip(shards, tars, strict=True):
        (tmp_path / shard.url).write_bytes(content)
    write_manifest(tmp_path / "manifest.jsonl", shards)
    extract(tmp_path / "manifest.jsonl", tmp_path / "cache", max_refused=1.0)
    verify(VerifySettings(cache=str(tmp_path / "cache")))
    assert "sound; 1 row, 2 of 2 tars checked too" in capsys.readouterr().out


def test_an_unfinished_cache_is_told(corpus_and_cache, capsys):
    _, cache = corpus_and_cache
    (cache / "receipts" / "000001.json").unlink()
    assert "shard 1 (1.tar): not done" in damages(cache, capsys)


def test_every_damage_is_mended_by_extracting_again(corpus_and_cache, made):
    corpus, cache = corpus_and_cache
    zarr.open_group(cache, mode="r+")["embedding"][1] = np.nan
    (cache / "receipts" / "000000.json").unlink()
    again = extract(corpus / "manifest.jsonl", cache)
    verify(VerifySettings(cache=str(cache)))
    assert again.digest() == TeacherCache.open(made / "cache").digest()


# --- info, export ----------------------------------------------------------------------------


def test_info_tells_what_is_there(made, capsys):
    info(InfoSettings(cache=str(made / "cache")))
    page = re.sub(r"\s+", " ", capsys.readouterr().out)
    for part in ("3 of 3 done", "9 of 9 samples", "dummy", "384 × float16", "fixed750", "torch"):
        assert part in page


def test_export_gives_rows_in_manifest_order_without_refused_ones(made, tmp_path):
    manifest = write_corpus(tmp_path / "corpus", [2, 2])
    bad = tar_bytes([*sample("x", 1), ("y.flac", b"noise"), ("y.txt", b"y"), *sample("z", 2)])
    (tmp_path / "corpus" / "0.tar").write_bytes(bad)
    write_manifest(manifest, [line(bad, 3, "0.tar"), read_manifest(manifest).shards[1]])
    cache = extract(manifest, tmp_path / "cache", max_refused=1.0)
    export(ExportSettings(cache=str(tmp_path / "cache"), out=tmp_path / "out"))
    vectors_NE = np.load(tmp_path / "out" / "embedding.npy")
    lines = (tmp_path / "out" / "samples.jsonl").read_text().splitlines()
    records = [json.loads(text) for text in lines]
    assert [(r["row"], r["key"], r["shard"]) for r in records] == [
        (0, "x", "0.tar"),
        (1, "z", "0.tar"),
        (2, "clip-1-0", "1.tar"),
        (3, "clip-1-1", "1.tar"),
    ]
    assert set(records[0]) == {"row", "key", "text", "duration_s", "shard"}
    assert vectors_NE.dtype == np.float16
    assert np.array_equal(vectors_NE, vectors_of(cache))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    export(ExportSettings(cache=str(tmp_path / "cache"), out=tmp_path / "out"))
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "absent", "another cache"])
def test_export_into_anything_else_is_refused(made, tmp_path, damage):
    settings = ExportSettings(cache=str(made / "cache"), out=tmp_path / "out")
    export(settings)
    file = tmp_path / "out" / "embedding.npy"
    raw = file.read_bytes()
    changed = {"flip": raw[:-1] + bytes([raw[-1] ^ 1]), "cut": raw[:-1], "longer": raw + b"\x00"}
    if damage == "absent":
        file.unlink()
    elif damage == "another cache":
        manifest = write_corpus(tmp_path / "corpus", [2])
        extract(manifest, tmp_path / "cache")
        settings = ExportSettings(cache=str(tmp_path / "cache"), out=tmp_path / "out")
    else:
        file.write_bytes(changed[damage])
    with pytest.raises(SpeechkdError, match=r"exists and is not the export of this cache; name"):
        export(settings)


def test_places_that_cannot_be_written_are_named(made):
    manifest = made / "corpus" / "manifest.jsonl"
    place = manifest / "below-a-file"
    with pytest.raises(SpeechkdError, match=r"below-a-file.* cannot be made"):
        extract(manifest, place / "cache")
    with pytest.raises(SpeechkdError, match=r"below-a-file.* cannot be made"):
        export(ExportSettings(cache=str(made / "cache"), out=place / "out"))


def test_an_unfinished_cache_is_exported_only_on_demand(corpus_and_cache, tmp_path):
    _, cache = corpus_and_cache
    (cache / "receipts" / "000001.json").unlink()
    with pytest.raises(SpeechkdError, match="1 of 3 shards are not done"):
        export(ExportSettings(cache=str(cache), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    export(ExportSettings(cache=str(cache), out=tmp_path / "out", unfinished=True))
    assert len(np.load(tmp_path / "out" / "embedding.npy")) == 7


# --- merge -----------------------------------------------------------------------------------


def test_parts_of_one_manifest_merge_into_the_whole(made, tmp_path):
    manifest = made / "corpus" / "manifest.jsonl"
    for index in (0, 1):
        extract(manifest, tmp_path / f"part{index}", array_task=f"{index}/2")
    parts = [str(tmp_path / "part1"), str(tmp_path / "part0")]
    merge(MergeSettings(caches=parts, out=str(tmp_path / "all")))
    merged, whole = TeacherCache.open(tmp_path / "all"), TeacherCache.open(made / "cache")
    assert merged.digest() == whole.digest()
    assert merged.receipts() == whole.receipts()
    verify(VerifySettings(cache=str(tmp_path / "all")))


def test_corpora_with_equal_keys_are_refused_with_the_flag_that_tells_them_apart(made, tmp_path):
    other = write_corpus(tmp_path / "other", [2, 5], samples=5_000)
    extract(other, tmp_path / "second")
    locations = [str(made / "cache"), str(tmp_path / "second")]
    out = str(tmp_path / "all")
    with pytest.raises(SpeechkdError, match=r"such as 'clip-0-0' in .*--prefix-keys cache,second"):
        merge(MergeSettings(caches=locations, out=out))
    assert not (tmp_path / "all").exists()
    for wrong in ("a", "a,a", "a,b,c", "a,"):
        with pytest.raises(SpeechkdError, match="wanted is one prefix per cache"):
            merge(MergeSettings(caches=locations, out=out, prefix_keys=wrong))
    merge(MergeSettings(caches=[locations[0], locations[0]], out=out))  # its tars are the same
    assert TeacherCache.open(out).digest() == TeacherCache.open(made / "cache").digest()


def test_caches_of_two_corpora_merge_one_behind_the_other(made, tmp_path):
    other = write_corpus(tmp_path / "other", [2, 5], samples=5_000)
    second = extract(other, tmp_path / "second", max_refused=1.0)
    first = TeacherCache.open(made / "cache")
    locations = [str(made / "cache"), str(tmp_path / "second")]
    merge(MergeSettings(caches=locations, out=str(tmp_path / "all"), prefix_keys="a,b"))
    merged = TeacherCache.open(tmp_path / "all")
    assert not merged.unfinished()
    both_NE = np.concatenate([vectors_of(first), vectors_of(second)])
    assert np.array_equal(vectors_of(merged), both_NE)
    keys = [f"a/{key}" for key in samples_of(first).keys]
    assert samples_of(merged).keys == keys + [f"b/{key}" for key in samples_of(second).keys]
    recordings = [s["recording"] for shard in range(5) for s in merged.shard_samples(shard)]
    assert recordings == samples_of(merged).keys  # the corpora name both alike
    verify(VerifySettings(cache=str(tmp_path / "all")))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "all").rglob("*")}
    merge(MergeSettings(caches=locations, out=str(tmp_path / "all"), prefix_keys="a,b"))
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "all").rglob("*")} == before


def test_the_statistics_of_a_merged_cache_are_those_of_all_vectors(made, tmp_path):
    other = write_corpus(tmp_path / "other", [2, 5], samples=5_000)
    extract(other, tmp_path / "second")
    locations = [str(made / "cache"), str(tmp_path / "second")]
    merge(MergeSettings(caches=locations, out=str(tmp_path / "all"), prefix_keys="a,b"))
    merged = TeacherCache.open(tmp_path / "all")
    vectors_NE = vectors_of(merged).astype(np.float64)
    statistics = merged.statistics()
    assert statistics.count == len(vectors_NE) == 16
    assert np.allclose(statistics.mean_E, vectors_NE.mean(axis=0))
    assert np.allclose(statistics.std_E, vectors_NE.std(axis=0))


def test_caches_of_different_settings_do_not_merge(made, tmp_path):
    extract(made / "corpus" / "manifest.jsonl", tmp_path / "other", dtype="float32")
    with pytest.raises(SpeechkdError, match="dtype: 'float16' and 'float32'"):
        merge(
            MergeSettings(
                caches=[str(made / "cache"), str(tmp_path / "other")], out=str(tmp_path / "all")
            )
        )


def test_damage_is_not_merged(corpus_and_cache, tmp_path):
    _, cache = corpus_and_cache
    zarr.open_group(cache, mode="r+")["embedding"][0, 0] += 1
    with pytest.raises(SpeechkdError, match="shard 0 are not those of its receipt"):
        merge(MergeSettings(caches=[str(cache)], out=str(tmp_path / "all")))


def test_a_merged_manifest_lists_a_shared_tar_once(tmp_path):
    from pipeline.cache.merging import merged_manifest

    write_corpus(tmp_path / "corpus", COUNTS)
    shards: list[Shard] = list(read_manifest(tmp_path / "corpus" / "manifest.jsonl"))
    write_manifest(tmp_path / "corpus" / "first.jsonl", shards[:2])
    write_manifest(tmp_path / "corpus" / "last.jsonl", shards[1:])
    caches = [
        extract(tmp_path / "corpus" / f"{name}.jsonl", tmp_path / name)
        for name in ("first", "last")
    ]
    merged: Manifest = merged_manifest(caches)
    assert [shard.sha256 for shard in merged] == [shard.sha256 for shard in shards]
    locations = [str(tmp_path / name) for name in ("first", "last")]
    merge(MergeSettings(caches=locations, out=str(tmp_path / "all")))
    verify(VerifySettings(cache=str(tmp_path / "all")))
