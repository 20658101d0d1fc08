"""Any clips' rows are read in place, on a disk and in object storage."""

import pickle

import numpy as np
import pytest

from pipeline.cache.sequences import SequenceReader
from pipeline.foundation.errors import Damaged, SpeechkdError
from tests.helpers.caches import make_cache, make_sequence_cache, samples_of


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_sequence_cache(tmp_path_factory.mktemp("c") / "c", [30, 5, 20], most_rows=90)


def test_clips_are_those_of_the_samples_files(cache):
    clips, samples = SequenceReader(cache).clips, samples_of(cache)
    assert len(clips) == 55
    assert clips.key == samples.keys
    assert clips.text == samples.texts
    assert clips.recording == samples.recordings
    assert clips.speaker == samples.speakers
    np.testing.assert_array_equal(clips.row, samples.rows)
    np.testing.assert_array_equal(clips.duration_s, samples.durations_s)


def test_rows_of_random_clips_are_those_of_zarr(cache):
    import zarr

    reader, plain = SequenceReader(cache), zarr.open_group(cache.location, mode="r")["rows"][:]
    rng = np.random.default_rng(0)
    for _ in range(20):
        clip_B = rng.integers(0, len(reader.clips), rng.integers(1, 9))  # some of them twice
        row_B, rows_B = reader.clips.row[clip_B], reader.clips.rows[clip_B]
        wanted = np.concatenate(
            [plain[r : r + n] for r, n in zip(row_B.tolist(), rows_B.tolist(), strict=True)]
        )
        np.testing.assert_array_equal(reader.read(row_B, rows_B).numpy(), wanted)


def test_no_clip_gives_no_row(cache):
    assert SequenceReader(cache).read([], []).shape == (0, 8)
    assert SequenceReader(cache).values([]).shape == (0, 8)


def test_a_reader_may_go_to_another_process(cache):
    there = pickle.loads(pickle.dumps(SequenceReader(cache)))  # noqa: S301
    np.testing.assert_array_equal(
        there.values([3, 1]).numpy(), SequenceReader(cache).values([3, 1]).numpy()
    )


def test_unfinished_shards_are_left_out(tmp_path):
    cache = make_sequence_cache(tmp_path / "c", [3, 4, 5], unfinished=(1,))
    assert [key[:7] for key in SequenceReader(cache).clips.key] == ["clip-0-"] * 3 + ["clip-2-"] * 5


def test_bytes_become_values(tmp_path):
    exact = SequenceReader(make_sequence_cache(tmp_path / "f", [9], dtype="float32"))
    coded = SequenceReader(make_sequence_cache(tmp_path / "u", [9], dtype="uint8"))
    assert coded.read(coded.clips.row[:1], coded.clips.rows[:1]).numpy().dtype == np.uint8
    for clip in range(9):
        true, read = exact.values([clip]).numpy(), coded.values([clip]).numpy()
        assert np.abs(true - read).max() <= (true.max() - true.min()) / 510 * 1.0001
    order = [4, 0, 8, 4]
    np.testing.assert_array_equal(
        coded.values(order).numpy(), np.concatenate([coded.values([c]).numpy() for c in order])
    )


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda p: p.unlink(), "is missing"),
        (lambda p: p.write_bytes(p.read_bytes()[:-900]), "is too short"),
    ],
)
def test_a_damaged_object_is_named(tmp_path, spoil, what):
    cache = make_sequence_cache(tmp_path / "c", [9])
    reader = SequenceReader(cache)
    spoil(tmp_path / "c" / "rows" / "c" / "0" / "0")
    with pytest.raises(Damaged, match=rf"rows/c/0/0 {what}.*cache verify"):
        reader.values(range(9))


def test_vectors_are_no_sequences(tmp_path):
    with pytest.raises(SpeechkdError, match=r"cache of vectors.*extract-features"):
        SequenceReader(make_cache(tmp_path / "c", [2]))
