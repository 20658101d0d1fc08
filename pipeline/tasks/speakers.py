"""Speaker verification as a question: trained on some speakers, asked about pairs of others.

Shapes: n clips of a split, D width of a vector.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.hashing import json_sha256
from pipeline.foundation.progress import counted
from pipeline.tasks.labelled_rows import LabelColumns, LabelledText, Source, read_labelled_rows
from pipeline.tasks.splits import SPLITS, made_split
from pipeline.tasks.task import Question, Task
from pipeline.tasks.verification import PairKind, Trials, pairs, read_trials, verify

LISTED = "list"
"""What the trials of a question are called that come from a list of the user's."""


@dataclass(frozen=True)
class Listed:
    """Pairs of a list.

    Attributes:
        trials: the pairs, of clips of the test.
        labels_n2: number of speaker and of recording of each clip of the test, which tell it from
            the clips that validate: no speaker is in both.
    """

    trials: Trials
    labels_n2: Array


@dataclass(frozen=True)
class Speakers:
    """Clips with their speakers, in splits that share no speaker.

    Attributes:
        rows: the clips; a row's label is its speaker, its group its recording.
        question: who speaks, and whether two speak alike.
        notes: sentences on what was left out, and how often.
        sha256: digest of ids, splits, texts, speakers, recordings and trials.
    """

    rows: tuple[LabelledText, ...]
    question: Question
    notes: tuple[str, ...]
    sha256: str


def read_speakers(
    sources: Sequence[Source],
    columns: LabelColumns,
    *,
    seed: int,
    kind: PairKind,
    trials: Path | None = None,
    only: Collection[str] | None = None,
    groups_per_file: bool = False,
) -> Speakers:
    """Read a table of clips and their speakers.

    Args:
        sources: the files.
        columns: which column is what: the label is the speaker, the group the recording.
        seed: of a made split, which deals whole speakers to 70/10/20 %.
        kind: which pairs of test clips are asked.
        trials: a list of pairs instead.
        only: keys of the clips at hand; None for all.
        groups_per_file: whether the recordings of each file are others, even if they are named
            alike.

    Raises:
        SpeechkdError: a speaker is in two splits, there are too few, or pairs of other recordings
            are asked for and no recordings are named.
    """
    where = " + ".join(str(source.path) for source in sources)
    if columns.fold:
        raise SpeechkdError(
            "--kind speaker has no folds: vectors of different folds cannot be compared. Leave "
            "--fold-column and --folds out."
        )
    if kind == "other-recording" and not columns.group:
        raise SpeechkdError(
            "--pairs other-recording needs to know recordings: name their column with "
            "--group-column."
        )
    notes: Counter[str] = Counter()
    rows = read_labelled_rows(
        sources, columns, "classes", notes, only, groups_per_file=groups_per_file
    )
    if not rows:
        raise SpeechkdError(f"{where} has no row with both {columns.text} and {columns.label}.")
    twice = [name for name, n in Counter(row.id for row in rows).items() if n > 1]
    if twice:
        raise SpeechkdError(f"{where}: {columns.id or 'row'} {twice[0]} stands there twice.")
    splits = [row.split for row in rows]
    if not (columns.split or sources[0].split):
        splits = made_split([row.label for row in rows], seed)
    _check_apart(rows, splits, where, columns.label)
    places = {s: [i for i, own in enumerate(splits) if own == s] for s in SPLITS}
    if places["valid"] and not _make_pairs([rows[i] for i in places["valid"]], kind):
        what = "clips that would validate and make no pairs of one speaker and of two, left out"
        notes[what] = len(places["valid"])
        places["valid"] = []
    question = _question(rows, places, columns.label, where, kind, trials)
    content = [
        [row.id, split, row.text, row.label, row.group]
        for row, split in zip(rows, splits, strict=True)
    ]
    asked = trials.read_text(encoding="utf-8") if trials else kind
    omissions = tuple(f"{what}: {n:,}" for what, n in notes.items())
    return Speakers(tuple(rows), question, omissions, json_sha256([content, asked]))


def _make_pairs(clips: Sequence[LabelledText], kind: PairKind) -> bool:
    """Whether there are pairs of one speaker and pairs of two."""
    recordings: dict[str, list[str]] = {}
    for clip in clips:
        recordings.setdefault(clip.label, []).append(clip.group)
    apart = set if kind == "other-recording" else list
    return len(recordings) > 1 and any(len(apart(own)) > 1 for own in recordings.values())


