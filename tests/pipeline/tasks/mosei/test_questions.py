"""What each task asks of CMU-MOSEI's clips, and which of them it has."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.mosei.clips import MoseiClip, MoseiClips
from pipeline.tasks.mosei.names import SENTIMENT_CLASSES, TASK_NAMES
from pipeline.tasks.mosei.questions import (
    TASKS,
    questions,
    raw_labels,
    targets,
    trained_task,
    trained_tasks,
    with_made_split,
)
from pipeline.tasks.mosei.tables import read_table
from pipeline.tasks.splits import SPLITS
from tests.helpers.mosei import REAL_DATA, needs_real_data

NAN = math.nan
CLIPS = [
    MoseiClip("v", str(i), "train", "x", value, emotions)
    for i, (value, emotions) in enumerate(
        [
            (-2.1, (0.0, 0, 0, 0, 0, 0)),
            (0.0, (1 / 3, 0, 0, 0, 0, 1)),
            (0.3, (NAN,) * 6),
            (NAN, (1, 1, 1, 1, 1, NAN)),
        ]
    )
]


@pytest.mark.parametrize(
    ("task", "chosen", "labels"),
    [
        ("sentiment7", [0, 1, 2], [0, 3, 4]),
        ("sentiment5", [0, 1, 2], [0, 2, 3]),
        ("sentiment3", [0, 1, 2], [0, 1, 2]),
        ("sentiment2", [0, 2], [0, 1]),
        ("sentiment2-with-neutral", [0, 1, 2], [0, 0, 1]),
        ("sentiment", [0, 1, 2], pytest.approx([-2.1, 0, 0.3])),
        ("happiness", [0, 1, 3], [0, 1, 1]),
        ("fear", [0, 1], [0, 1]),
        ("emotions", [0, 1], [[0] * 6, [1, 0, 0, 0, 0, 1]]),
    ],
)
def test_a_task_has_the_clips_whose_label_is_known_and_their_classes(task, chosen, labels):
    found, values = targets(CLIPS, TASKS[task])
    assert found == chosen
    assert values.tolist() == labels
    assert len(raw_labels([CLIPS[i] for i in found], TASKS[task])) == len(found)


def test_the_light_names_are_those_of_the_tasks():
    assert tuple(TASKS) == TASK_NAMES
    assert all(TASKS[name].kind == "classes" for name in SENTIMENT_CLASSES)


def test_a_question_has_the_places_and_labels_of_each_split():
    splits = (*SPLITS, "")
    clips = [replace(clip, split=split) for clip, split in zip(CLIPS, splits, strict=True)]
    corpus = MoseiClips(tuple(clips), "here")
    tasks = trained_tasks(["sentiment3", "fear"], "paper")
    sentiment, fear = questions(corpus, tasks, needed=["train"])
    assert sentiment.places == {"train": [0], "valid": [1], "test": [2]}
    assert [labels.tolist() for labels in sentiment.labels.values()] == [[0], [1], [2]]
    assert sentiment.raw == ["0.3"]
    assert fear.counts == {"train": 1, "valid": 1, "test": 0}
    with pytest.raises(SpeechkdError, match=r"here: task fear has no labelled clip in test"):
        questions(corpus, [TASKS["fear"]])


def test_a_made_split_is_of_the_clips_that_have_every_label():
    clips = tuple(replace(clip, video_id=f"v{i}") for i, clip in enumerate(CLIPS))
    corpus = MoseiClips(clips, "here", {"note": 1})
    made = with_made_split(corpus, [TASKS["sentiment"], TASKS["happiness"]], 0)
    assert [clip.clip_id for clip in made.clips] == ["0", "1"]
    assert all(clip.split in SPLITS for clip in made.clips)
    assert made.notes == corpus.notes


def test_no_clips_make_no_targets():
    for task in TASKS.values():
        chosen, labels = targets([], task)
        assert chosen == []
        assert len(labels) == 0


def test_only_mult_trains_one_regression_for_every_sentiment_figure():
    assert {trained_task(name, "mult") for name in SENTIMENT_CLASSES} == {"sentiment"}
    assert [trained_task(name, "paper") for name in SENTIMENT_CLASSES] == [*SENTIMENT_CLASSES]
    assert trained_task("fear", "mult") == "fear"


@needs_real_data
def test_the_real_test_split_has_its_known_class_counts():
    """MMSA's 4,659 test rows are the csd's 4,662 less three: two of class +1 and one of +2."""
    test = read_table(REAL_DATA / "MOSEI-label.csv").of("test")
    _, labels = targets(test, TASKS["sentiment7"])
    assert [Counter(labels.tolist())[c] for c in range(7)] == [156, 489, 705, 1025, 1510, 664, 110]
    counts = {name: len(targets(test, TASKS[name])[0]) for name in SENTIMENT_CLASSES}
    assert counts == {**dict.fromkeys(SENTIMENT_CLASSES, 4659), "sentiment2": 1350 + 2284}
