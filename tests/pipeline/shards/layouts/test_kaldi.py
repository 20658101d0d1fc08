"""Kaldi's data folders: with segments and without, and what is never run."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.settings import ShardSettings
from stages import shard
from tests.helpers.corpora import put, put_audio, read, told


def data(folder, **files):
    for name, text in {"wav.scp": "", "text": "", **files}.items():
        put(folder / name.replace("_scp", ".scp"), text)
    return folder


def test_segments_of_recordings_with_speakers(tmp_path):
    put_audio(tmp_path / "audio" / "my call.wav", 20)
    data(
        tmp_path,
        wav_scp="call audio/my call.wav\n",
        segments="u2 call 5.00 7.5\nu1 call 1.0 4.0\nu3 call 8 -1\nu4 other 1 2\nu5 call 1\n"
        "u6 call x 2\nu7 call 9 10\n",
        text="u1\thello there\r\nu2 you\nu3 to the end\nu4 a\nu5 b\nu6 c\nu8 lost\n",
        utt2spk="u1 anna\nu2 u2\nu3 anna\n",
    )
    found = read(tmp_path, "kaldi")
    assert told(found) == [
        ("u3", "to the end", "anna"),
        ("u4", "missing audio"),
        ("u5", "malformed row"),
        ("u6", "segment outside the recording"),
        ("u7", "missing text"),
        ("u1", "hello there", "anna"),
        ("u2", "you", None),
        *[(key, "missing audio") for key in ("u5", "u6", "u8")],
    ]
    entries = {entry.key: entry for entry in found if hasattr(entry, "text")}
    assert (entries["u1"].start_s, entries["u1"].end_s) == (1, 4)
    assert (entries["u3"].start_s, entries["u3"].end_s) == (8, None)
    assert {entry.recording for entry in entries.values()} == {"call"}
    assert entries["u1"].path == tmp_path / "audio" / "my call.wav"


def test_neighbours_are_joined_under_a_new_key(tmp_path):
    data(
        tmp_path,
        wav_scp="c c.wav\n",
        segments="u1 c 1 2\nu2 c 2.2 3\n",
        text="u1 a\nu2 b\n",
        utt2spk="u1 x\nu2 x\n",
    )
    assert told(read(tmp_path, "kaldi", join_s=0.3)) == [("c_1.000_3.000", "a b", "x")]


def test_without_segments_each_recording_is_an_utterance(tmp_path):
    data(tmp_path / "d", wav_scp="u1 /x/a.wav\nu2 b.flac\n", text="u1 one\nu9 nine\n")
    found = read(tmp_path / "d", "kaldi", audio_folder=tmp_path / "audio")
    assert told(found) == [("u1", "one", None), ("u2", "", None), ("u9", "missing audio")]
    assert [str(entry.path) for entry in found[:2]] == ["/x/a.wav", str(tmp_path / "audio/b.flac")]
    assert found[0].start_s is None


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("sph2pipe -f wav a.sph |", "a command"),
        ("| cat", "a command"),
        ("-", "a command"),
        ("raw.ark:1234", "archive"),
        ("raw.ark:5[0:3]", "archive"),
    ],
)
def test_commands_and_archives_are_refused_and_never_run(tmp_path, path, word):
    data(tmp_path, wav_scp=f"u1 {path}\n", text="u1 a\n")
    with pytest.raises(SpeechkdError, match=word):
        read(tmp_path, "kaldi")


def test_splits_and_doubles(tmp_path):
    for split in ("train", "test"):
        data(tmp_path / split, wav_scp=f"{split} a.wav\n", text=f"{split} a\n")
    with pytest.raises(SpeechkdError, match="test, train"):
        read(tmp_path, "kaldi")
    assert told(read(tmp_path, "kaldi", split="train")) == [("train", "a", None)]
    assert len(read(tmp_path, "kaldi", split="all")) == 2
    put(tmp_path / "train" / "text", "u a\nu b\n")
    with pytest.raises(SpeechkdError, match="line 2: 'u' stands there twice"):
        read(tmp_path, "kaldi", split="train")


def test_all_files_of_the_folder_are_said_to_be_used(tmp_path, capsys):
    put_audio(tmp_path / "a.wav", 0.5)
    data(tmp_path, wav_scp="u1 a.wav\n", text="u1 one\n", utt2spk="u1 x\n", spk2gender="x f\n")
    settings = ShardSettings(source=str(tmp_path), out=tmp_path / "out", dry_run=True, workers=0)
    shard.run(settings)
    told = capsys.readouterr().err
    assert "not used: files without a suffix (1), such as" in told
    assert "spk2gender" in told
