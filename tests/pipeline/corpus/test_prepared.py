"""The prepared folder is the cache's own content, made once, whole, and anew if it differs."""

import multiprocessing
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import write_vectors
from pipeline.corpus.arrays import ArrayWriter
from pipeline.corpus.prepared import Prepared
from pipeline.corpus.prepared_texts import recording_numbers
from pipeline.foundation.errors import NotThere, SpeechkdError
from tests.helpers.caches import (
    identity,
    make_cache,
    make_sequence_cache,
    manifest,
    samples_of,
    shard_result,
    vectors_of,
    wordpiece,
)
from tests.helpers.rights import without_powers


@pytest.fixture
def cache(tmp_path):
    return make_cache(tmp_path / "cache", [40, 300, 20])


def texts_of(store):
    ids = store.map("ids").to(torch.int64)
    starts, lengths = store.map("starts").tolist(), store.map("lengths").tolist()
    return [ids[s : s + n].tolist() for s, n in zip(starts, lengths, strict=True)]


def test_tokens_are_the_tokenizers_own(cache):
    tokenizer = wordpiece(cache)
    store = Prepared(cache).tokens(tokenizer, 32)
    samples = samples_of(cache)
    assert texts_of(store) == [tokenizer(text)["input_ids"] for text in samples.texts]
    assert store.map("rows").tolist() == samples.rows.tolist()
    assert store.map("ids").dtype == torch.uint16


def test_vectors_are_the_caches_own_at_their_places(cache):
    ready = Prepared(cache)
    store, tokens = ready.vectors(), ready.tokens(wordpiece(cache), 32)
    np.testing.assert_array_equal(store.map("vectors"), vectors_of(cache))
    assert tokens.map("places").tolist() == list(range(360))
    statistics = cache.statistics()
    assert store.map("mean").tolist() == statistics.mean_E.tolist()
    assert store.map("std").tolist() == statistics.std_E.tolist()


def test_refused_samples_and_empty_texts_leave_no_gap(tmp_path):
    cache = TeacherCache.create_or_open(tmp_path / "cache", manifest([6, 5]), identity(8), {})
    first, second = shard_result(6, 8, 0, refused=(0, 3)), shard_result(5, 8, 1)
    second.samples[2]["text"] = " \t "
    write_vectors(cache, 0, first, {})
    write_vectors(cache, 1, second, {})
    ready = Prepared(cache)
    tokens, vectors = ready.tokens(wordpiece(cache), 32), ready.vectors()
    assert tokens.facts["dropped"] == ["clip-1-2"]
    found = vectors.map("vectors")[tokens.map("places")]
    rows = tokens.map("rows").tolist()
    assert rows == [1, 2, 4, 5, 256, 257, 259, 260]
    wanted = [*first.vectors_NE[[1, 2, 4, 5]], *second.vectors_NE[[0, 1, 3, 4]]]
    np.testing.assert_array_equal(found, np.array(wanted))


def test_wide_vocabularies_take_wider_ids(cache):
    words = {f"w{i}": i + 5 for i in range(70_000)}
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    tokenizer = BertTokenizer(vocab={**special, **words, "cat": 70_005})
    store = Prepared(cache).tokens(tokenizer, 32)
    assert store.map("ids").dtype == torch.int32
    assert int(store.map("ids").max()) == 70_005


