"""CMU-MOSEI as a table, under its known names of columns and splits."""

import csv
import json

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.mosei.clips import EMOTIONS
from pipeline.tasks.mosei.tables import SUFFIXES, read_folds, read_table, write_table
from tests.helpers.mosei import REAL_DATA, needs_real_data, write_mmsa

HEADER = "video_id,clip_id,text,label,annotation,mode\n"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_mmsas_label_csv_is_read(tmp_path):
    table = write(
        tmp_path / "label.csv",
        HEADER
        + '-3g5yACwYnA,10,"Yes, it\'s ""so""\n good.",0.6666666865348816,Positive,train\n'
        + "abc,0,No.,-3.0,Negative,test\nabd,0,Hm.,0.0,Neutral,valid\n",
    )
    corpus = read_table(table)
    assert corpus.counts() == {"train": 1, "valid": 1, "test": 1}
    first = corpus.clips[0]
    assert first.id == "-3g5yACwYnA[10]"
    assert first.text == 'Yes, it\'s "so" good.'
    assert first.sentiment == 0.6666666865348816


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_again_the_same(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    corpus = read_table(write_mmsa(tmp_path / "label.csv"))
    path = tmp_path / f"tidy{suffix}"
    write_table(corpus, path)
    again = read_table(path)
    assert again.sha256 == corpus.sha256
    assert list(tmp_path.glob(".*")) == []


def test_an_unknown_suffix_is_refused(tmp_path):
    corpus = read_table(write_mmsa(tmp_path / "label.csv"))
    with pytest.raises(SpeechkdError, match=r"\.xlsx: a table is written as one of \.csv"):
        write_table(corpus, tmp_path / "tidy.xlsx")


def test_missing_columns_are_named_with_those_that_are_there(tmp_path):
    table = write(tmp_path / "t.csv", "video_id,words_said,mode\nv,hello,train\n")
    with pytest.raises(SpeechkdError) as error:
        read_table(table)
    for told in ("t.csv", "clip_id, text, sentiment", "words_said", "rename"):
        assert told in str(error.value)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("v,0,hello,good,Positive,train", "line 2, column label: 'good' is not a finite number"),
        ("v,0,hello,inf,Positive,train", "line 2, column label: 'inf'"),
        ("v,0,hello,1.0,Positive,training", "line 2, column mode: split 'training'"),
        (",0,hello,1.0,Positive,train", "line 2: column video_id is empty"),
        ("v,0,hello", "line 2: 3 cells where the header has 6"),
        ("v,0,hello, world,1.0,Positive,train", "line 2: 7 cells where the header has 6"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, told):
    with pytest.raises(SpeechkdError, match=r"t\.csv") as error:
        read_table(write(tmp_path / "t.csv", HEADER + row + "\n"))
    assert told in str(error.value)


def test_files_that_are_not_tables_are_named(tmp_path):
    with pytest.raises(SpeechkdError, match="no such file"):
        read_table(tmp_path / "nothing.csv")
    (tmp_path / "t.csv").write_bytes(b"video_id,text\n\xff\xfe\n")
    with pytest.raises(SpeechkdError, match="not UTF-8"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(SpeechkdError, match=r"line 2: not JSON"):
        read_table(write(tmp_path / "t.jsonl", '{"video_id": "v"}\n{"video_id\n'))


def test_other_names_of_columns_and_splits_are_known(tmp_path):
    row = {"file": "v", "index": 3, "raw_text": "well", "happy": 0.5, "fold": "dev"}
    corpus = read_table(write(tmp_path / "t.jsonl", json.dumps(row)))
    assert corpus.clips[0].id == "v[3]"
    assert corpus.clips[0].split == "valid"
    assert corpus.clips[0].emotions[EMOTIONS.index("happiness")] == 0.5


def test_folds_are_read_from_each_form(tmp_path):
    wanted = {"a": "train", "b": "valid", "c": "test"}
    forms = {
        "f.csv": "video_id,split\na,train\nb,valid\nc,test\nd,\n",
        "n.csv": ",file,start,split\n0,a,1.5,0\n1,a,2.5,0\n2,b,1,1\n3,c,1,2\n4,d,1,3\n",
        "f.json": json.dumps({"train": ["a"], "valid": ["b"], "test": ["c"]}),
        "f.py": "standard_train_fold=['a']\nstandard_valid_fold=['b']\nstandard_test_fold=['c']",
    }
    for name, text in forms.items():
        assert read_folds(write(tmp_path / name, text)) == wanted, name


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("f.py", "import os\nstandard_train_fold = os.listdir('.')\n", "nothing but lists"),
        ("f.json", '{"train": ["a"], "test": ["a"]}', "video a is in train and in test"),
        ("f.json", "[1, 2]", "names no list"),
        ("f.csv", "video_id,split\na,train\na,test\n", "line 3: video a is in two splits"),
        ("f.csv", "video_id,split\na,9\n", "line 2: split '9'"),
        ("f.csv", "clip,split\na,train\n", "columns video_id"),
    ],
)
def test_bad_folds_are_refused(tmp_path, name, text, told):
    with pytest.raises(SpeechkdError, match=told):
        read_folds(write(tmp_path / name, text))


@needs_real_data
def test_the_real_tables_have_their_known_sizes():
    for name in ("MOSEI-label.csv", "mosei_joined.csv"):
        corpus = read_table(REAL_DATA / name)
        assert corpus.counts() == {"train": 16_326, "valid": 1_871, "test": 4_659}
        videos = {split: {c.video_id for c in corpus.of(split)} for split in corpus.counts()}
        assert {split: len(v) for split, v in videos.items()} == {
            "train": 2_249,
            "valid": 300,
            "test": 676,
        }
    folds = read_folds(REAL_DATA / "CMU_MOSEI_Labels.csv")
    split_of = {video: split for split, inside in videos.items() for video in inside}
    assert {video for video in split_of if split_of[video] != folds.get(video)} == {
        "-NFrJFQijFE"  # in MMSA's train split; in no fold of the csd
    }


@needs_real_data
def test_labels_without_text_are_told_apart():
    with pytest.raises(SpeechkdError, match="has no column text"):
        read_table(REAL_DATA / "CMU_MOSEI_Labels.csv")
    with (REAL_DATA / "CMU_MOSEI_Labels.csv").open(encoding="utf-8") as file:
        assert sum(1 for _ in csv.reader(file)) == 23_260
