"""Teacher caches from strangers: opened only if they are what this project writes."""

import json
import shutil

import numpy as np
import pytest

from pipeline.cache.identity import KINDS
from pipeline.cache.store import TeacherCache
from pipeline.cache.verification import Damage
from pipeline.cache.verification import verify as verified
from pipeline.foundation.errors import SpeechkdError
from tests.helpers.caches import make_cache, make_sequence_cache, samples_of, vectors_of

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
METADATA = {
    "a pickle filter": {"codecs": [{"name": "numcodecs.pickle"}, BYTES]},
    "objects": {"data_type": "object", "codecs": [{"name": "vlen-utf8"}]},
    "text of any length": {"data_type": "string", "codecs": [{"name": "vlen-utf8"}]},
    "a codec of another package": {"codecs": [BYTES, {"name": "evil_package.codec"}]},
    "compression": {"codecs": [BYTES, {"name": "gzip", "configuration": {"level": 5}}]},
    "sharding": {
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {"chunk_shape": [1, 1], "codecs": [BYTES], "index_codecs": []},
            }
        ]
    },
    "another size": {"shape": [10**15, 8]},
    "other objects": {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**9, 8]}}
    },
    "a storage transformer": {"storage_transformers": [{"name": "x"}]},
    "another format": {"zarr_format": 2},
    "no array": {"node_type": "group"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("caches") / "cache", [3, 2]).folder.path


@pytest.fixture
def cache(made, tmp_path):
    return shutil.copytree(made, tmp_path / "cache")


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("changes", METADATA.values(), ids=METADATA)
def test_metadata_of_another_kind_are_refused_before_zarr_follows_them(cache, changes):
    change(cache / "embedding" / "zarr.json", **changes)
    with pytest.raises(SpeechkdError, match="not a readable teacher cache"):
        TeacherCache.open(cache)


def test_copies_of_metadata_in_the_group_are_not_believed(cache):
    array = json.loads((cache / "embedding" / "zarr.json").read_text())
    lie = {**array, "shape": [10**12, 8], "codecs": [{"name": "numcodecs.pickle"}]}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": {"embedding": lie}}
    change(cache / "zarr.json", consolidated_metadata=consolidated)
    assert vectors_of(TeacherCache.open(cache)).shape == (5, 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("d_model", 10**12),
        ("d_model", "8"),
        ("d_model", True),
        ("d_model", -1),
        ("rows_per_object", 0),
        ("rows_per_object", 2**40),
        ("dtype", "object"),
        ("dtype", "|O"),
        ("teacher", "x\x1b[31m"),
        ("teacher", ["x"]),
        ("manifest_sha256", "0" * 64),
        ("format_version", 99),
        ("unknown", 1),
    ],
)
def test_an_identity_that_nobody_writes_is_refused(cache, name, value):
    path = cache / "zarr.json"
    record = json.loads(path.read_text())
    record["attributes"]["speechkd"]["identity"][name] = value
    path.write_text(json.dumps(record))
    with pytest.raises(SpeechkdError, match=r"cache format 99|not a readable teacher cache"):
        TeacherCache.open(cache)


SEQUENCE_IDENTITY = {
    "kind": [None, "nothing", "vector", 3],
    "width": [0, -1, 10**12, "8", True],
    "most_rows": [0, 2**40, 1.5],
    "hop_samples": [-1, "160"],
    "rows_per_object": [0, 2**40],
    "dtype": ["object", "|O", "float64"],
    "settings": [None, [], {"a\x1b": 1}, {"a": [1]}, {"a": True}, {"a": "x\x1b[31m"}],
    "format_version": [2, 99],
    "manifest_sha256": ["0" * 64],
    "unknown": [1],
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in SEQUENCE_IDENTITY.items() for v in values]
)
def test_an_identity_of_sequences_that_nobody_writes_is_refused(tmp_path, name, value):
    cache = make_sequence_cache(tmp_path / "cache", [3]).folder.path
    path = cache / "zarr.json"
    record = json.loads(path.read_text())
    record["attributes"]["speechkd"]["identity"][name] = value
    path.write_text(json.dumps(record))
    with pytest.raises(SpeechkdError, match=r"cache format 99|not a readable teacher cache"):
        TeacherCache.open(cache, kinds=KINDS)


