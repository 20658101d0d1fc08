"""No clip is judged that a student was trained on, and what is left out is said."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.hearing.clips import Clip
from pipeline.tasks.hearing.trainings import Training, Trainings
from pipeline.tasks.hearing.unheard import unheard


def clips(count=200, name="clip", speakers=10):
    return [
        Clip(f"{name}-{i}", f"text {i}", f"speaker-{i % speakers}", f"recording-{i // 4}", 0)
        for i in range(count)
    ]


def training(of, read):
    """What a run read of some clips: those at some places."""
    mine = [of[place] for place in read]
    return Training(
        location="TRAINING",
        known=frozenset(clip.said for clip in of),
        read=frozenset(clip.said for clip in mine),
        recordings=frozenset(clip.recording for clip in mine),
        speakers=frozenset(clip.speaker for clip in mine if clip.speaker),
        names=frozenset(clip.recording for clip in of),
        clips=len(of),
        trained=len(mine),
    )


def left(here, *trainings, what="recording", unchecked=()):
    each = {str(i): [one] for i, one in enumerate(trainings)}
    return unheard(here, Trainings(each, dict.fromkeys(unchecked, "gone")), what, "CACHE")


def test_recordings_that_any_student_was_trained_on_are_left_out():
    here = clips()
    result = left(here, training(here, range(100)), training(here, range(80, 140)))
    assert result.places == list(range(140, 200))
    assert "140 clips left out" in " ".join(result.notes)


def test_a_recording_of_which_one_clip_was_read_is_left_out_as_a_whole():
    here = clips()
    assert left(here, training(here, [0])).places == list(range(4, 200))


def test_the_same_clips_in_another_cache_are_known_by_key_and_text():
    """Such as words of the clips whose vectors a student was trained on."""
    here, before = clips(), clips(300)
    assert left(here, training(before, range(40))).places == list(range(40, 200))


def test_recordings_that_share_a_name_and_no_clip_are_others_and_that_is_said():
    """Files of two corpora may all be called 0001, 0002, …"""
    here, other = clips(), clips(name="other")
    result = left(here, training(other, range(100)))
    assert result.places == list(range(200))
    assert "names TRAINING has, too" in " ".join(result.notes)


def test_too_few_clips_are_refused_with_the_remedy():
    here = clips()
    with pytest.raises(SpeechkdError, match=r"16 clips of 200.*larger --held-out"):
        left(here, training(here, range(184)))


def test_what_cannot_be_checked_is_warned_of():
    result = left(clips(), unchecked=["crd"])
    assert result.places == list(range(200))
    assert "WARNING: which clips crd was trained on could not be told" in result.notes[0]


def test_by_itself_only_new_speakers_are_judged_if_there_are_enough():
    here, before = clips(400), clips(40, speakers=2)
    result = left(here, training(before, range(40)), what="auto")
    assert {here[place].speaker for place in result.places} == {
        f"speaker-{i}" for i in range(2, 10)
    }
    assert result.speakers == "unheard"


def test_with_few_new_speakers_all_are_judged_with_a_warning():
    here, before = clips(), clips(40, name="other", speakers=9)
    result = left(here, training(before, range(40)), what="auto")
    assert len(result.places) == 200
    assert result.speakers == "heard"
    assert "WARNING: a student was trained on other recordings of the speakers" in result.notes[-1]


def test_new_speakers_can_be_asked_for_and_refused():
    here, before = clips(), clips(40, name="other", speakers=9)
    result = left(here, training(before, range(40)), what="speaker")
    assert {here[place].speaker for place in result.places} == {"speaker-9"}
    all_heard = training(clips(40, name="other"), range(40))
    with pytest.raises(SpeechkdError, match="0 clips of CACHE are of speakers that no"):
        left(here, all_heard, what="speaker")


def test_where_no_speaker_is_named_none_can_be_asked_for():
    here = [Clip(c.key, c.text, None, c.recording, 0) for c in clips()]
    assert left(here, what="auto").speakers == "unknown"
    with pytest.raises(SpeechkdError, match="names no speaker"):
        left(here, what="speaker")
