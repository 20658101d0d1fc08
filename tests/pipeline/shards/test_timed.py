"""Recordings with files of times beside them become clips with the right audio, text and words."""

import json

import numpy as np
import pytest
import soundfile

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.corpora import open_source
from pipeline.shards.decoding import decode
from pipeline.shards.refusals import Refusal
from pipeline.shards.settings import ShardSettings
from pipeline.shards.timed import Cutting
from stages import shard
from tests.stages.test_shard import members

RATE = 8_000


def recording(path, seconds=20.0, channels=1):
    """Each second of a channel is a constant of its own, so that a clip tells where it was cut."""
    second_S = np.arange(round(seconds * RATE)) // RATE
    wave_SC = np.stack([(second_S + 1) / 32 * (-1) ** c for c in range(channels)], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave_SC, RATE, subtype="FLOAT", format="WAV")
    return path


def clips(folder, out, **options):
    shard.run(ShardSettings(source=folder, out=out, workers=0, max_refused=1, **options))
    found = {}
    for name, content in members(out):
        key, _, suffix = name.rpartition(".")
        found.setdefault(key, {})[suffix] = content
    return {
        key: (json.loads(sample["json"]), decode(sample["flac"])) for key, sample in found.items()
    }


SRT = """1
00:00:02,000 --> 00:00:04,000
two and three

2
00:00:04,300 --> 00:00:06,000
four

3
00:00:06,000 --> 00:00:30,000
over the end
"""


def test_a_recording_is_cut_where_its_subtitles_say(tmp_path):
    recording(tmp_path / "in" / "a" / "talk.wav")
    (tmp_path / "in" / "a" / "talk.srt").write_text(SRT)
    made = clips(tmp_path / "in", tmp_path / "out")
    assert list(made) == ["a/talk_2.000_4.000", "a/talk_4.300_6.000"]
    described, wave_S = made["a/talk_2.000_4.000"]
    assert described == {
        "text": "two and three",
        "duration_s": 2.0,
        "speaker": None,
        "recording": "a/talk",
    }
    assert len(wave_S) == 32_000
    np.testing.assert_allclose(wave_S[[4_000, 28_000]], [3 / 32, 4 / 32], atol=1e-3)
    (refused,) = (tmp_path / "out" / "refused.jsonl").read_text().splitlines()
    assert json.loads(refused)["reason"] == "segment outside the recording"
    joined = clips(tmp_path / "in", tmp_path / "joined", join=0.3)
    assert joined["a/talk_2.000_6.000"][0]["text"] == "two and three four"


def test_times_of_words_count_from_the_clips_start_also_when_divided(tmp_path):
    recording(tmp_path / "in" / "talk.wav")
    words = [{"word": f"w{i}", "start": i + 0.25, "end": i + 0.75} for i in range(1, 20)]
    words[4] = {"word": "w5"}
    text = " ".join(word["word"] for word in words)
    segment = {"start": 1.25, "end": 19.75, "text": text, "words": words, "speaker": "SPEAKER_00"}
    (tmp_path / "in" / "talk.json").write_text(json.dumps({"segments": [segment]}))
    made = clips(tmp_path / "in", tmp_path / "out")
    assert " ".join(described["text"] for described, _ in made.values()) == text
    for key, (described, wave_S) in made.items():
        start_s = float(key.split("_")[1])
        assert described["speaker"] == "talk/SPEAKER_00"
        for word in described["words"]:
            if word["text"] == "w5":
                assert word["start_s"] is word["end_s"] is None
            else:
                assert word["start_s"] + start_s == pytest.approx(int(word["text"][1:]) + 0.25)
                middle = round(16_000 * (word["start_s"] + word["end_s"]) / 2)
                assert wave_S[middle] * 32 == pytest.approx(int(word["text"][1:]) + 1, abs=0.05)


def test_the_channel_of_an_stm_is_the_one_that_is_heard(tmp_path):
    recording(tmp_path / "in" / "call.wav", channels=2)
    (tmp_path / "in" / "call.stm").write_text(
        "call A x 1 2 one\ncall B y 1 2 other\ncall 3 z 1 2 c"
    )
    made = clips(tmp_path / "in", tmp_path / "out")
    heard = {said["text"]: wave_S[8_000] for said, wave_S in made.values()}
    assert heard["one"] == pytest.approx(2 / 32, abs=1e-3)
    assert heard["other"] == pytest.approx(-2 / 32, abs=1e-3)
    recording(tmp_path / "mono" / "call.wav")
    (tmp_path / "mono" / "call.stm").write_text("call A x 1 2 one\ncall B y 1 2 other\n")
    assert [said["text"] for said, _ in clips(tmp_path / "mono", tmp_path / "o").values()] == [
        "one"
    ]
    (refused,) = (tmp_path / "o" / "refused.jsonl").read_text().splitlines()
    assert "channel 2 is wanted, and the recording has 1" in refused


