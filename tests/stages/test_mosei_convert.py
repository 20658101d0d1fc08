"""`mosei convert` writes the tidy table and counts what it left out."""

import json
import tarfile

import numpy as np
import pytest
import soundfile

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.settings import ShardSettings
from pipeline.tasks.mosei.reading import read_mosei
from pipeline.tasks.mosei.tables import read_table
from stages import shard
from stages.mosei_convert import ConvertSettings, run
from tests.helpers.mosei import write_mmsa


def test_the_table_is_written_and_its_counts_are_printed(tmp_path, capsys):
    data = write_mmsa(tmp_path / "label.csv", 60)
    run(ConvertSettings(data=data, out=tmp_path / "tidy.jsonl"))
    shown = capsys.readouterr().out
    assert f"60 clips of {data}" in shown
    assert "train: 36 clips of 12 videos; sentiment -3 to +3: " in shown
    assert read_table(tmp_path / "tidy.jsonl").sha256 == read_table(data).sha256


def test_a_video_in_two_splits_needs_another_split(tmp_path):
    """Found by a user: --split made and --folds, the remedies told, gave the same error again."""
    data = write_mmsa(tmp_path / "label.csv", 60)
    data.write_text(data.read_text().replace(",train\n", ",test\n", 1))
    with pytest.raises(SpeechkdError, match="or use --split made"):
        run(ConvertSettings(data=data, out=tmp_path / "tidy.csv"))
    assert len(read_mosei(data, own_split=False).clips) == 60
    (tmp_path / "folds.csv").write_text(
        "video_id,split\n" + "".join(f"video{v},{('train', 'test')[v % 2]}\n" for v in range(20))
    )
    run(ConvertSettings(data=data, out=tmp_path / "tidy.csv", folds=tmp_path / "folds.csv"))
    assert read_mosei(tmp_path / "tidy.csv").counts() == {"train": 30, "valid": 0, "test": 30}


def test_with_recordings_the_table_is_what_shard_reads(tmp_path, capsys):
    """Videos that times cut, and files of one clip; what has no counterpart is counted."""
    rows = "v0,0,a b,1,train,0.5,1.5|v0,1,c d,-1,train,,|v1,0,e f,2,test,0,2|v2,0,g h,0,valid,0,1"
    head = "video_id,clip_id,text,sentiment,split,start_s,end_s\n"
    (tmp_path / "labels.csv").write_text(head + rows.replace("|", "\n") + "\n")
    audio = tmp_path / "raw"
    for name in ("WAV/v0.wav", "v1/0.wav", "WAV/v9.wav"):
        (audio / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(audio / name, np.full(32_000, 0.1), 16_000)
    out = tmp_path / "mosei.csv"
    run(ConvertSettings(data=tmp_path / "labels.csv", audio=audio, out=out))
    shown = capsys.readouterr().out
    assert "clips without a recording, left out: 1" in shown
    assert "clips of a recording without their times, left out: 1" in shown
    assert "recordings that no clip is heard in: 1" in shown
    assert read_table(out).counts() == {"train": 1, "valid": 0, "test": 1}
    shard.run(ShardSettings(source=str(out), audio_folder=audio, out=tmp_path / "s", workers=0))
    told = {clip["key"]: clip["duration_s"] for clip in samples(tmp_path / "s")}
    assert told == {"v0[0]": 1.0, "v1[0]": 2.0}


def samples(folder):
    with tarfile.open(folder / "speech-000000.tar") as tar:
        for member in tar:
            if member.name.endswith(".json"):
                content = json.load(tar.extractfile(member))
                yield {**content, "key": member.name.removesuffix(".json")}


def test_labels_without_any_of_the_recordings_are_an_error(tmp_path):
    data = write_mmsa(tmp_path / "label.csv", 6)
    (tmp_path / "raw").mkdir()
    given = {"data": data, "out": tmp_path / "tidy.csv", "audio": tmp_path / "raw"}
    with pytest.raises(SpeechkdError, match="no recording is below it"):
        run(ConvertSettings(**given))
    (tmp_path / "raw" / "other.wav").touch()
    with pytest.raises(SpeechkdError, match="clips without a recording, left out: 6"):
        run(ConvertSettings(**given))
    assert not (tmp_path / "tidy.csv").exists()


def test_a_folder_without_labels_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SpeechkdError, match=r"there is notes\.txt"):
        run(ConvertSettings(data=tmp_path, out=tmp_path / "tidy.csv"))
    assert not (tmp_path / "tidy.csv").exists()


def test_other_files_are_told(tmp_path):
    for name, told in (("x.xlsx", "no such file or folder"), ("y.doc", "is read from")):
        if name == "y.doc":
            (tmp_path / name).write_text("x")
        with pytest.raises(SpeechkdError, match=told):
            run(ConvertSettings(data=tmp_path / name, out=tmp_path / "tidy.csv"))
