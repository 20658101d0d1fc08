"""Labels per word as a table writes them → the words that are asked of, and what they alone tell.

Shapes: n words, W word types.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.untrusted import parse_json
from pipeline.tasks.duplicates import essence
from pipeline.tasks.folds import Fold
from pipeline.tasks.labelled_rows import LabelledText
from pipeline.tasks.labels import class_name
from pipeline.tasks.splits import SPLITS
from pipeline.tasks.task import Question, Task
from pipeline.tasks.words import OUTPUTS, AskedWords, best_threshold

NOT_ASKED = -1
MARKS = {"0": 0, "false": 0, "1": 1, "true": 1, "-": NOT_ASKED, "null": NOT_ASKED}
"""What each label of a word means; one that is not asked of is read, and neither trained on nor
judged."""
STRENGTHS = tuple(2.0**power for power in range(-2, 7))
"""How many words the rate of all words may count as, beside those of a type."""


@dataclass(frozen=True)
class MarkedText:
    """A text cut at its blanks, with the label of each word.

    Attributes:
        words: the words; punctuation that stands at a word is a part of it.
        marks: 1, 0 or `NOT_ASKED` for each.
    """

    words: tuple[str, ...]
    marks: tuple[int, ...]

    @property
    def places(self) -> tuple[int, ...]:
        """The places of the words that are asked of."""
        return tuple(place for place, mark in enumerate(self.marks) if mark != NOT_ASKED)

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels of these words."""
        return tuple(mark for mark in self.marks if mark != NOT_ASKED)


def marked(
    rows: Sequence[LabelledText], where: str, notes: Counter[str]
) -> tuple[list[LabelledText], list[MarkedText]]:
    """The rows with a word that is asked of, and their words with their labels.

    Args:
        rows: of a table. A label is as many marks as the text has words, with blanks between
            them, or as a JSON list. A text may be a JSON list of its words, too.
        where: the table and its column, for messages.
        notes: counts words, and rows that are left out.

    Raises:
        SpeechkdError: a row has another number of labels than of words, a label is none of
            `MARKS`, or all are the same.
    """
    known: list[LabelledText] = []
    texts: list[MarkedText] = []
    for row in rows:
        words = _listed(row.text) if row.text.startswith("[") else row.text.split()
        text = MarkedText(tuple(words), _marks(row, where))
        if len(text.marks) != len(text.words):
            raise SpeechkdError(
                f"{where}, row {row.id}: {len(text.words)} words and {len(text.marks)} labels "
                f"({row.text[:60]!r}, {row.label[:60]!r}). A text is cut at its blanks, and each "
                "word needs a label: 1, 0, or - where it is not asked of."
            )
        if text.places:
            known.append(replace(row, text=" ".join(words)))
            texts.append(text)
        else:
            notes["rows without a word that is asked of, left out"] += 1
    labels = Counter(label for text in texts for label in text.labels)
    if len(labels) < 2:
        fault = (
            f"all words have the label {next(iter(labels))}" if labels else "no word is asked of"
        )
        raise SpeechkdError(f"{where}: {fault}; there must be words with 0 and words with 1.")
    notes["words that are asked of"] = labels.total()
    notes["of them with label 1"] = labels[1]
    if silent := sum(text.marks.count(NOT_ASKED) for text in texts):
        notes["words that are read and not asked of"] = silent
    return known, texts


def _marks(row: LabelledText, where: str) -> tuple[int, ...]:
    label = row.label.strip()
    parts = _listed(label) if label.startswith("[") else label.split()
    try:
        return tuple(MARKS[class_name(part).casefold()] for part in parts)
    except KeyError as error:
        raise SpeechkdError(
            f"{where}, row {row.id}: the label {error} of a word is none of 1, 0 and - (not asked "
            "of). Labels of words stand in one cell with blanks between them, or in a JSON list."
        ) from None


def _listed(cell: str) -> list[str]:
    """The members of a JSON list as text; a text that only begins like one is cut at blanks."""
    try:
        values: list[Any] = parse_json(cell)
    except ValueError:
        return cell.split()
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def word_task(name: str) -> Task:
    """The task that asks of each word whether it has a label."""
    return Task(name, "words", OUTPUTS, f"{name}: yes or no of each word of a text")


