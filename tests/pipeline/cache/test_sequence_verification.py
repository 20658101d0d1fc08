"""Each kind of damage to a cache of sequences is found and named, and nothing else is."""

import json
import shutil

import numpy as np
import pytest

from pipeline.cache.identity import KINDS
from pipeline.cache.store import TeacherCache
from pipeline.cache.verification import Damage, verify
from tests.helpers.caches import make_sequence_cache


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    for dtype in ("float16", "uint8"):
        make_sequence_cache(folder / dtype, [9, 12], dtype=dtype)
    make_sequence_cache(folder / "words", [9, 12], "words")
    return folder


@pytest.fixture(params=["float16", "uint8", "words"])
def cache(made, tmp_path, request):
    return shutil.copytree(made / request.param, tmp_path / "cache")


def damages(folder) -> list[str]:
    opened = TeacherCache.open(folder, kinds=KINDS)
    found = [str(event) for event in verify(opened, tars=False) if isinstance(event, Damage)]
    return [text for text in found if "of another tar" not in text]  # made-up tars have no digest


def objects(folder):
    return sorted(folder.glob("rows/c/*/0"), key=lambda path: int(path.parent.name))


def edit_samples(folder, change):
    path = folder / "samples" / "000001.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in change(records)))


def edit_receipt(folder, **changes):
    path = folder / "receipts" / "000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flip(path):
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


def swap_clips(records):
    """The second clip's place and the first's, each with the other's words and text."""
    first, second, *others = records
    rows = {"row": first["row"], "rows": second["rows"]}
    moved = {"row": first["row"] + second["rows"], "rows": first["rows"]}
    return [{**second, **rows}, {**first, **moved}, *others]


def test_what_is_untouched_is_sound(cache):
    assert damages(cache) == []


def test_a_flipped_byte_is_found(cache):
    flip(objects(cache)[0])
    assert damages(cache) == [
        "shard 0 (s-000000.tar): storage object rows/c/0/0 is not that of the receipt: changed, "
        "or rows swapped"
    ]


def test_a_cut_object_is_found(cache):
    path = objects(cache)[-1]
    path.write_bytes(path.read_bytes()[:-4])
    (damage,) = damages(cache)
    assert "bytes, not" in damage


def test_a_missing_object_is_found(cache):
    objects(cache)[0].unlink()
    assert damages(cache) == ["shard 0 (s-000000.tar): storage object rows/c/0/0 is missing"]


def test_a_surplus_object_is_found(cache):
    last = objects(cache)[-1].parent
    shutil.copytree(last, last.with_name(str(int(last.name) + 1)))
    (damage,) = damages(cache)
    assert f"rows/c/{int(last.name) + 1}/0 is there, and no clip's" in damage


def test_swapped_clips_are_found(cache):
    edit_samples(cache, swap_clips)
    assert any("the samples file is not the one the receipt" in text for text in damages(cache))


def test_swapped_objects_are_found(cache):
    first, second = objects(cache)[:2]
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert sum("rows swapped" in text for text in damages(cache)) == 2


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda r: [{**r[0], "rows": r[0]["rows"] + 1}, *r[1:]], "begins at row|word per row"),
        (lambda r: [*r[:-1], {**r[-1], "rows": 10**6}], "rows; 1 to"),
        (lambda r: [{**r[0], "rows": 0}, *r[1:]], "has 0 rows"),
        (lambda r: [{**r[0], "rows": "3"}, *r[1:]], "has '3' rows"),
        (lambda r: r[1:], "begins at row"),
        (lambda r: r[:-1], "the samples have"),
    ],
    ids=["one more", "far too many", "none", "text", "first gone", "last gone"],
)
def test_wrong_counts_are_found(cache, change, found):
    edit_samples(cache, change)
    text = "\n".join(damages(cache))
    assert any(part in text for part in found.split("|")), text


def test_a_receipt_of_other_counts_is_found(cache):
    receipt = json.loads((cache / "receipts" / "000001.json").read_text())
    edit_receipt(cache, rows=receipt["rows"] - 1)
    assert any("the receipt says" in text for text in damages(cache))
    edit_receipt(cache, rows=receipt["rows"] + 10_000)  # its digests are too few then
    assert any("torn or of another run" in text for text in damages(cache))


def test_a_receipt_of_another_run_is_found(cache):
    edit_receipt(cache, settings_sha256="f" * 64)
    assert any("torn or of another run" in text for text in damages(cache))


def test_wrong_statistics_are_found(cache):
    opened = TeacherCache.open(cache, kinds=KINDS)
    edit_receipt(cache, statistics=opened.shard_statistics(0).record())
    assert any("stored mean or variance" in text for text in damages(cache))


def test_nan_is_found_even_where_the_receipt_was_made_to_fit(made, tmp_path):
    import hashlib

    cache = shutil.copytree(made / "float16", tmp_path / "cache")
    first = objects(cache)[0]
    values = np.frombuffer(first.read_bytes(), np.float16).copy()
    values[3] = np.nan
    first.write_bytes(values.tobytes())
    path = cache / "receipts" / "000000.json"
    receipt = json.loads(path.read_text())
    receipt["objects"]["rows"][0] = hashlib.sha256(first.read_bytes()).hexdigest()
    path.write_text(json.dumps(receipt))
    assert any("has NaN or infinity where clips have rows" in text for text in damages(cache))


@pytest.mark.parametrize(
    ("kind", "change", "found"),
    [
        ("uint8", lambda r: [{**r[0], "low": None}, *r[1:]], "no low or no step"),
        ("words", lambda r: [{**r[0], "words": r[0]["words"][1:]}, *r[1:]], "one word per row"),
        ("words", lambda r: [{**r[0], "words": [7] * r[0]["rows"]}, *r[1:]], "is none"),
    ],
)
def test_samples_without_what_their_kind_needs_are_damage(made, tmp_path, kind, change, found):
    cache = shutil.copytree(made / kind, tmp_path / "cache")
    edit_samples(cache, change)
    assert any(found in text for text in damages(cache))


def test_another_number_of_untrusted_words_than_the_receipt_says_is_damage(made, tmp_path):
    cache = shutil.copytree(made / "words", tmp_path / "cache")
    path = cache / "receipts" / "000000.json"
    receipt = json.loads(path.read_text())
    path.write_text(json.dumps({**receipt, "untrusted_words": receipt["untrusted_words"] + 1}))
    assert any("words without a trusted time, the receipt says" in text for text in damages(cache))
