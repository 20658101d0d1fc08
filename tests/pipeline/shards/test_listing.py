"""Tars of others are counted and digested as stage one will, and what is amiss is told."""

import json
import os
import tarfile

import pytest

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.shards.listing import Progress, list_tar, tars_named, url_from
from pipeline.shards.reading import Clip, Refusal, read_shard
from tests.helpers.tars import audio, line, sample, tar_bytes


def put(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))
    return str(path)


def test_a_tar_is_listed_as_stage_one_reads_it(tmp_path):
    members = [
        *sample("a"),
        *sample("b.c/d.e", 1),
        ("f.flac", audio()),
        *sample("a", 2),
        ("g.txt", b"hello"),
        ("g.flac", audio()),
        ("g.pkl", b"."),
    ]
    listed = list_tar(put(tmp_path / "a.tar", members))
    content = (tmp_path / "a.tar").read_bytes()
    assert listed.shard("a.tar", 15) == line(content, listed.samples)
    found = list(read_shard((tmp_path / "a.tar").open("rb"), listed.shard("a.tar", 15), "a.tar"))
    assert sum(isinstance(item, Clip) for item in found) == 2
    reasons = [item.reason for item in found if isinstance(item, Refusal)]
    assert dict(listed.faults) == dict.fromkeys(reasons, 1)
    assert set(reasons) == {"missing text", "duplicate key", "pickled member"}
    assert "'f' of" in listed.examples["missing text"]


def test_a_tar_that_is_cut_or_is_none_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    put(path, [*sample("a"), *sample("b")])
    content = path.read_bytes()
    path.write_bytes(content[:5_000])
    with pytest.raises(Damaged, match="no whole tar"):
        list_tar(str(path))
    with tarfile.open(tmp_path / "b.tar", "w:gz") as tar:
        tar.add(__file__, "a.txt")
    with pytest.raises(Damaged, match=r"\.tar\.gz"):
        list_tar(str(tmp_path / "b.tar"))
    with pytest.raises(NotThere):
        list_tar(str(tmp_path / "none.tar"))


def test_names_are_files_folders_and_patterns_in_this_order(tmp_path):
    for name in ("b.tar", "a.tar", "sub/c.tar", "sub/.d.tar", "e.txt"):
        put(tmp_path / name, sample("a"))
    told = lambda *names: [  # noqa: E731
        os.path.relpath(tar, tmp_path) for tar in tars_named([str(tmp_path / n) for n in names])
    ]
    assert told("b.tar", "a.tar") == ["b.tar", "a.tar"]
    assert told("") == ["a.tar", "b.tar", "sub/c.tar"]
    assert told("*.tar", "sub") == ["a.tar", "b.tar", "sub/c.tar"]
    for names, word in ((("a.tar", "*.tar"), "named twice"), (("x*.tar",), "no tar is there")):
        with pytest.raises(SpeechkdError, match=word):
            told(*names)
    with pytest.raises(NotThere):
        told("none.tar")


def test_urls_are_relative_where_the_tar_lies_below_its_manifest(tmp_path):
    assert url_from(tmp_path / "m.jsonl", str(tmp_path / "a" / "b.tar")) == "a/b.tar"
    assert url_from(tmp_path / "x" / "m.jsonl", str(tmp_path / "b.tar")) == str(tmp_path / "b.tar")
    assert url_from(tmp_path / "m.jsonl", "s3://bucket/b.tar") == "s3://bucket/b.tar"


def test_progress_survives_a_torn_line_and_forgets_a_tar_that_changed(tmp_path):
    one, other = put(tmp_path / "a.tar", sample("a")), put(tmp_path / "b.tar", sample("b"))
    progress = Progress(tmp_path / "m.jsonl")
    progress.add(list_tar(one))
    progress.add(list_tar(other))
    path = tmp_path / ".m.jsonl.unfinished"
    path.write_text(path.read_text() + json.dumps({"tar": one})[:-3])
    put(tmp_path / "b.tar", [*sample("b"), *sample("c")])
    again = Progress(tmp_path / "m.jsonl")
    assert one in again
    assert again[one] == list_tar(one)
    assert other not in again
    again.remove()
    assert not path.exists()
