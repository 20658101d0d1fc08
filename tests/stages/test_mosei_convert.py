"""`mosei convert` writes the tidy table and counts what it left out."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.mosei.reading import read_mosei
from pipeline.tasks.mosei.tables import read_table
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
