"""A shard's sequences come back as they were given, whatever the sizes of clips and batches."""

import hashlib
import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cache.identity import KINDS, sequence_identity
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import ShardWriter, is_sound
from pipeline.shards.refusals import Reason, Refusal
from tests.helpers.caches import make_sequence_cache, manifest

SIZE = 16  # rows of an object


def new_cache(folder, samples, **changes) -> TeacherCache:
    options = {"width": 3, "most_rows": 40, "settings": {}, "rows_per_object": SIZE, **changes}
    identity = sequence_identity(options.pop("kind", "whisper-mel"), **options)
    return TeacherCache.create_or_open(folder, manifest(samples), identity, {})


def sample(position: int) -> dict:
    return {"position": position, "key": f"k{position}", "text": "a text", "duration_s": 0.5}


def write(cache, shard, rows_of_clips, refused=(), batch=2):
    """Rows by position, in batches of so many clips; the other positions are refused."""
    writer, positions = ShardWriter(cache, shard), sorted(rows_of_clips)
    for first in range(0, len(positions), batch):
        part = positions[first : first + batch]
        clips = [rows_of_clips[p] for p in part]
        writer.append(part, np.concatenate(clips), [len(clip) for clip in clips])
    bad = [Refusal(Reason.MISSING_TEXT, "", f"k{p}", p) for p in refused]
    return writer.finish(map(sample, positions), bad, "0" * 64, 10_240, {"torch": "1"})


