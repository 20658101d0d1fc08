"""LibriTTS, Multilingual LibriSpeech and VCTK."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from tests.helpers.corpora import put, put_audio, read, told


def test_libritts_takes_the_normalized_texts(tmp_path):
    chapter = tmp_path / "LibriTTS" / "dev-clean" / "84" / "121123"
    put_audio(chapter / "84_121123_000007_000001.wav")
    put(chapter / "84_121123_000007_000001.original.txt", "Dr. No, 2")
    put(chapter / "84_121123_000007_000001.normalized.txt", "Doctor No, two")
    put(chapter / "84_121123.trans.tsv", "84_121123_000007_000001\ta\tb\n")
    put(chapter / "84_121123_000008_000000.normalized.txt", "no audio")
    for source in (tmp_path / "LibriTTS", tmp_path / "LibriTTS" / "dev-clean"):
        found = read(source, "libritts")
        assert told(found) == [
            ("84_121123_000007_000001", "Doctor No, two", "84"),
            ("84_121123_000008_000000", "no audio", "84"),
        ]
    assert found[0].recording == "84_121123"
    assert found[0].path == chapter / "84_121123_000007_000001.wav"
    assert not found[1].path.exists()


def test_mls(tmp_path):
    split = tmp_path / "mls_german" / "train"
    put(split / "transcripts.txt", "10_20_000001\tguten tag\nbroken line\n\n10_20_000002\tja\n")
    put(split / "segments.txt", "10_20_000001\thttp://x\t1.0\t2.0\n")
    put_audio(split / "audio" / "10" / "20" / "10_20_000001.flac", kind="FLAC")
    put(tmp_path / "mls_german" / "test" / "transcripts.txt", "1_2_000000\ta\n")
    put_audio(
        tmp_path / "mls_german" / "test" / "audio" / "1" / "2" / "1_2_000000.opus", kind="OGG"
    )
    found = read(split, "mls")
    assert told(found) == [
        ("10_20_000001", "guten tag", "10"),
        ("line 2", "malformed row"),
        ("10_20_000002", "ja", "10"),
    ]
    assert (found[0].recording, found[0].path.name) == ("10_20", "10_20_000001.flac")
    with pytest.raises(SpeechkdError, match="test, train"):
        read(tmp_path / "mls_german", "mls")
    (one,) = read(tmp_path / "mls_german", "mls", split="test")
    assert one.path.suffix == ".opus"
    with pytest.raises(SpeechkdError, match="no split 'dev'"):
        read(tmp_path / "mls_german", "mls", split="dev")
    with pytest.raises(SpeechkdError, match="one split itself"):
        read(split, "mls", split="test")


def test_vctk_takes_one_of_two_microphones(tmp_path):
    for name, text in (("p225_001", "Please call Stella.\n"), ("p225_002", "Ask her.")):
        put(tmp_path / "txt" / "p225" / f"{name}.txt", text)
    for name in ("p225_001_mic1", "p225_001_mic2"):
        put_audio(tmp_path / "wav48_silence_trimmed" / "p225" / f"{name}.flac", kind="FLAC")
    put_audio(tmp_path / "wav48_silence_trimmed" / "p225" / "p225_002.wav")
    one, two = read(tmp_path, "vctk")
    assert (one.key, one.text, one.speaker) == ("p225_001", "Please call Stella.\n", "p225")
    assert one.path.name == "p225_001_mic1.flac"
    assert two.path.name == "p225_002.wav"
    with pytest.raises(SpeechkdError, match="--split changes nothing in the vctk layout"):
        read(tmp_path, "vctk", split="train")
