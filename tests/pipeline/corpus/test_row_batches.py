"""Batches of rows: each clip's own, in an order that seed, epoch and step alone decide."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.corpus.ahead import Ahead
from pipeline.corpus.row_batches import RowBatches
from pipeline.corpus.row_corpus import read_rows
from pipeline.corpus.rows import Rows, TextRows
from pipeline.models.packing import Packed
from tests.helpers.caches import make_sequence_cache, wordpiece

SHARDS = [9, 30, 6]


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    frames = make_sequence_cache(folder / "frames", SHARDS, "whisper-mel", width=5)
    text = make_sequence_cache(folder / "text", SHARDS, "text", width=3, dtype="float32")
    return {"frames": frames, "text": text}


@pytest.fixture(scope="module")
def tokenizer(caches):
    return wordpiece(caches["frames"])


def read(caches, **changes):
    return read_rows(caches, **{"held_out_share": 0.2, "seed": 0, **changes})


def make_batches(corpus, **changes):
    return RowBatches(corpus, **{"clips_per_batch": 8, "seed": 3, **changes})


def by_clip(cache):
    """What plain Zarr gives of each clip: its key, its rows."""
    import zarr

    stored = zarr.open_group(str(cache.folder.path), mode="r")["rows"]
    return {
        sample["key"]: stored[sample["row"] : sample["row"] + sample["rows"]].astype(np.float32)
        for shard in cache.receipts()
        for sample in cache.shard_samples(shard)
    }


def test_each_clip_of_a_batch_has_the_rows_that_zarr_reads(caches, tokenizer):
    corpus = read(caches, tokenizer=tokenizer, max_tokens=16)
    batch = make_batches(corpus).epoch(0)(1)
    assert type(batch.rows("frames")) is Rows
    assert type(batch.rows("text")) is TextRows
    assert type(batch.tokens()) is Packed
    stored = {name: by_clip(cache) for name, cache in caches.items()}
    for name in caches:
        part = batch.rows(name)
        for place, values in enumerate(part.values_NW.split(part.lengths_B.tolist())):
            key = corpus.keys[int(batch.own_B[place])]
            np.testing.assert_array_equal(values, stored[name][key])
        assert batch.totals[name] == len(part.values_NW)
    assert len(batch.rows("text").ids_N) == batch.totals["text"]
    ids = batch.tokens().ids_N.split(batch.tokens().lengths_B.tolist())
    for place, clip in enumerate(batch.own_B.tolist()):
        wanted = tokenizer(corpus.texts[clip], truncation=True, max_length=16)["input_ids"]
        assert ids[place].tolist() == wanted


def same(one, other):
    return all(
        getattr(one.parts[name], field).equal(getattr(other.parts[name], field))
        for name in one.parts
        for field in ("values_NW", "lengths_B")
    )


def test_a_batch_depends_on_seed_epoch_and_place_only(caches):
    corpus = read(caches)
    batches = make_batches(corpus)
    first = batches.epoch(2)(1)
    torch.manual_seed(5)
    batches.epoch(0)(0)
    again = make_batches(read(caches)).epoch(2)(1)
    assert same(first, again)
    assert first.bits("masks", "frames").equal(again.bits("masks", "frames"))
    assert not first.bits("masks", "frames").equal(again.bits("other", "frames"))
    for other in (
        batches.epoch(3)(1),
        batches.epoch(2)(0),
        make_batches(corpus, seed=4).epoch(2)(1),
    ):
        assert not other.clip_B.equal(first.clip_B)
    seen = torch.cat([batches.epoch(1)(place).clip_B for place in range(batches.per_epoch)])
    assert len(set(seen.tolist())) == len(seen) == 8 * (len(corpus.train) // 8)


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_make_up_the_batch_and_keep_their_draws(caches, processes):
    corpus = read(caches)
    whole = make_batches(corpus).epoch(1)(2)
    shares = [
        make_batches(corpus, process=p, processes=processes).epoch(1)(2) for p in range(processes)
    ]
    bits = {}
    for share in shares:
        assert share.clip_B.equal(whole.clip_B)
        assert share.totals == whole.totals
        frames = share.rows("frames")
        for place, clip in enumerate(share.own_B.tolist()):
            bits[clip] = share.bits("masks", "frames")[frames.sequence_N == place]
    frames = whole.rows("frames")
    assert sorted(bits) == sorted(whole.own_B.tolist())
    for place, clip in enumerate(whole.own_B.tolist()):
        assert bits[clip].equal(whole.bits("masks", "frames")[frames.sequence_N == place])


def test_batches_made_ahead_are_the_same(caches):
    batches = make_batches(read(caches))
    ahead = Ahead(batches.epoch, batches.per_epoch)
    for epoch in (0, 1):
        batch_at = ahead.epoch(epoch)
        for place in range(batches.per_epoch):
            assert same(batch_at(place), batches.epoch(epoch)(place))
    assert same(ahead.epoch(0)(1), batches.epoch(0)(1)), "as after a resume"
    ahead.close()


def test_nobody_held_out_is_trained_on(caches):
    names = SequenceReader(caches["frames"]).clips
    for by, column in (("recording", names.recording), ("speaker", names.speaker)):
        corpus = read(caches, split_by=by)
        sides = [{column[c] for c in side.tolist()} for side in (corpus.train, corpus.held_out)]
        assert len(corpus.train) + len(corpus.held_out) == sum(SHARDS)
        assert len(corpus.held_out)
        assert not sides[0] & sides[1]
    batches = make_batches(read(caches), clips_per_batch=4)
    held_out = list(batches.held_out())
    assert same(held_out[0], next(batches.held_out()))
    assert set(held_out[0].clip_B.tolist()) <= set(batches.corpus.held_out.tolist())


def test_a_batch_goes_to_a_device_as_a_whole(caches, tokenizer):
    meta = torch.device("meta")
    batch = make_batches(read(caches, tokenizer=tokenizer)).epoch(0)(0)
    moved = batch.to(meta)
    for name, part in batch.parts.items():
        for field, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                assert getattr(moved.parts[name], field).device == meta
                assert getattr(moved.parts[name], field).shape == value.shape
    assert moved.own_B.device == meta
    assert batch.to(torch.device("cpu")) is batch


def test_an_unfinished_cache_is_refused(tmp_path):
    make_sequence_cache(tmp_path / "cache", [4, 4], unfinished=(1,))
    cache = TeacherCache.open(tmp_path / "cache", kinds=("whisper-mel",))
    with pytest.raises(Exception, match="1 of 2 shards are not finished"):
        read({"frames": cache})


def test_one_clip_alone_is_a_batch(tmp_path):
    cache = make_sequence_cache(tmp_path / "cache", [2], rows_per_object=7, most_rows=40)
    corpus = read({"frames": cache}, held_out_share=0)
    batch = replace(make_batches(corpus), clips_per_batch=1).epoch(0)(1)
    assert batch.rows("frames").lengths_B.shape == (1,)
