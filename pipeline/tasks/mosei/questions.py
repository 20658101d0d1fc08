"""The tasks of the paper's Tables 1 to 3, their labels, and the questions they make of clips."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.duplicates import distinct
from pipeline.tasks.mosei.clips import EMOTIONS, MoseiClip, MoseiClips
from pipeline.tasks.mosei.names import SENTIMENT_CLASSES
from pipeline.tasks.mosei.schemes import score_derived, sign_ceil
from pipeline.tasks.splits import SPLITS, made_split
from pipeline.tasks.task import Question, Task


def _sentiment(classes: int) -> Task:
    limit = classes // 2
    return Task(
        f"sentiment{classes}",
        "classes",
        tuple(f"{c:+d}" if c else "0" for c in range(-limit, limit + 1)),
        f"one of {classes} classes, sign(y) * min(ceil(|y|), {limit}), a classifier of its own",
    )


def _emotion(name: str) -> Task:
    return Task(
        name, "classes", ("absent", "present"), f"{name} > 0 against = 0, a classifier of its own"
    )


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _sentiment(7),
        _sentiment(5),
        _sentiment(3),
        Task(
            "sentiment2",
            "classes",
            ("negative", "positive"),
            "y < 0 against y > 0; clips with y = 0 are in neither training nor test",
        ),
        Task(
            "sentiment2-with-neutral",
            "classes",
            ("not positive", "positive"),
            "y <= 0 against y > 0: neutral counts as not positive",
        ),
        Task("sentiment", "value", ("sentiment",), "y in [-3, 3], regression", score_derived),
        *(_emotion(name) for name in EMOTIONS),
        Task(
            "emotions", "flags", EMOTIONS, "each emotion > 0 against = 0, one head of six sigmoids"
        ),
    )
}
"""Every task by name."""


def trained_task(name: str, scheme: str) -> str:
    """The task to train for a task that is asked for.

    Under `mult` every figure of sentiment comes from the one regression.
    """
    return "sentiment" if scheme == "mult" and name in SENTIMENT_CLASSES else name


def trained_tasks(names: Iterable[str], scheme: str) -> list[Task]:
    """The tasks to train for the tasks that are asked for, each once."""
    return [TASKS[name] for name in dict.fromkeys(trained_task(name, scheme) for name in names)]


def with_made_split(corpus: MoseiClips, tasks: Sequence[Task], seed: int) -> MoseiClips:
    """The clips that have the labels of all the tasks, in a split made by video."""
    labelled = set.intersection(*(set(targets(corpus.clips, task)[0]) for task in tasks))
    clips = [clip for i, clip in enumerate(corpus.clips) if i in labelled]
    splits = made_split([clip.video_id for clip in clips], seed)
    clips = [replace(clip, split=split) for clip, split in zip(clips, splits, strict=True)]
    return replace(corpus, clips=tuple(clips))


def without_duplicates(corpus: MoseiClips, *, own_split: bool) -> MoseiClips:
    """The clips without those whose text stands elsewhere, counted in the notes.

    Args:
        corpus: the clips.
        own_split: whether their split counts: a clip of the test stays rather than one of training.
    """
    clips = corpus.clips
    splits = [clip.split if own_split else "" for clip in clips]
    stay, repeats = distinct([clip.text for clip in clips], splits)
    if not repeats:
        return corpus
    notes = {**corpus.notes, "clips whose text stands elsewhere, left out": repeats}
    return replace(corpus, clips=tuple(clips[i] for i in stay), notes=notes)


def questions(
    corpus: MoseiClips, tasks: Sequence[Task], needed: Sequence[str] = ("train", "test")
) -> list[Question]:
    """Each task with the labels of the corpus's clips.

    Args:
        corpus: clips in their splits; the places of a question count its clips.
        tasks: some of `TASKS`.
        needed: splits that must have at least one clip with the labels of each task.

    Raises:
        SpeechkdError: one of them has none.
    """
    result = []
    for task in tasks:
        places, labels = {}, {}
        for split in SPLITS:
            inside = [i for i, clip in enumerate(corpus.clips) if clip.split == split]
            chosen, labels[split] = targets([corpus.clips[i] for i in inside], task)
            places[split] = [inside[i] for i in chosen]
        raw = raw_labels([corpus.clips[i] for i in places["test"]], task)
        question = Question(task, places, labels, raw)
        _check_counts(question, needed, corpus.source)
        result.append(question)
    return result


def _check_counts(question: Question, needed: Sequence[str], source: str) -> None:
    empty = [split for split in needed if not question.counts[split]]
    if empty:
        counts = ", ".join(f"{split} {n:,}" for split, n in question.counts.items())
        raise SpeechkdError(
            f"{source}: task {question.task.name} has no labelled clip in {' and '.join(empty)} "
            f"(clips with that label: {counts}). Leave the task out, give data that has its "
            "labels, name the folds with --folds, or let --split made divide the clips that have "
            "them."
        )


def targets(clips: Sequence[MoseiClip], task: Task) -> tuple[list[int], Array]:
    """Labels of clips for a task.

    Args:
        clips: clips of one split.
        task: one of `TASKS`.

    Returns:
        Indices of the clips that the task has (those whose label is known and, for `sentiment2`,
        is not 0), and their labels: classes `[n]` int64, values `[n]` float32, or flags `[n, F]`
        int64.
    """
    sentiment = np.array([clip.sentiment for clip in clips], np.float64)
    emotions = np.array([clip.emotions for clip in clips], np.float64).reshape(-1, len(EMOTIONS))
    if task.name == "emotions":
        has_label = ~np.isnan(emotions).any(1)
        labels = (emotions > 0).astype(np.int64)
    elif task.name in EMOTIONS:
        column = emotions[:, EMOTIONS.index(task.name)]
        has_label = ~np.isnan(column)
        labels = (column > 0).astype(np.int64)
    else:
        has_label = ~np.isnan(sentiment)
        known = np.where(has_label, sentiment, 0.0)
        if task.name == "sentiment":
            labels = known.astype(np.float32)
        elif task.name == "sentiment2":
            has_label = has_label & (sentiment != 0)
            labels = (known > 0).astype(np.int64)
        elif task.name == "sentiment2-with-neutral":
            labels = (known > 0).astype(np.int64)
        else:
            limit = len(task.outputs) // 2
            labels = sign_ceil(known, limit) + limit
    chosen = np.flatnonzero(has_label)
    return chosen.tolist(), labels[chosen]


def class_counts(clips: Sequence[MoseiClip], task: Task) -> str:
    """Number of clips per class, as text: `156, 489, 705, …`."""
    _, labels = targets(clips, task)
    return ", ".join(f"{n:,}" for n in np.bincount(labels, minlength=len(task.outputs)))


def raw_labels(clips: Sequence[MoseiClip], task: Task) -> list[str]:
    """The label of each clip before it became a class, as text; empty if the task has none."""
    if task.name == "emotions":
        return [""] * len(clips)
    if task.name in EMOTIONS:
        place = EMOTIONS.index(task.name)
        return [_plain(clip.emotions[place]) for clip in clips]
    return [_plain(clip.sentiment) for clip in clips]


def _plain(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