@pytest.mark.parametrize("changes", METADATA.values(), ids=METADATA)
def test_metadata_of_sequences_of_another_kind_are_refused(tmp_path, changes):
    cache = make_sequence_cache(tmp_path / "cache", [3], "text").folder.path
    for array in ("rows", "ids"):
        change(cache / array / "zarr.json", **changes)
        with pytest.raises(SpeechkdError, match="not a readable teacher cache"):
            TeacherCache.open(cache, kinds=KINDS)
        make_sequence_cache(tmp_path / array, [3], "text")
        shutil.copy(tmp_path / array / array / "zarr.json", cache / array)


@pytest.mark.parametrize("folder", ["rows", "rows/c", "ids", "samples"])
def test_a_folder_of_sequences_that_leads_elsewhere_is_refused(tmp_path, folder):
    cache = make_sequence_cache(tmp_path / "cache", [3], "text").folder.path
    (cache / folder).rename(tmp_path / "elsewhere")
    (cache / folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpeechkdError, match="is a link"):
        TeacherCache.open(cache, kinds=KINDS)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": -1},
        {"rows": "3"},
        {"rows": True},
        {"objects": []},
        {"objects": {"rows": 1}},
        {"objects": {"rows": []}},
        {"objects": {"rows": [7]}},
        {"objects": {}},
        {"objects": {"embedding": ["0" * 64]}},
    ],
    ids=str,
)
def test_a_receipt_of_sequences_of_other_types_is_none(tmp_path, changes):
    cache = make_sequence_cache(tmp_path / "cache", [3, 2]).folder.path
    change(cache / "receipts" / "000000.json", **changes)
    found = TeacherCache.open(cache, kinds=KINDS)
    assert list(found.receipts()) == [1]
    assert any("torn" in str(event) for event in verified(found, tars=False))


@pytest.mark.parametrize("folder", ["embedding", "samples", "receipts"])
def test_a_folder_that_leads_elsewhere_is_refused(cache, tmp_path, folder):
    (cache / folder).rename(tmp_path / "elsewhere")
    (cache / folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpeechkdError, match="is a link"):
        TeacherCache.open(cache)


RECORDS = {
    "a row of another shard": {"row": 256},
    "a row below": {"row": -1},
    "a row that is no number": {"row": "0"},
    "no text": {"text": None},
    "a list for a key": {"key": ["a"]},
    "a duration of text": {"duration_s": "1"},
    "an object for a speaker": {"speaker": {}},
}


@pytest.mark.parametrize("changes", RECORDS.values(), ids=RECORDS)
def test_a_sample_that_is_none_is_damage(cache, changes):
    path = cache / "samples" / "000000.jsonl"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), **changes}), *others]) + "\n")
    found = TeacherCache.open(cache)
    for read in (samples_of, vectors_of):
        with pytest.raises(SpeechkdError, match="is damaged"):
            read(found)
    assert any(isinstance(event, Damage) for event in verified(found, tars=False))


RECEIPTS = {
    "nested too deep": b"[" * 100_000,
    "no object": b"[1]",
    "a number of 5,000 digits": b'{"shard": ' + b"1" * 5000 + b"}",
    "not UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize("content", RECEIPTS.values(), ids=RECEIPTS)
def test_a_torn_receipt_is_none(cache, content):
    (cache / "receipts" / "000000.json").write_bytes(content)
    assert list(TeacherCache.open(cache).receipts()) == [1]


@pytest.mark.parametrize(
    "changes",
    [
        {"written": "3"},
        {"written": -1, "refused": [{}] * 4},
        {"refused": [1, 2], "written": 1},
        {"refused": [{"reason": 1}], "written": 2},
        {"versions": []},
        {"shard": True},
        {"vectors_sha256": None},
    ],
    ids=str,
)
def test_a_receipt_of_other_types_is_none(cache, changes):
    change(cache / "receipts" / "000000.json", **changes)
    assert list(TeacherCache.open(cache).receipts()) == [1]


def test_an_object_of_another_size_is_damage(cache):
    (cache / "embedding" / "c" / "0" / "0").write_bytes(b"short")
    found = TeacherCache.open(cache)
    with pytest.raises(SpeechkdError, match="shard 0 are damaged"):
        vectors_of(found)
    assert any("cannot be read" in str(event) for event in verified(found, tars=False))


def test_what_is_untouched_is_read(cache):
    found = TeacherCache.open(cache)
    assert np.isfinite(vectors_of(found)).all()
    assert not [e for e in verified(found, tars=False) if isinstance(e, Damage)]
