"""A cache is copied to the machine's own disk once, whole, and only if it is sound."""

import shutil
from collections import namedtuple

import numpy as np
import pytest

from pipeline.cache import staging
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.staging import staged
from pipeline.foundation.errors import Damaged, SpeechkdError
from tests.helpers.caches import make_cache, make_sequence_cache


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["whisper-mel", "words", "text"])
def test_a_copy_is_the_cache_and_is_made_once(tmp_path, kind):
    cache = make_sequence_cache(tmp_path / "c", [9, 5], kind)
    copy = staged(cache, tmp_path / "disk")
    assert copy.digest() == cache.digest()
    assert files(copy.folder.path) == files(tmp_path / "c")
    np.testing.assert_array_equal(
        SequenceReader(copy).values([8, 2]).numpy(), SequenceReader(cache).values([8, 2]).numpy()
    )
    times = {p: p.stat().st_mtime_ns for p in copy.folder.path.rglob("*")}
    shutil.rmtree(tmp_path / "c" / "rows" / "c")  # nothing is read of it any more
    assert staged(cache, tmp_path / "disk").location == copy.location
    assert {p: p.stat().st_mtime_ns for p in copy.folder.path.rglob("*")} == times


def test_what_no_clip_owns_is_not_copied(tmp_path):
    cache = make_sequence_cache(tmp_path / "c", [9, 5], unfinished=(1,))
    (tmp_path / "c" / "rows" / "c" / "9").mkdir()
    (tmp_path / "c" / "rows" / "c" / "9" / "0").write_bytes(b"of a run that was killed")
    copy = staged(cache, tmp_path / "disk")
    assert not (copy.folder.path / "rows" / "c" / "9").exists()
    assert copy.unfinished() == [1]


def test_a_changed_cache_has_another_copy(tmp_path):
    first = staged(make_sequence_cache(tmp_path / "a", [9]), tmp_path / "disk")
    second = staged(make_sequence_cache(tmp_path / "b", [8]), tmp_path / "disk")
    assert first.location != second.location


def test_damage_is_not_copied(tmp_path):
    cache = make_sequence_cache(tmp_path / "c", [9])
    (tmp_path / "c" / "rows" / "c" / "0" / "0").write_bytes(b"other")
    with pytest.raises(Damaged, match="rows/c/0/0 is missing, or not that of its receipt"):
        staged(cache, tmp_path / "disk")
    assert not list((tmp_path / "disk").glob("whisper*"))


def test_too_small_a_disk_is_said_before_anything_is_copied(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: usage(10))
    with pytest.raises(SpeechkdError, match=r"takes 0\.00 GB, .* another folder with --stage-to"):
        staged(make_sequence_cache(tmp_path / "c", [9]), tmp_path / "disk")


def test_vectors_need_no_copy(tmp_path):
    with pytest.raises(SpeechkdError, match="a cache of vectors"):
        staged(make_cache(tmp_path / "c", [2]), tmp_path / "disk")
