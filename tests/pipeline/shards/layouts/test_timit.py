"""TIMIT in capitals and in small letters, with the times of its words."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.decoding import read_clip
from tests.helpers.corpora import put, put_audio, read, told


def sentence(folder, name, text, words="", upper=True):
    case = str.upper if upper else str.lower
    put_audio(folder / case(f"{name}.wav"), kind="NIST")
    put(folder / case(f"{name}.txt"), text)
    put(folder / case(f"{name}.phn"), "0 100 h#\n")
    if words:
        put(folder / case(f"{name}.wrd"), words)


def test_sentences_words_and_speakers(tmp_path):
    anna = tmp_path / "TRAIN" / "DR1" / "FCJF0"
    sentence(anna, "sa1", "0 16000 She had.\n", "1600 4000 she\n4000 8000 had\n")
    sentence(anna, "sa2", "She had.\n")
    sentence(tmp_path / "TEST" / "DR2" / "MABC0", "sx3", "0 100 Yes.\n", upper=False)
    with pytest.raises(SpeechkdError, match="TEST, TRAIN"):
        read(tmp_path, "timit")
    found = read(tmp_path, "timit", split="TRAIN")
    assert told(found) == [
        ("TRAIN/DR1/FCJF0/SA1", "She had.\n", "FCJF0"),
        ("TRAIN/DR1/FCJF0/SA2", "unusable file of times"),
    ]
    assert found[0].words == (("she", 0.1, 0.25), ("had", 0.25, 0.5))
    assert found[0].path == anna / "SA1.WAV"
    assert len(read_clip(found[0].path)) == 32_000
    (one,) = read(tmp_path / "TEST", "timit")
    assert (one.key, one.path.name) == ("TEST/DR2/MABC0/sx3", "sx3.wav")
    sentence(anna, "sa1", "0 16000 She had.\n", "1600 she\n")
    assert "not a word" in read(tmp_path / "TRAIN", "timit")[0].detail
