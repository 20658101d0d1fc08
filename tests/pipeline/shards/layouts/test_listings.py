"""STM and CTM files of recordings that lie elsewhere, and TED-LIUM's folders."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from tests.helpers.corpora import put, put_audio, read, told

STM = "talk 1 anna 0.0 1.0 <o,f0> hello\nabsent 1 ben 0 1 <o> hm\n"


def test_an_stm_of_several_recordings_below_a_folder(tmp_path):
    put_audio(tmp_path / "audio" / "x" / "talk.wav")
    path = put(tmp_path / "all.stm", STM)
    found = read(path, "listing", audio_folder=tmp_path / "audio")
    assert told(found) == [("x/talk_0.000_1.000", "hello", "anna"), ("absent", "missing audio")]
    assert found[0].path == tmp_path / "audio" / "x" / "talk.wav"
    put_audio(tmp_path / "audio" / "y" / "talk.flac", kind="FLAC")
    (doubtful, _) = read(path, "listing", audio_folder=tmp_path / "audio")
    assert "2 recordings are called 'talk'" in doubtful.detail


def test_a_ctm_joins_words_up_to_a_pause(tmp_path):
    put_audio(tmp_path / "talk.wav")
    path = put(tmp_path / "all.ctm", "talk 1 0 0.2 hello\ntalk 1 0.3 0.2 you\ntalk 1 1.5 0.2 bye\n")
    found = read(path, "listing")
    assert [entry.text for entry in found] == ["hello you", "bye"]
    assert [word.start_s for word in found[0].words] == [0, 0.3]


def test_ted_liums_folders_with_sphere_files(tmp_path):
    for split in ("train", "dev"):
        put_audio(tmp_path / split / "sph" / "talk.sph", kind="NIST")
        put(tmp_path / split / "stm" / "talk.stm", STM.splitlines()[0])
    with pytest.raises(SpeechkdError, match="dev, train"):
        read(tmp_path, "listing")
    (entry,) = read(tmp_path, "listing", split="train")
    assert entry.path == tmp_path / "train" / "sph" / "talk.sph"
    assert entry.key == "sph/talk_0.000_1.000"


def test_a_broken_listing_is_told_with_its_line(tmp_path):
    with pytest.raises(SpeechkdError, match=r"all\.stm: line 2 has 3 fields"):
        read(put(tmp_path / "all.stm", "talk 1 a 0 1 x\ntalk 1 a\n"), "listing")
