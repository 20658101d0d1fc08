"""Caches of sequences join, one behind the other; vectors: stages/test_cache."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from pipeline.cache import store
from pipeline.cache.merging import copy_shards, merged_manifest
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.verification import Damage, verify
from pipeline.foundation.errors import Damaged, SpeechkdError
from tests.helpers import caches
from tests.helpers.caches import make_sequence_cache


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Caches of two corpora; the second shard of one is the first of the other."""
    first = make_sequence_cache(tmp_path / "a", [5, 9], "words")
    plain = caches.manifest

    def shifted(counts, location="manifest.jsonl"):
        shards = plain(counts, location).shards
        other = hashlib.sha256(b"of the other corpus").hexdigest()
        return store.Manifest(
            (
                replace(shards[0], sha256=first.manifest.shards[1].sha256, url="x/s-000001.tar"),
                replace(shards[1], sha256=other, url="x/other.tar"),
            ),
            location,
        )

    monkeypatch.setattr(caches, "manifest", shifted)
    second = make_sequence_cache(tmp_path / "b", [9, 7], "words")
    return first, second


def test_rows_follow_each_other_and_keep_their_values(two, tmp_path):
    first, second = two
    merged = merged_manifest([first, second])
    target = store.TeacherCache.create_or_open(tmp_path / "all", merged, first.identity, {})
    assert list(copy_shards([first, second], target)) == [0, 1, 2]
    whole, one, other = (SequenceReader(c) for c in (target, first, second))
    assert whole.clips.key == one.clips.key + other.clips.key[9:]
    assert whole.clips.words == one.clips.words + other.clips.words[9:]
    np.testing.assert_array_equal(whole.values(range(14)).numpy(), one.values(range(14)).numpy())
    np.testing.assert_array_equal(
        whole.values(range(14, 21)).numpy(), other.values(range(9, 16)).numpy()
    )
    damage = [e.what for e in verify(target, tars=False) if isinstance(e, Damage)]
    made_up = ("another tar", "duplicate key")  # of tars that are not there, and texts made twice
    assert [what for what in damage if not any(part in what for part in made_up)] == []
    statistics, values = target.statistics(), whole.values(range(21)).numpy().astype(np.float64)
    assert statistics.count == len(values)
    np.testing.assert_allclose(statistics.mean_E, values.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(statistics.std_E, values.std(axis=0), atol=1e-12)
    assert list(copy_shards([first, second], target)) == []


def test_damage_is_not_merged(two, tmp_path):
    first, _ = two
    path = first.folder.path / "rows" / "c" / "0" / "0"
    path.write_bytes(bytes(len(path.read_bytes())))
    target = store.TeacherCache.create_or_open(tmp_path / "all", first.manifest, first.identity, {})
    with pytest.raises(Damaged, match="rows/c/0/0 of shard 0 is not that of its receipt"):
        list(copy_shards([first], target))
    assert target.unfinished() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "states"}, "kind: 'words' and 'states'"),
        ({"dtype": "uint8"}, "dtype: 'float16' and 'uint8'"),
        ({"layer": 3}, "layer: None and 3"),
    ],
)
def test_other_settings_do_not_merge(tmp_path, changes, told):
    first = make_sequence_cache(tmp_path / "a", [3], "words")
    other = make_sequence_cache(tmp_path / "b", [3], **{"kind": "words", **changes})
    with pytest.raises(SpeechkdError, match=told):
        merged_manifest([first, other])


def test_of_caches_of_two_kinds_the_kinds_alone_are_told(tmp_path):
    words = make_sequence_cache(tmp_path / "a", [2], kind="words")
    mels = make_sequence_cache(tmp_path / "b", [2], kind="whisper-mel", width=4)
    with pytest.raises(SpeechkdError, match=r"\(kind: 'words' and 'whisper-mel'\); such rows"):
        merged_manifest([words, mels])