def word_question(
    task: Task, rows: Sequence[LabelledText], texts: Sequence[MarkedText], fold: Fold, where: str
) -> Question:
    """The question that one division of the rows asks.

    Args:
        task: from `word_task`.
        rows: the rows.
        texts: their words.
        fold: says which row is in which split.
        where: the table, for messages.

    Raises:
        SpeechkdError: all training words have the same label.
    """
    places = {s: [i for i, own in enumerate(fold.splits) if own == s] for s in SPLITS}
    labels = {
        split: np.array([label for i in rows_in for label in texts[i].labels], np.int64)
        for split, rows_in in places.items()
    }
    if len(np.unique(labels["train"])) < 2:
        raise SpeechkdError(
            f"{where}: all words of the training split"
            f"{f' of fold {fold.name}' if fold.name else ''} have the same label, so nothing can "
            "be learnt from them."
        )
    spelled = {
        split: tuple(texts[i].words[place] for i in rows_in for place in texts[i].places)
        for split, rows_in in places.items()
    }
    prior = TypePrior.of(spelled["train"], labels["train"])
    words = {
        split: AskedWords(
            counts=tuple(len(texts[i].places) for i in rows_in),
            ids=tuple(f"{rows[i].id}:{place + 1}" for i in rows_in for place in texts[i].places),
            spellings=spelled[split],
            prior_n=prior.log_odds(spelled[split]),
        )
        for split, rows_in in places.items()
    }
    raw = [str(label) for label in labels["test"].tolist()]
    return Question(task, places, labels, raw, fold=fold.name, words=words)


@dataclass(frozen=True)
class TypePrior:
    """How often the words of each spelling are a yes in training: a guess without the sentence.

    The probability of a type is (k + m r) / (n + m): k of its n words are a yes, r is the rate of
    all words, and m is that of `STRENGTHS` under which each training word is likeliest by the
    others of its type. The threshold is the best one for F1 on the same probabilities.

    Attributes:
        yes: training words with label 1, by type.
        all: training words, by type.
        rate: share of yes of all training words.
        strength: m.
        threshold: log-odds above which a word is called a yes.
    """

    yes: Counter[str]
    all: Counter[str]
    rate: float
    strength: float
    threshold: float

    @classmethod
    def of(cls, words: Sequence[str], labels_n: Array) -> "TypePrior":
        """The prior of some words, of which at least one is a yes and one is none.

        Args:
            words: as the texts write them; letters and digits in any case make a type.
            labels_n: the label of each.
        """
        types = [essence(word) for word in words]
        every = Counter(types)
        yes = Counter(t for t, label in zip(types, labels_n.tolist(), strict=True) if label)
        rate = float(np.mean(labels_n))
        others_n = np.array([every[t] for t in types], np.float64) - 1
        yes_n = np.array([yes[t] for t in types], np.float64) - labels_n

        def left_one_out(strength: float) -> Array:
            return np.asarray((yes_n + strength * rate) / (others_n + strength))

        def likelihood(strength: float) -> float:
            p_n = left_one_out(strength)
            return float(np.log(np.where(labels_n == 1, p_n, 1 - p_n)).sum())

        strength = max(STRENGTHS, key=likelihood)
        p_n = left_one_out(strength)
        threshold = best_threshold(labels_n, np.log(p_n) - np.log1p(-p_n))
        return cls(yes, every, rate, strength, 0.0 if threshold is None else threshold)

    def log_odds(self, words: Sequence[str]) -> Array:
        """Log-odds of yes of each word `[n]`, less the threshold, float32."""
        types = [essence(word) for word in words]
        p_n = np.array(
            [
                (self.yes[t] + self.strength * self.rate) / (self.all[t] + self.strength)
                for t in types
            ],
            np.float64,
        )
        return np.asarray(np.log(p_n) - np.log1p(-p_n) - self.threshold, np.float32)
