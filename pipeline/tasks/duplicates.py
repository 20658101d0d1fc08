"""Texts that stand more than once: how many of the test are also in training, and one of each."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.tasks.splits import SPLITS
from pipeline.tasks.task import Question

WARNED_SHARE = 0.01
"""Share of the test texts that may stand in training without a warning."""


def essence(text: str) -> str:
    """What makes two texts the same: their words, whatever their case and punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def with_repetitions(questions: Iterable[Question], texts: Sequence[str]) -> list[Question]:
    """The questions, each with the number of its test texts that stand in its training, too."""
    essences = [essence(text) for text in texts]
    return [_with_repetitions(question, essences) for question in questions]


def _with_repetitions(question: Question, essences: Sequence[str]) -> Question:
    trained = {essences[place] for place in question.places["train"]}
    repeated = sum(essences[place] in trained for place in question.places["test"])
    return replace(question, repeated=repeated)


def remark(question: Question, remedy: str) -> str:
    """What is to be said of a question's repeated texts; empty if there are none.

    Args:
        question: with its repetitions.
        remedy: how to do without them, for a warning.
    """
    tests = question.counts["test"]
    if not question.repeated:
        return ""
    text = (
        f"{question.title}: {question.repeated:,} of {tests:,} test texts "
        f"({100 * question.repeated / tests:.1f} %) stand in training, too"
    )
    if question.repeated <= WARNED_SHARE * tests:
        return text
    return (
        f"WARNING: {text}: their labels may be remembered, so the figures are too good for other "
        f"texts; {remedy}"
    )


def distinct(texts: Sequence[str], splits: Sequence[str]) -> tuple[list[int], int]:
    """One place of each text: in the test rather than in validation, there rather than in training.

    So what is published as a test set stays whole, and only repetitions within it go. Of several in
    one split, the first stays.

    Args:
        texts: the texts.
        splits: the split of each; names other than `SPLITS` come last.

    Returns:
        Places that stay, in order, and how many texts go.
    """
    rank = {split: place for place, split in enumerate(reversed(SPLITS))}
    order = sorted(range(len(texts)), key=lambda i: (rank.get(splits[i], len(rank)), i))
    owner: dict[str, int] = {}
    for place in order:
        owner.setdefault(essence(texts[place]), place)
    stay = sorted(owner.values())
    return stay, len(texts) - len(stay)


def contradictions(texts: Sequence[str], labels: Sequence[str]) -> int:
    """How many texts stand with different labels."""
    pairs = {(essence(text), label) for text, label in zip(texts, labels, strict=True)}
    counts = Counter(text for text, _ in pairs)
    return sum(count > 1 for count in counts.values())