def entries(folder, **options):
    source = open_source(folder, cutting=Cutting(**options))
    return list(source.read()), source.notes.lines()


def test_speakers_of_an_rttm_and_texts_of_a_line_per_turn(tmp_path):
    recording(tmp_path / "a.wav")
    (tmp_path / "a.rttm").write_text(
        "SPEAKER a 1 5 2 <NA> <NA> spk1 <NA> <NA>\nSPEAKER a 1 1 2 <NA> <NA> ben <NA> <NA>\n"
    )
    (tmp_path / "a.txt").write_text("first\n\nsecond\n")
    (one, two), notes = entries(tmp_path)
    assert (one.text, one.speaker, one.start_s) == ("first", "ben", 1)
    assert (two.text, two.speaker, two.end_s) == ("second", "a/spk1", 7)
    assert notes == ["files of times: 1 of RTTM with a text"]
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    ((refused,), _) = entries(tmp_path)
    assert (refused.reason, "3 lines" in refused.detail) == ("unusable file of times", True)
    (tmp_path / "a.txt").write_text("all that is said\n")
    ((whole,), _) = entries(tmp_path)
    assert (whole.text.strip(), whole.start_s, whole.speaker) == ("all that is said", None, None)
    (tmp_path / "a.srt").write_text("1\n00:00:01,200 --> 00:00:02,000\nhello\n")
    ((one,), _) = entries(tmp_path)
    assert (one.text, one.speaker) == ("hello", "ben")


def test_what_is_broken_or_empty_is_refused_by_name_and_the_rest_is_read(tmp_path):
    for name in ("a", "b", "c", "d", "e"):
        recording(tmp_path / f"{name}.wav", 2)
    (tmp_path / "a.srt").write_bytes(b"1\n00:00:01,000 --> 00:00:02,000\ncaf\xe9\n")
    (tmp_path / "b.eaf").write_text('<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>')
    (tmp_path / "c.TextGrid").write_text("nothing")
    (tmp_path / "d.json").write_text('{"segments": []}')
    (tmp_path / "e.json").write_text('{"speaker": "other metadata"}')
    (tmp_path / "e.txt").write_text("a plain text")
    found, _ = entries(tmp_path)
    assert [getattr(item, "reason", item.key) for item in found] == [
        "unusable file of times",
        "unusable file of times",
        "unusable file of times",
        "missing text",
        "e",
    ]
    assert "not UTF-8" in found[0].detail
    assert found[2].where.endswith("c.TextGrid")
    assert found[4].text == "a plain text"
    assert found[4].start_s is None


def test_overlapping_speakers_are_counted_and_equal_times_are_two_clips(tmp_path):
    recording(tmp_path / "a.wav")
    (tmp_path / "a.stm").write_text("a 1 x 1 2 yes\na 1 y 1 2 no\na 1 x 2 3 so\n")
    found, notes = entries(tmp_path, join_s=1)
    assert [entry.key for entry in found] == ["a_1.000_2.000", "a_1.000_2.000_2", "a_2.000_3.000"]
    assert notes[1] == "segments that another speaker overlaps, so that both are heard: 1"


def test_labels_in_a_txt_are_times_and_not_said(tmp_path):
    recording(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("1.0\t2.0\thello\n3.0\t4.0\t\n")
    ((one,), _) = entries(tmp_path)
    assert (one.text, one.start_s, one.end_s) == ("hello", 1, 2)


def test_a_folder_with_subtitles_alone_is_a_folder_and_other_json_does_not_make_one(tmp_path):
    recording(tmp_path / "a" / "a.wav")
    (tmp_path / "a" / "a.en.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nhello\n")
    assert open_source(tmp_path / "a").layout == "folder"
    recording(tmp_path / "b" / "b.wav")
    (tmp_path / "b" / "b.json").write_text('{"other": 1}')
    with pytest.raises(SpeechkdError, match="TextGrid"):
        open_source(tmp_path / "b")
    (refused,) = open_source(tmp_path / "b", "folder").read()
    assert isinstance(refused, Refusal)
