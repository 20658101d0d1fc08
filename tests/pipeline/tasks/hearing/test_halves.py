"""Two halves and their folds share no speaker, or else no recording, and are of about one size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.hearing.clips import Clip
from pipeline.tasks.hearing.halves import UNKNOWN, dealt, halve, numbers


def clips(speakers, recordings):
    pairs = zip(speakers, recordings, strict=True)
    return [Clip(str(i), "text", who, where, 0) for i, (who, where) in enumerate(pairs)]


@given(seed=st.integers(0, 1000), units=st.integers(2, 30), parts=st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_whole_units_are_dealt_to_parts_that_differ_by_a_unit_at_most(seed, units, parts):
    rng = np.random.default_rng(seed)
    unit = np.concatenate([np.arange(units), rng.integers(0, units, 60)])
    part = dealt(unit, parts, seed)
    assert all(len(set(part[unit == one].tolist())) == 1 for one in range(units))
    sizes = np.bincount(part, minlength=parts)
    assert sizes.max() - sizes.min() <= np.bincount(unit).max()
    assert (dealt(unit, parts, seed) == part).all()


def test_halves_share_no_speaker_and_folds_none_either():
    speakers = [f"s{i % 12}" for i in range(96)]
    recordings = [f"s{i % 12}-r{i // 24}" for i in range(96)]
    halves = halve(clips(speakers, recordings), "auto", 0)
    assert halves.by == "speaker"
    assert (halves.speakers, halves.recordings) == (12, 48)
    homes = {}
    for speaker, half, fold in zip(speakers, halves.half_C, halves.fold_C, strict=True):
        assert homes.setdefault(speaker, (half, fold)) == (half, fold)
    assert sorted(set(homes.values())) == [(half, fold) for half in (0, 1) for fold in range(4)]


@pytest.mark.parametrize("speakers", [["a", "b", "c"] * 10, [*["a", "b", "c", "d"] * 7, None, "e"]])
def test_with_few_speakers_or_an_unknown_one_halves_share_no_recording(speakers):
    recordings = [f"r{i // 3}" for i in range(30)]
    halves = halve(clips(speakers, recordings), "auto", 0)
    assert halves.by == "recording"
    for one in range(10):
        assert len(set(halves.half_C[3 * one : 3 * one + 3].tolist())) == 1


def test_clips_of_unknown_recordings_are_recordings_of_their_own():
    halves = halve(clips([None] * 10, [None] * 10), "auto", 0)
    assert halves.recordings == 10
    assert np.bincount(halves.half_C).tolist() == [5, 5]
    assert set(halves.speaker_C.tolist()) == {UNKNOWN}


def test_where_no_speaker_is_known_the_recording_stands_for_it():
    recordings = [f"r{i // 2}" for i in range(12)]
    halves = halve(clips([None] * 12, recordings), "auto", 0)
    assert halves.speaker_C.tolist() == [i // 2 for i in range(12)]
    # a recording that is called like a speaker is another group
    mixed = halve(clips(["r1", *[None] * 11], recordings), "auto", 0)
    assert mixed.speaker_C[0] not in mixed.speaker_C[1:]


@pytest.mark.parametrize(
    ("speakers", "recordings", "by", "message"),
    [
        (["a"] * 30, ["r1", "r2", "r3"] * 10, "auto", "3 recordings; at least 4"),
        (["a"] * 30, [None] * 30, "speaker", "1 speakers are known"),
        (["a", "b", None] * 10, [None] * 30, "speaker", "some clips have none"),
        (["a", *["b"] * 29], ["x", *"yz" * 14, "w"], "speaker", "a single recording"),
    ],
)
def test_too_few_recordings_or_speakers_are_refused(speakers, recordings, by, message):
    with pytest.raises(SpeechkdError, match=message):
        halve(clips(speakers, recordings), by, 0)


def test_names_are_numbered_by_their_first_appearance():
    assert numbers(["b", "a", None, "b"]).tolist() == [0, 1, -1, 0]
    assert numbers(["b", None, None, "b"], own=True).tolist() == [0, 1, 2, 0]
