"""A small .csd with each trap that the real files are known for."""

import csv
import json
from collections import Counter

import numpy as np
import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.mosei.questions import TASKS, class_counts
from pipeline.tasks.mosei.reading import read_mosei
from pipeline.tasks.mosei.transcripts import read_transcript
from tests.helpers.mosei import REAL_DATA, needs_real_data

h5py = pytest.importorskip("h5py", reason=".csd files need h5py")

NAMES = ["sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear"]


def write_csd(path, root, videos, names=None):
    with h5py.File(path, "w") as file:
        group = file.create_group(root)
        for video, (features, intervals) in videos.items():
            group[f"data/{video}/features"] = features
            group[f"data/{video}/intervals"] = np.asarray(intervals, np.float64).reshape(-1, 2)
        metadata = group.create_group("metadata")
        metadata.create_dataset("root name", data=[json.dumps(root)], dtype=h5py.string_dtype())
        if names:
            metadata.create_dataset(
                "dimension names", data=[json.dumps(names)], dtype=h5py.string_dtype()
            )
    return path


def labels(*sentiments, emotions=(0,) * 6):
    return np.array([[s, *emotions] for s in sentiments], np.float32)


def words(*texts):
    return np.array([[text.encode()] for text in texts], "S16")


@pytest.fixture
def folder(tmp_path):
    """Five videos: `neg___ative` starts before 0 s, `back` is out of order, `out` is in no fold."""
    write_csd(
        tmp_path / "CMU_MOSEI_Labels.csd",
        "All Labels",
        {
            "neg___ative": (labels(1 / 3, -2), [[-0.4875, 2.0], [2.0, 4.0]]),
            "back": (labels(0, 3, emotions=(4, 0, 0, 0.5, 0, 3.0)), [[5.0, 8.0], [0.0, 5.0]]),
            "out": (labels(1), [[0.0, 3.0]]),
            "mute": (labels(1), [[0.0, 3.0]]),
            "far": (labels(-3.0), [[0.0, 1.0]]),
        },
        NAMES,
    )
    write_csd(
        tmp_path / "CMU_MOSEI_TimestampedWords.csd",
        "words",
        {
            "neg___ative": (
                words("sp", "hi", "there", "caf\u00e9", "sp", "end"),
                [[0, 0.2], [0.2, 1], [1, 2.000009], [1.9, 2.5], [2.5, 3], [3, 4]],
            ),
            "back": (words("two", "one"), [[5.5, 6], [0.5, 1]]),
            "out": (words("lost"), [[1, 2]]),
            "far": (words("sp"), [[0, 1]]),
        },
    )
    (tmp_path / "cmu_mosei_std_folds.py").write_text(
        "standard_train_fold=['neg___ative', 'gone']\n"
        "standard_valid_fold=['far']\nstandard_test_fold=['back', 'mute']\n"
    )
    return tmp_path


def test_every_trap_is_read_right(folder):
    corpus = read_mosei(folder)
    assert {clip.id: (clip.split, clip.text) for clip in corpus.clips} == {
        # "there" ends 9e-6 s into the second segment, too little to be in it; "café" is in
        # both, as the SDK's own rule has it
        "neg___ative[0]": ("train", "hi there café"),
        "neg___ative[1]": ("train", "café end"),
        "back[0]": ("test", "two"),
        "back[1]": ("test", "one"),
        "out[0]": ("", "lost"),
    }
    by_id = {clip.id: clip for clip in corpus.clips}
    assert by_id["neg___ative[0]"].start_s == 0
    assert by_id["neg___ative[0]"].sentiment == pytest.approx(1 / 3)
    assert by_id["back[1]"].sentiment == 3
    assert by_id["back[0]"].emotions == (3, 0, 0, 0.5, 0, 3)
    assert corpus.notes == {
        "videos whose segments are not in order of time (kept)": 1,
        "pause tokens (sp) among the words, left out": 3,
        "segments of videos without transcript, left out": 1,
        "segments that no text matches, left out": 1,
        "negative start times, set to 0": 1,
        "emotion values beyond 0 to 3, clamped": 2,
        "clips of videos in no fold": 1,
        "videos in the folds that have no clip": 3,
    }


def test_raw_transcripts_do_as_well(folder):
    """Matched by start and end: their running numbers are not those of the label file."""
    (folder / "CMU_MOSEI_TimestampedWords.csd").unlink()
    raw = folder / "Raw" / "Transcript" / "Segmented" / "Combined"
    raw.mkdir(parents=True)
    (raw / "neg___ative.txt").write_text(
        "neg___ative___7___-0.4875___2.0___Hi there ___ you.\n"
        "neg___ative___3___2.0___4.0___The end.\n"
    )
    (raw / "back.txt").write_bytes(
        b"back___0___0.0___5.0___One \x92n\nback___1___5.0___8.0___Two\n"
    )
    corpus = read_mosei(folder)
    texts = {clip.id: clip.text for clip in corpus.clips}
    assert texts["neg___ative[0]"] == "Hi there ___ you."
    assert texts["neg___ative[1]"] == "The end."
    assert texts["back[0]"] == "Two"
    assert texts["back[1]"] == "One \ufffdn"
    assert corpus.notes["segments of videos without transcript, left out"] == 3