def test_what_is_there_is_not_made_again_and_what_differs_is(cache, monkeypatch):
    tokenizer = wordpiece(cache)
    ready = Prepared(cache)
    stores = {ready.tokens(tokenizer, 32).folder, ready.vectors().folder}
    piece = ready.wordpiece(200, lowercase=True, max_tokens=32)
    assert all(path.parent == cache.folder.path.with_name("cache.prepared") for path in stores)

    def fail(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(TeacherCache, "shard_samples", fail)
    monkeypatch.setattr(TeacherCache, "block", fail)
    again = Prepared(TeacherCache.open(cache.location))
    loaded = BertTokenizer.from_pretrained(piece)
    assert {again.tokens(loaded, 32).folder, again.vectors().folder} == stores
    assert again.wordpiece(200, lowercase=True, max_tokens=32) == piece
    for make in (
        lambda: again.tokens(tokenizer, 16),
        lambda: again.tokens(BertTokenizer(vocab=tokenizer.get_vocab(), do_lower_case=False), 32),
        lambda: again.wordpiece(200, lowercase=False, max_tokens=32),
    ):
        with pytest.raises(AssertionError, match="made again"):
            make()


def prepare(location):
    ready = Prepared(TeacherCache.open(location))
    ready.vectors()
    ready.tokens(wordpiece(ready.cache), 32)


def test_two_processes_at_once(cache):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=prepare, args=(cache.location,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    left = sorted(
        p.name.split("-")[0] for p in (cache.folder.path.parent / "cache.prepared").iterdir()
    )
    assert left == [".tokens", ".vectors", "tokens", "vectors"], "a lock and a folder of each"
    np.testing.assert_array_equal(Prepared(cache).vectors().map("vectors"), vectors_of(cache))


def killed_at_piece(location, last):
    append, count = ArrayWriter.append, iter(range(10**6))

    def dying(self, name, values):
        if next(count) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        append(self, name, values)

    ArrayWriter.append = dying
    prepare(location)


def test_killed_at_any_piece_the_next_process_makes_it_whole(cache):
    for last in (0, 2, 4, 6, 12, 15):  # within vectors, then within tokens
        process = multiprocessing.get_context("fork").Process(
            target=killed_at_piece, args=(cache.location, last)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    prepare(cache.location)
    folder = cache.folder.path.parent / "cache.prepared"
    assert not list(folder.glob("*.partial"))
    ready = Prepared(cache)
    np.testing.assert_array_equal(ready.vectors().map("vectors"), vectors_of(cache))
    tokenizer = wordpiece(cache)
    wanted = [tokenizer(text)["input_ids"] for text in samples_of(cache).texts]
    assert texts_of(ready.tokens(tokenizer, 32)) == wanted


def test_a_damaged_cache_is_not_copied(cache):
    file = cache.folder.path / "embedding" / "c" / "1" / "0"
    content = bytearray(file.read_bytes())
    content[9] ^= 1
    file.write_bytes(content)
    with pytest.raises(SpeechkdError, match="shard 1 are not those of its receipt"):
        Prepared(TeacherCache.open(cache.location)).vectors()


def test_a_cache_that_may_only_be_read(cache, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    cache.folder.path.parent.chmod(0o555)
    try:
        folder = without_powers(lambda: Prepared(cache).vectors().folder)
    finally:
        cache.folder.path.parent.chmod(0o755)
    assert folder.is_relative_to(tmp_path / "home" / "speechkd")


def test_a_named_folder_and_the_users_own(cache, tmp_path, monkeypatch):
    assert Prepared(cache, tmp_path / "here").vectors().folder.parent == tmp_path / "here"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("os.access", lambda *_: False)
    assert Prepared(cache).folder == tmp_path / "home" / "speechkd" / "prepared"


def test_a_full_disk_is_told_before_anything_is_copied(cache, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(SpeechkdError, match="--prepared"):
        Prepared(cache).vectors()


def test_names_are_numbered_by_first_appearance():
    names = np.array([70, -1, 5, 70, 9, -1, 5], np.int64)
    assert recording_numbers(names).tolist() == [0, -1, 1, 0, 2, -1, 1]
    assert recording_numbers(np.array([-1, -1])).tolist() == [-1, -1]
    assert recording_numbers(np.empty(0, np.int64)).tolist() == []


def test_an_unfinished_cache_of_frames_names_the_command_that_makes_frames(tmp_path):
    frames = make_sequence_cache(tmp_path / "mels", [3, 2], unfinished=(1,))
    with pytest.raises(NotThere, match=r"1 of 2 shards .*extract-features --features whisper-mel"):
        Prepared(frames)