def random_rows(counts, seed=0, width=3):
    rng = np.random.default_rng(seed)
    return {p: rng.standard_normal((n, width)).astype(np.float32) for p, n in enumerate(counts)}


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    batch=st.integers(1, 4),
    dtype=st.sampled_from(["float16", "float32"]),
)
def test_what_goes_in_comes_out(tmp_path_factory, counts, batch, dtype):
    cache = new_cache(tmp_path_factory.mktemp("c") / "c", [2, len(counts)], dtype=dtype)
    rows = random_rows(counts)
    assert write(cache, 1, rows, batch=batch).sound
    reader = SequenceReader(TeacherCache.open(cache.location, kinds=KINDS))
    assert reader.clips.rows.tolist() == counts
    assert reader.clips.row.tolist() == [
        cache.rows_of(1).start + sum(counts[:p]) for p in range(len(counts))
    ]
    order = np.random.default_rng(0).permutation(len(counts))
    wanted = np.concatenate([rows[p] for p in order]).astype(dtype)
    np.testing.assert_array_equal(reader.values(order).numpy(), wanted)
    # plain zarr, and NumPy's own statistics
    plain = zarr.open_group(cache.location, mode="r")["rows"]
    first, total = cache.rows_of(1).start, sum(counts)
    np.testing.assert_array_equal(
        plain[first : first + total], np.concatenate([rows[p] for p in rows]).astype(dtype)
    )
    assert np.isnan(plain[:first]).all()
    assert np.isnan(plain[first + total :]).all()
    stored = np.asarray(plain[first : first + total], np.float64)
    statistics = cache.statistics()
    assert statistics.count == total
    np.testing.assert_allclose(statistics.mean_E, stored.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(statistics.std_E, stored.std(axis=0), atol=1e-12)


def test_the_size_of_batches_changes_no_byte(tmp_path):
    contents = []
    for batch in (1, 3, 8):
        cache = new_cache(tmp_path / str(batch), [8])
        write(cache, 0, random_rows([5, 1, 40, 16, 2, 30, 7, 3]), batch=batch)
        folder = tmp_path / str(batch)
        contents.append(
            {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        )
    assert contents[0] == contents[1] == contents[2]


def test_only_objects_that_hold_rows_are_written(tmp_path):
    cache = new_cache(tmp_path / "c", [3, 3])
    write(cache, 0, random_rows([1, 2, 3]))
    write(cache, 1, random_rows([16, 1, 15]))
    assert cache.rows_of(0) == range(0, 8 * SIZE)  # 3 clips of up to 40 rows
    names = sorted(p.relative_to(tmp_path / "c").as_posix() for p in tmp_path.rglob("c/*/0"))
    assert names == ["rows/c/0/0", "rows/c/8/0", "rows/c/9/0"]


def test_objects_of_an_earlier_longer_write_go(tmp_path):
    cache = new_cache(tmp_path / "c", [2, 2])
    write(cache, 0, random_rows([40, 40]))
    write(cache, 1, random_rows([40, 40]))
    before = cache.digest()
    again = TeacherCache.open(cache.location, kinds=KINDS)
    write(again, 0, random_rows([3, 4]))
    names = sorted(int(p.parent.name) for p in tmp_path.rglob("c/*/0"))
    assert names == [0, 5, 6, 7, 8, 9]
    assert again.digest() != before
    assert is_sound(again, again.receipts()[0])


def test_refused_clips_leave_no_gap(tmp_path):
    cache = new_cache(tmp_path / "c", [5])
    rows = random_rows([4, 5, 6, 7, 8])
    rows[1][2, 1] = np.nan
    rows[4][0, 0] = 1e6  # too large for float16
    del rows[3]
    written = write(cache, 0, rows, refused=[3])
    assert written.clips == 2
    assert [(r.key, str(r.reason)) for r in written.refused] == [
        ("k1", "non-finite vector"),
        ("k3", "missing text"),
        ("k4", "non-finite vector"),
    ]
    samples = cache.shard_samples(0)
    assert [(s["key"], s["row"], s["rows"]) for s in samples] == [("k0", 0, 4), ("k2", 4, 6)]
    assert cache.rows == 10
    reader = SequenceReader(cache)
    np.testing.assert_array_equal(reader.values([1]).numpy(), rows[2].astype(np.float16))


def test_a_clip_may_be_refused_by_its_encoder(tmp_path):
    cache = new_cache(tmp_path / "c", [2])
    writer = ShardWriter(cache, 0)
    writer.append(
        [0, 1], np.zeros((2, 3), np.float32), [0, 2], refused={0: (Reason.MISSING_TEXT, "no word")}
    )
    written = writer.finish(map(sample, (0, 1)), [], "0" * 64, 1, {})
    assert [(r.key, r.detail) for r in written.refused] == [("k0", "no word")]


@pytest.mark.parametrize("kind", ["words", "text"])
def test_words_and_tokens_lie_beside_the_rows(tmp_path, kind):
    cache = make_sequence_cache(tmp_path / "c", [5, 4], kind)
    reader = SequenceReader(cache)
    if kind == "words":
        assert [[w["text"] for w in words] for words in reader.clips.words] == [
            text.split() for text in reader.clips.text
        ]
    else:
        place = [8, 0, 3]
        ids = zarr.open_group(cache.location, mode="r")["ids"][:]
        wanted = [ids[reader.clips.row[p] :][: reader.clips.rows[p]] for p in place]
        read = reader.ids(reader.clips.row[place], reader.clips.rows[place])
        np.testing.assert_array_equal(read.numpy(), np.concatenate(wanted))
        assert read.dtype.is_signed


def test_a_shard_must_account_for_every_sample_in_order(tmp_path):
    cache = new_cache(tmp_path / "c", [3])
    with pytest.raises(ValueError, match="2 of 3 samples accounted for"):
        write(cache, 0, random_rows([2, 3]))
    assert cache.unfinished() == [0]
    writer = ShardWriter(cache, 0)
    for positions, counts, rows in (
        ([1, 0], [1, 1], 2),  # not in order
        ([0], [2], 1),  # fewer rows than counted
        ([0], [41], 41),  # more than a clip may have
    ):
        with pytest.raises(ValueError, match="shard 0"):
            writer.append(positions, np.zeros((rows, 3), np.float32), counts)


def test_another_writer_is_noticed(tmp_path, monkeypatch):
    """Other hardware, other last bits: it overwrites an object before the receipt is written."""
    from pipeline.foundation.folder import Folder

    cache, write_file = new_cache(tmp_path / "c", [2]), Folder.write

    def interleaved(folder, name, content):
        write_file(folder, name, content)
        if name.startswith("samples"):
            write_file(folder, "rows/c/0/0", bytes(SIZE * 3 * 2))

    monkeypatch.setattr(Folder, "write", interleaved)
    assert not write(cache, 0, random_rows([20, 20])).sound


def test_receipts_hold_a_digest_per_object(tmp_path):
    cache = new_cache(tmp_path / "c", [2])
    write(cache, 0, random_rows([20, 20]))
    receipt = json.loads((tmp_path / "c" / "receipts" / "000000.json").read_text())
    wanted = [
        hashlib.sha256((tmp_path / "c" / "rows" / "c" / str(i) / "0").read_bytes()).hexdigest()
        for i in range(3)
    ]
    assert receipt["objects"] == {"rows": wanted}
    assert receipt["rows"] == 40
