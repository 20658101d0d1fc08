"""Exported sequences are plain NumPy arrays with a line per clip; vectors: stages/test_cache."""

import json

import numpy as np
import pytest

from pipeline.cache.export import export
from pipeline.cache.sequences import SequenceReader
from pipeline.foundation.errors import Damaged, SpeechkdError
from tests.helpers.caches import make_sequence_cache, shard_result, write_sequences

CASES = [
    ("whisper-mel", "float16"),
    ("whisper-mel", "uint8"),
    ("words", "float32"),
    ("text", "float16"),
]


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def made(folder, kind="whisper-mel", dtype="float16"):
    """Two shards of several objects each, and a refused clip."""
    cache = make_sequence_cache(folder / "c", [9, 30], kind, dtype=dtype)
    write_sequences(cache, 0, shard_result(9, 1, 0, refused=(4,)))
    return cache


@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_each_clips_rows_are_where_the_offsets_say(tmp_path, kind, dtype):
    cache = made(tmp_path, kind, dtype)
    assert list(export(cache, tmp_path / "out")) == [0, 1]
    rows, offsets = (np.load(tmp_path / "out" / f"{name}.npy") for name in ("rows", "offsets"))
    samples, reader = lines(tmp_path / "out" / "samples.jsonl"), SequenceReader(cache)
    assert rows.shape == (cache.rows, 8)
    assert rows.dtype == (np.float32 if dtype == "uint8" else dtype)
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [0, *np.cumsum(reader.clips.rows).tolist()]
    assert [s["key"] for s in samples] == reader.clips.key
    assert "clip-0-4" not in reader.clips.key
    assert [(s["row"], s["rows"]) for s in samples] == list(
        zip(offsets[:-1].tolist(), np.diff(offsets).tolist(), strict=True)
    )
    assert {s["shard"] for s in samples} == {"s-000000.tar", "s-000001.tar"}
    for clip in (0, 7, 8, 37):
        np.testing.assert_array_equal(
            rows[offsets[clip] : offsets[clip + 1]], reader.values([clip]).numpy()
        )
    if kind == "text":
        ids = np.load(tmp_path / "out" / "ids.npy")
        wanted = reader.ids(reader.clips.row, reader.clips.rows).numpy()
        np.testing.assert_array_equal(ids, wanted)
    if kind == "words":
        words = lines(tmp_path / "out" / "words.jsonl")
        assert len(words) == len(rows)
        wanted = [
            {
                "clip": key,
                "word": word["text"],
                **{name: word[name] for name in ("start_s", "end_s", "trusted")},
            }
            for key, told in zip(reader.clips.key, reader.clips.words, strict=True)
            for word in told
        ]
        assert words == wanted


def test_a_second_export_compares_and_writes_nothing(tmp_path):
    cache = made(tmp_path)
    list(export(cache, tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    list(export(cache, tmp_path / "out"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("name", ["rows.npy", "offsets.npy", "samples.jsonl"])
@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda _: None])
def test_anything_else_is_refused(tmp_path, name, change):
    cache = made(tmp_path)
    list(export(cache, tmp_path / "out"))
    path = tmp_path / "out" / name
    raw = change(path.read_bytes())
    path.unlink() if raw is None else path.write_bytes(raw)
    with pytest.raises(SpeechkdError, match="is not the export of this cache"):
        list(export(cache, tmp_path / "out"))


def test_damage_is_not_exported(tmp_path):
    cache = made(tmp_path)
    path = tmp_path / "c" / "rows" / "c" / "0" / "0"
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(Damaged, match="rows/c/0/0 is not that of its receipt"):
        list(export(cache, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
