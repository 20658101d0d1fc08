"""A data manifest is read as it was written, and what is wrong in one is named by line."""

import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.manifest import (
    Manifest,
    Shard,
    difference,
    file_sha256,
    parse_manifest,
    read_manifest,
    write_manifest,
)

GOOD = {"url": "a.tar", "samples": 3, "bytes": 10, "sha256": "0" * 64}


def test_round_trip(tmp_path):
    shards = [Shard("a.tar", 3, 10, "0" * 64), Shard("sub/b.tar", 1, 20, "1" * 64)]
    write_manifest(tmp_path / "m.jsonl", shards)
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert list(manifest) == shards
    assert (manifest.samples, manifest.bytes, len(manifest)) == (4, 30, 2)


@pytest.mark.parametrize(
    ("location", "url", "expected"),
    [
        ("/data/m.jsonl", "a.tar", "/data/a.tar"),
        ("m.jsonl", "a.tar", "./a.tar"),
        ("/data/m.jsonl", "/else/a.tar", "/else/a.tar"),
        ("s3://bucket/x/m.jsonl", "a.tar", "s3://bucket/x/a.tar"),
        ("/data/m.jsonl", "s3://bucket/a.tar", "s3://bucket/a.tar"),
    ],
)
def test_relative_urls_start_at_the_manifest(location, url, expected):
    shard = Shard(url, 1, 1, "0" * 64)
    assert Manifest((shard,), location).resolve(shard) == expected


def test_the_longest_clip_stands_in_a_line_only_if_it_is_not_fifteen_seconds(tmp_path):
    usual, longer = Shard("a.tar", 3, 10, "0" * 64), Shard("b.tar", 1, 20, "1" * 64, 30)
    write_manifest(tmp_path / "m.jsonl", [usual, longer])
    first, second = map(json.loads, (tmp_path / "m.jsonl").read_text().splitlines())
    assert list(first) == ["url", "samples", "bytes", "sha256"]
    assert second["clip_seconds"] == 30
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert list(manifest) == [usual, longer]
    assert manifest.clip_seconds == 30
    assert Manifest((usual,), "m").clip_seconds == 15
    assert Manifest((usual, longer), "m").sha256 != Manifest((usual, usual), "m").sha256


def test_a_digest_of_before_is_the_digest_of_now():
    """Caches of earlier versions name it."""
    shards = (Shard("x/a.tar", 3, 10, "0" * 64), Shard("b.tar", 1, 20, "1" * 64))
    lines = f"a.tar 3 {'0' * 64}\nb.tar 1 {'1' * 64}\n"
    assert Manifest(shards, "m").sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_identity_survives_a_move_but_not_a_change():
    def sha256(url, digest="0" * 64, samples=3):
        return Manifest((Shard(url, samples, 10, digest),), "m").sha256

    assert sha256("a.tar") == sha256("s3://far/away/a.tar")
    assert len({sha256("a.tar"), sha256("b.tar"), sha256("a.tar", "1" * 64)}) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: expected an object"),
        (json.dumps({**GOOD, "samples": 0}), "samples is 0"),
        (json.dumps({**GOOD, "samples": True}), "samples is True"),
        (json.dumps({**GOOD, "clip_seconds": 0}), "clip_seconds is 0"),
        (json.dumps({**GOOD, "clip_seconds": 121}), "clip_seconds is 121"),
        (json.dumps({**GOOD, "clip_seconds": 15.0}), "clip_seconds is 15.0"),
        (json.dumps({**GOOD, "bytes": "10"}), "bytes is '10'"),
        (json.dumps({**GOOD, "sha256": "abc"}), "sha256"),
        (json.dumps({**GOOD, "url": ""}), "url is ''"),
        (json.dumps({"url": "a.tar"}), "no field samples, bytes, sha256"),
        (f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}", "lists a.tar more than once"),
        ("\n \n", "lists no shard"),
    ],
)
def test_a_bad_manifest_is_named(line, message):
    with pytest.raises(SpeechkdError, match=message):
        parse_manifest(line, "m.jsonl")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(SpeechkdError, match="no such data manifest"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(SpeechkdError, match=r"is a folder.*`speechkd shard`"):
        read_manifest(tmp_path)
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpeechkdError, match="not UTF-8"):
        read_manifest(tmp_path / "b")


@given(st.text(max_size=200))
def test_any_text_is_a_manifest_or_a_clear_error(text):
    try:
        outcome = str(len(parse_manifest(text, "m.jsonl")))
    except SpeechkdError as error:
        outcome = str(error)
    assert outcome.isdigit() or "m.jsonl" in outcome


def test_file_digest_is_sha256s(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ("a1 b2", "only places differ"),
        ("a1 b2 c3", r"line 3 and on are new \(c\.tar …\); it had 2 tars"),
        ("a1", "b.tar and what follows it, from line 2 on"),
        ("c1 b2", "line 1 was x/a.tar, and is c.tar now"),
        ("a1 b5", r"b\.tar \(line 2\) has other content now: 2 samples then, 5 now"),
    ],
)
def test_in_what_two_lists_differ(now, words):
    def listed(text, folder=""):
        shards = [Shard(f"{folder}{t[0]}.tar", int(t[1]), 10, t[1] * 64) for t in text.split()]
        return Manifest(tuple(shards), "m.jsonl")

    assert re.search(words, difference(listed("a1 b2", "x/"), listed(now)))
