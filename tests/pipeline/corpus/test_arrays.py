"""Arrays on disk: written in pieces, read as a whole, and every damaged byte found."""

import numpy as np
import pytest
import torch

from pipeline.corpus import arrays as array_store
from pipeline.corpus.arrays import ArrayStore, ArrayWriter
from pipeline.foundation.errors import SpeechkdError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(array_store, "BLOCK_BYTES", 64)


def written(folder, pieces=(3, 50, 0, 70)):
    folder.mkdir()
    writer, rng = ArrayWriter(folder), np.random.default_rng(0)
    whole = {"a": [], "b": [], "none": []}
    for rows in pieces:
        for name, values in (
            ("a", rng.integers(0, 60_000, rows).astype(np.uint16)),
            ("b", rng.standard_normal((rows, 3)).astype(np.float16)),
            ("none", np.empty((0, 4), np.int64)),
        ):
            writer.append(name, values)
            whole[name].append(values)
    writer.close({"cut": 7})
    return {name: np.concatenate(parts) for name, parts in whole.items()}


def test_what_was_written_in_pieces_is_read_as_a_whole(tmp_path):
    whole = written(tmp_path / "s")
    store = ArrayStore(tmp_path / "s")
    assert store.facts == {"cut": 7}
    assert store.nbytes() == sum(values.nbytes for values in whole.values())
    for name, values in whole.items():
        assert store.rows(name) == len(values)
        assert store.nbytes(name) == values.nbytes
        for read in (store.map(name), store.load(name, CPU)):
            assert read.numpy().dtype == values.dtype
            np.testing.assert_array_equal(read.numpy(), values)


def test_other_types_in_one_array_are_refused(tmp_path):
    writer = ArrayWriter(tmp_path)
    writer.append("a", np.zeros(3, np.int32))
    for wrong in (np.zeros(3, np.int64), np.zeros((3, 1), np.int32)):
        with pytest.raises(ValueError, match="after int32"):
            writer.append("a", wrong)


def test_every_damaged_byte_is_found_when_loading(tmp_path):
    written(tmp_path / "s")
    file = tmp_path / "s" / "a.bin"
    sound = file.read_bytes()
    for place in (0, 63, 64, len(sound) - 1):
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(SpeechkdError, match=r"s is damaged .* Delete this folder"):
            ArrayStore(tmp_path / "s").load("a", CPU)
    with pytest.raises(SpeechkdError, match=r"a\.bin differs"):  # few blocks: all are tried
        ArrayStore(tmp_path / "s").map("a")


@pytest.mark.parametrize("how", ["cut", "longer", "gone", "no record", "torn record", "format"])
def test_a_damaged_folder_is_named(tmp_path, how):
    written(tmp_path / "s")
    file, record = tmp_path / "s" / "b.bin", tmp_path / "s" / "record.json"
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "longer":
        file.write_bytes(file.read_bytes() + b"x")
    elif how == "gone":
        file.unlink()
    elif how == "no record":
        record.unlink()
    elif how == "torn record":
        record.write_text(record.read_text()[:40])
    else:
        record.write_text(record.read_text().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(SpeechkdError, match="made anew from the cache"):
        ArrayStore(tmp_path / "s")
