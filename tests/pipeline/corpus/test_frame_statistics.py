"""Frames per speaker: against numpy, shrinkage at its limits, and units as they fall back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.cache.sequences import SequenceReader
from pipeline.corpus.frame_statistics import (
    FrameSums,
    floor_of,
    frame_sums,
    new_front,
    normaliser_of,
    open_frames,
    source_of,
    units_of,
)
from pipeline.models.lengths import Lengths
from pipeline.models.speech_front import SpeechFront
from tests.helpers.caches import make_sequence_cache

CHANNELS = 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_sequence_cache(
        tmp_path_factory.mktemp("frames") / "cache", [9, 14], width=CHANNELS, dtype="float32"
    )


@pytest.fixture(scope="module")
def reader(cache):
    return SequenceReader(cache)


def front(**changes):
    options = {
        "source": {"width": CHANNELS}, "normalise": "speaker", "shrink_frames": 50.0, "floor": 0.05,
        "stack": 1, "read": "cls", "mean_C": torch.arange(CHANNELS).float(),
        "std_C": torch.ones(CHANNELS) * 2,
    }  # fmt: skip
    return SpeechFront(**{**options, **changes})


def all_rows(reader):
    return reader.values(np.arange(len(reader.clips))).float()


def test_sums_are_those_of_numpy_over_the_frames_of_each_speaker(cache, reader, tmp_path):
    units = units_of(reader.clips, "speaker")
    sums = frame_sums(cache, reader, units, "speaker", tmp_path)
    again = frame_sums(cache, reader, units, "speaker", tmp_path)  # read from the prepared file
    clips = all_rows(reader).split(reader.clips.rows.tolist())
    for unit in range(units.count):
        of_unit = np.concatenate(
            [clip.numpy() for clip, own in zip(clips, units.unit_P, strict=True) if own == unit]
        ).astype(np.float64)
        assert int(sums.count_U[unit]) == len(of_unit)
        np.testing.assert_allclose(sums.sum_UC[unit], of_unit.sum(0), rtol=1e-12)
        np.testing.assert_allclose(sums.square_UC[unit], (of_unit**2).sum(0), rtol=1e-12)
    assert all(getattr(again, name).equal(getattr(sums, name)) for name in vars(sums))
    mean_C, std_C = sums.whole()
    whole = all_rows(reader).numpy().astype(np.float64)
    np.testing.assert_allclose(mean_C, whole.mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(std_C, whole.std(0), rtol=1e-9)


def test_sums_add_up_in_any_order():
    values, unit = torch.randn(60, 3), torch.randint(0, 4, (60,))
    parts = []
    for rows in torch.randperm(60).split(17):
        part = FrameSums.none(4, 3)
        part.add(values[rows], unit[rows])
        parts.append(part)
    forth = parts[0].plus(parts[1]).plus(parts[2]).plus(parts[3])
    back = parts[3].plus(parts[2].plus(parts[1].plus(parts[0])))
    assert forth.count_U.equal(back.count_U)
    torch.testing.assert_close(forth.sum_UC, back.sum_UC, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(forth.square_UC, back.square_UC, rtol=1e-12, atol=1e-12)


def test_a_frame_is_off_its_speaker_by_the_shrunk_statistics(cache, reader):
    frames = open_frames(cache, reader, front(), None)
    place_B = torch.tensor([7, 2])
    rows = Lengths.of(torch.from_numpy(reader.clips.rows[place_B.numpy()]))
    raw_NC = reader.values(place_B.numpy())
    normal_NC = frames.normalised(raw_NC, rows, place_B)
    every = np.split(all_rows(reader).numpy().astype(np.float64), reader.clips.rows.cumsum()[:-1])
    start = 0
    for place in place_B.tolist():
        own = np.concatenate(
            [x for x, s in zip(every, reader.clips.speaker, strict=True)
             if s == reader.clips.speaker[place]]
        )  # fmt: skip
        n, kappa = len(own), 50.0
        mean = (n * own.mean(0) + kappa * np.arange(CHANNELS)) / (n + kappa)
        variance = (n * own.var(0) + kappa * 4.0) / (n + kappa)
        wanted = (every[place] - mean) / np.sqrt(variance)
        np.testing.assert_allclose(
            normal_NC[start : start + len(wanted)], wanted, rtol=1e-5, atol=1e-6
        )
        start += len(wanted)


def test_few_frames_take_the_corpus_and_many_their_own():
    sums = FrameSums.none(3, CHANNELS)
    values = torch.randn(4000, CHANNELS, dtype=torch.float64) * 0.3 + 7
    sums.add(values, torch.ones(4000, dtype=torch.int64))
    sums.add(values[:1], torch.full((1,), 2))
    unit_P = np.array([0, 1, 2])
    normaliser = normaliser_of(
        sums, unit_P, front().mean_C, front().std_C, front(shrink_frames=1e-6)
    )
    torch.testing.assert_close(normaliser.mean_UC[0], front().mean_C)  # nothing of it was heard
    torch.testing.assert_close(normaliser.std_UC[0], front().std_C)
    torch.testing.assert_close(normaliser.mean_UC[1], values.mean(0).float())
    torch.testing.assert_close(normaliser.std_UC[1], values.std(0, correction=0).float())
    assert normaliser.std_UC[2].min() == pytest.approx(0.05)  # one frame varies by nothing
    wide = normaliser_of(sums, unit_P, front().mean_C, front().std_C, front(shrink_frames=1e9))
    torch.testing.assert_close(wide.mean_UC[1], front().mean_C, atol=1e-4, rtol=1e-4)


def test_silence_and_flat_channels_stay_finite():
    sums = FrameSums.none(1, CHANNELS)
    silent_NC = torch.full((200, CHANNELS), -1.5)
    sums.add(silent_NC, torch.zeros(200, dtype=torch.int64))
    normaliser = normaliser_of(
        sums, np.zeros(1, np.int64), silent_NC[0], torch.zeros(CHANNELS), front(shrink_frames=0.0)
    )
    rows = Lengths.of(torch.tensor([200]))
    normal_NC = normaliser.normalised(silent_NC, rows, torch.zeros(1, dtype=torch.int64))
    assert normal_NC.equal(torch.zeros(200, CHANNELS))


def test_a_clip_takes_its_speaker_else_its_recording_else_itself(reader):
    clips = replace(
        reader.clips,
        speaker=["a", None, None, "a", None, *reader.clips.speaker[5:]],
        recording=["x", "x", None, "y", "x", *reader.clips.recording[5:]],
    )
    units = units_of(clips, "speaker")
    assert units.unit_P[:5].tolist() == [0, 1, 2, 0, 1]
    assert units.clips["utterance"] == 1
    assert units.clips["recording"] == 2
    assert "1 clips by utterance" in units.in_words()
    assert units_of(clips, "recording").unit_P[:5].tolist() == [0, 0, 1, 2, 0]
    assert units_of(clips, "utterance").unit_P.tolist() == list(range(len(clips)))
    assert set(units_of(clips, "global").unit_P.tolist()) == {0}


def test_global_normalises_by_the_corpus_of_pretraining_alone(cache, reader):
    frames = open_frames(cache, reader, front(normalise="global"), None)
    rows = Lengths.of(torch.from_numpy(reader.clips.rows[:1]))
    raw_NC = reader.values([0])
    normal_NC = frames.normalised(raw_NC, rows, torch.tensor([0]))
    torch.testing.assert_close(normal_NC, (raw_NC - torch.arange(CHANNELS)) / 2)


def test_a_new_front_is_that_of_its_cache(cache, reader, tmp_path):
    made = new_front(
        cache, reader, normalise="speaker", shrink_frames=500.0, stack=4, read="cls",
        folder=tmp_path,
    )  # fmt: skip
    assert made.source == source_of(cache.identity)
    assert made.source["hop_samples"] == 160
    assert "dtype" not in made.source
    whole = all_rows(reader).numpy()
    np.testing.assert_allclose(made.mean_C, whole.mean(0), rtol=1e-4, atol=1e-5)


def test_the_least_deviation_is_in_the_units_of_the_rows():
    assert floor_of("whisper-mel", torch.ones(3)) == 0.05
    assert floor_of("ctal-mel", torch.ones(3)) == pytest.approx(0.4605, abs=1e-3)
    assert floor_of("states", torch.tensor([1.0, 7.0, 70.0])) == pytest.approx(1.0)
