"""Switchboard as people have it: acts in XML or texts, recordings of two channels, become cells."""

import csv
import tarfile

import numpy as np
import pytest
import soundfile

from pipeline.foundation.errors import NotThere, SpeechkdError
from stages.finetune_audio import AudioSettings
from stages.shard import ShardSettings
from stages.shard import run as shard
from stages.switchboard_convert import SwitchboardSettings, run
from tests.helpers.switchboard import make_audio, make_nxt, make_swda


@pytest.fixture
def audio(tmp_path):
    return make_audio(tmp_path)


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_acts_of_nxt_are_cut_from_their_channels_and_asked(tmp_path, audio, capsys):
    out = tmp_path / "acts.csv"
    run(SwitchboardSettings(root=make_nxt(tmp_path), audio=audio, out=out))
    told = capsys.readouterr().out
    assert "5 acts of 2 conversations" in told
    assert "acts that NXT excludes, left out: 1" in told
    assert "recordings of conversations without acts, not used: 2" in told
    rows = {row["key"]: row for row in rows_of(out)}
    assert rows["sw2005B-da1"]["path"] == "disc1/data/sw02005.sph"
    assert (rows["sw2005B-da1"]["channel"], rows["sw2010A-da0"]["channel"]) == ("2", "")
    shard(
        ShardSettings(
            source=str(out), audio_folder=audio, channel_column="channel", out=tmp_path / "shards",
            workers=0,
        )
    )  # fmt: skip
    soft, loud = soundfile.read(audio / "disc1" / "data" / "sw02005.sph")[0].T
    assert np.std(loud) > 2 * np.std(soft)
    powers = clip_powers(tmp_path / "shards")
    assert powers.keys() == rows.keys()
    assert powers["sw2005A-da1"] == pytest.approx(np.std(soft), rel=0.15)
    assert powers["sw2005B-da1"] == pytest.approx(np.std(loud), rel=0.15)

    asked = AudioSettings(
        data=[str(out)], cache="mels", id_column="key", label_column="act", checkpoint=["a"],
        fold_column="recording", selection="last", out=tmp_path / "results",
    ).read(only=powers)  # fmt: skip
    assert {row.key: row.group for row in asked.rows}.keys() == powers.keys()
    assert [question.counts["test"] for question in asked.questions] == [4, 1]


def clip_powers(folder):
    """The standard deviation of each clip's wave."""
    powers = {}
    with tarfile.open(folder / "speech-000000.tar") as tar:
        for member in tar:
            if member.name.endswith(".flac"):
                wave, rate = soundfile.read(tar.extractfile(member))
                assert rate == 16_000
                powers[member.name.removesuffix(".flac")] = float(np.std(wave))
    return powers


def test_acts_of_switchboard_corpus_get_times_and_its_splits(tmp_path, audio, capsys):
    root, words = make_swda(tmp_path)
    out = tmp_path / "acts.csv"
    run(SwitchboardSettings(root=root, audio=audio, words=words, out=out))
    told = capsys.readouterr().out
    assert "7 acts of 3 conversations" in told
    assert "acts whose words have no times, left out: 1" in told
    assert "acts without a word, left out: 1" in told
    splits = {row["recording"]: row["split"] for row in rows_of(out)}
    assert splits == {"sw2005": "train", "sw2010": "valid", "sw2020": "test"}


@pytest.mark.parametrize("kind", ["nxt", "swda", "labels", "neither"])
def test_what_does_not_fit_is_an_error(tmp_path, audio, kind):
    (tmp_path / "x").mkdir()
    given = {"audio": audio, "out": tmp_path / "acts.csv"}
    if kind == "nxt":
        given |= {"root": make_nxt(tmp_path / "x"), "words": tmp_path}
        wanted = "--words changes nothing"
    elif kind == "swda":
        given["root"], _ = make_swda(tmp_path / "x")
        wanted = "tells no times. Name MS-State's"
    elif kind == "labels":
        given["root"], given["words"] = make_swda(tmp_path / "x")
        given["labels"], wanted = "swbd", "--labels swbd is for NXT"
    else:
        given["root"], wanted = tmp_path / "x", "holds neither xml/dialAct"
    with pytest.raises(SpeechkdError, match=wanted):
        run(SwitchboardSettings(**given))
    assert not (tmp_path / "acts.csv").exists()


def test_without_any_act_to_cut_nothing_is_written_and_the_reasons_are_told(tmp_path, audio):
    (audio / "disc1" / "data" / "sw02005.sph").unlink()
    (audio / "sw2010A.wav").unlink()
    with pytest.raises(SpeechkdError, match=r"conversations without a recording, left out: 5"):
        run(SwitchboardSettings(root=make_nxt(tmp_path), audio=audio, out=tmp_path / "acts.csv"))
    with pytest.raises(NotThere, match="no recording of Switchboard"):
        run(SwitchboardSettings(root=tmp_path, audio=tmp_path / "x-audio", out=tmp_path / "a.csv"))