def _question(
    rows: Sequence[LabelledText],
    places: Mapping[str, Sequence[int]],
    name: str,
    where: str,
    kind: PairKind,
    trials: Path | None,
) -> Question:
    known = sorted({rows[i].label for i in places["train"]})
    if len(known) < 2 or not places["test"]:
        raise SpeechkdError(
            f"{where}: {counted(len(known), 'speaker')} to train on, "
            f"{counted(len(places['test']), 'clip')} to test; at least 2 speakers are needed, "
            "and others to test."
        )
    number = {speaker: i for i, speaker in enumerate(known)}
    everyone = sorted({row.label for row in rows})
    recordings = sorted({row.group for row in rows})
    speaker_of = {speaker: i for i, speaker in enumerate(everyone)}
    recording_of = {recording: i for i, recording in enumerate(recordings)}
    labels: dict[str, Array] = {
        "train": np.array([number[rows[i].label] for i in places["train"]], np.int64)
    }
    for split in ("valid", "test"):
        of = [[speaker_of[rows[i].label], recording_of[rows[i].group]] for i in places[split]]
        labels[split] = np.array(of, np.int64).reshape(-1, 2)
        if len(of) and not (split == "test" and trials):
            pairs(*_columns(labels[split]), kind)  # refused here, before anything is trained
    listed = _listed(trials, [rows[i] for i in places["test"]], labels["test"]) if trials else None
    asked = "those of a list" if trials else {"all": "all", "other-recording": "those of different "
            "recordings"}[kind]  # fmt: skip
    task = Task(
        name,
        "speaker",
        tuple(known),
        f"{name}: verification of speakers who are not trained on, by the cosine of the vectors of "
        f"two clips; pairs: {asked}",
        partial(judge, kind=kind, listed=listed),
    )
    return Question(task, places, labels, [rows[i].label for i in places["test"]])


def _listed(path: Path, clips: Sequence[LabelledText], labels_n2: Array) -> Listed:
    """The pairs of a list, whose answers must be those of the table."""
    keys = [clip.key or clip.id for clip in clips]
    twice = [key for key, n in Counter(keys).items() if n > 1]
    if twice:
        raise SpeechkdError(
            f"{path} cannot tell clips of the test apart: {twice[0]!r} stands in several files of "
            "the table. Name the one that is tested alone."
        )
    trials = read_trials(path, keys)
    speaker_n = labels_n2[:, 0]
    wrong_n = trials.same_n != (speaker_n[trials.one_n] == speaker_n[trials.other_n])
    if wrong_n.any():
        at = int(np.argmax(wrong_n))
        one, other = (clips[int(place[at])] for place in (trials.one_n, trials.other_n))
        claim = "one speaker" if trials.same_n[at] else "two speakers"
        raise SpeechkdError(
            f"{path}: {int(wrong_n.sum()):,} of {len(wrong_n):,} pairs contradict the table, the "
            f"first is {one.key!r} with {other.key!r}: {claim} in the list, {one.label!r} and "
            f"{other.label!r} in the table. Correct one of the two."
        )
    return Listed(trials, labels_n2)


def judge(
    labels_n2: Array, vectors_nD: Array, *, kind: PairKind, listed: Listed | None
) -> dict[str, Any]:
    """Metrics of vectors, as `pipeline.tasks.verification.verify` gives them, and `trials`.

    Args:
        labels_n2: number of speaker and of recording of each clip.
        vectors_nD: the clips' vectors.
        kind: which pairs are asked.
        listed: the pairs of a list, for the test.
    """
    speakers, recordings = _columns(labels_n2)
    if listed is not None and np.array_equal(labels_n2, listed.labels_n2):
        return {**verify(vectors_nD, speakers, listed.trials), "trials": LISTED}
    return {**verify(vectors_nD, speakers, pairs(speakers, recordings, kind)), "trials": kind}


def _columns(labels_n2: Array) -> tuple[list[str], list[str]]:
    return [str(v) for v in labels_n2[:, 0]], [str(v) for v in labels_n2[:, 1]]


def _check_apart(
    rows: Sequence[LabelledText], splits: Sequence[str], where: str, column: str
) -> None:
    split_of: dict[str, str] = {}
    for row, split in zip(rows, splits, strict=True):
        if split and split_of.setdefault(row.label, split) != split:
            raise SpeechkdError(
                f"{where}: {column} {row.label} is both in {split_of[row.label]} and in {split}. "
                "Who is verified must not have been trained on: put each speaker into one split, "
                "or leave --split-column out."
            )