def test_a_transcript_line_of_another_form_is_named(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("v___0___0.0___1.0___fine\nv___zero\n")
    with pytest.raises(SpeechkdError, match=r"v\.txt, line 2: 'v___zero'"):
        read_transcript(path, Counter())


def test_columns_go_by_their_names_where_the_file_has_them(tmp_path):
    backwards = labels(2, emotions=(0, 0, 0, 0, 0, 1))[:, ::-1].copy()
    write_csd(tmp_path / "a.csd", "x", {"v": (backwards, [[0, 1]])}, NAMES[::-1])
    write_csd(tmp_path / "w.csd", "x", {"v": (words("hm"), [[0, 1]])})
    (clip,) = read_mosei(tmp_path / "a.csd", text=tmp_path / "w.csd").clips
    assert clip.sentiment == 2
    assert clip.emotions == (0, 0, 0, 0, 0, 1)
    write_csd(tmp_path / "b.csd", "x", {"v": (labels(2), [[0, 1]])})
    corpus = read_mosei(tmp_path / "b.csd", text=tmp_path / "w.csd")
    assert corpus.clips[0].sentiment == 2
    assert corpus.notes == {"label columns without known names, taken in the SDK's order": 1}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.write_bytes(b"<html>not found</html>"), "cannot be read as HDF5"),
        (lambda path: h5py.File(path, "w").close(), "not a .csd"),
        (
            lambda path: write_csd(path, "x", {"v": (np.zeros((2, 7)), [[0, 1]])}),
            "2 rows of features, but intervals",
        ),
        (
            lambda path: write_csd(path, "x", {"v": (np.zeros((1, 300)), [[0, 1]])}),
            "Is it CMU_MOSEI_Labels.csd",
        ),
    ],
)
def test_files_that_are_no_labels(tmp_path, make, told):
    make(tmp_path / "x.csd")
    write_csd(tmp_path / "w.csd", "x", {"v": (words("hm"), [[0, 1]])})
    with pytest.raises(SpeechkdError, match=told):
        read_mosei(tmp_path / "x.csd", text=tmp_path / "w.csd")


def test_word_vectors_are_not_words(tmp_path):
    write_csd(tmp_path / "x.csd", "x", {"v": (labels(1), [[0, 1]])}, NAMES)
    write_csd(tmp_path / "w.csd", "x", {"v": (np.zeros((1, 300)), [[0, 1]])})
    with pytest.raises(SpeechkdError, match="word vectors hold no words"):
        read_mosei(tmp_path / "x.csd", text=tmp_path / "w.csd")


def test_labels_without_any_text_beside_them(tmp_path):
    path = write_csd(tmp_path / "x.csd", "x", {"v": (labels(1), [[0, 1]])}, NAMES)
    with pytest.raises(SpeechkdError, match="name one with --text"):
        read_mosei(path)


@needs_real_data
@pytest.mark.slow
def test_the_csds_test_fold_has_its_known_class_counts(tmp_path):
    """All 23,259 segments of the csd, as s3prl lists them, written as a .csd and read again."""
    with (REAL_DATA / "CMU_MOSEI_Labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    videos = {}
    for row in rows:
        videos.setdefault(row["file"], []).append(row)
    write_csd(
        tmp_path / "CMU_MOSEI_Labels.csd",
        "All Labels",
        {
            video: (
                labels(*(float(row["label7"]) for row in segments)),
                [[float(row["start"]), float(row["end"])] for row in segments],
            )
            for video, segments in videos.items()
        },
        NAMES,
    )
    write_csd(
        tmp_path / "CMU_MOSEI_TimestampedWords.csd",
        "words",
        {video: (words("word"), [[0, 1e4]]) for video in videos},
    )
    corpus = read_mosei(tmp_path, folds=REAL_DATA / "CMU_MOSEI_Labels.csv")
    assert corpus.counts() == {"train": 16_327, "valid": 1_871, "test": 4_662, "none": 399}
    assert class_counts(corpus.of("test"), TASKS["sentiment7"]) == (
        "156, 489, 705, 1,025, 1,512, 665, 110"
    )
    assert corpus.notes["negative start times, set to 0"] == 239
    assert corpus.notes["videos whose segments are not in order of time (kept)"] == 1_318
