"""Hugging Face's audiofolder: a table of metadata in the folder of each split."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from tests.helpers.corpora import put, put_audio, read, told


def test_splits_with_metadata_of_their_own(tmp_path):
    put(tmp_path / "train" / "metadata.csv", "file_name,transcription\nclips/a.wav,hello\n")
    put(tmp_path / "test" / "metadata.jsonl", '{"file_name": "a.wav", "text": "bye"}\n')
    put_audio(tmp_path / "train" / "clips" / "a.wav")
    put_audio(tmp_path / "test" / "a.wav")
    with pytest.raises(SpeechkdError, match="test, train"):
        read(tmp_path, "audiofolder")
    (one,) = read(tmp_path, "audiofolder", split="train")
    assert (one.key, one.text) == ("train/clips/a", "hello")
    assert one.path == tmp_path / "train" / "clips" / "a.wav"
    both = read(tmp_path, "audiofolder", split="all")
    assert told(both) == [("test/a", "bye", None), ("train/clips/a", "hello", None)]


def test_a_table_at_the_top_is_a_table(tmp_path):
    put(tmp_path / "metadata.csv", "file_name,text\ntrain/a.wav,hello\n")
    put_audio(tmp_path / "train" / "a.wav")
    assert told(read(tmp_path, "table")) == [("train/a", "hello", None)]
