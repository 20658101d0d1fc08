"""Accuracies over minimal pairs, what sentence length alone gives, and differences of two encoders.

Shapes: n pairs, R bootstrap draws.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.hashing import json_sha256
from pipeline.foundation.seeds import derive
from pipeline.models.texts import all_composed
from pipeline.tasks.pair_files import Pair

DRAWS = 10_000
LEVEL = 0.95
DIFFERENCES = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""By how much one encoder may decide a pair better than another; a tie counts one half."""
WRONG, TIE, RIGHT = "0", "t", "1"
DECISIONS = {WRONG: 0.0, TIE: 0.5, RIGHT: 1.0}
"""What each letter of `letters` counts."""


@dataclass(frozen=True)
class Scores:
    """Accuracies over pairs.

    Attributes:
        paradigms: share of right pairs per paradigm; a tie counts one half.
        categories: mean over the paradigms of each category.
        mean: mean over all paradigms.
        ties: pairs whose sentences are equally likely.
        pairs: how many pairs were compared.
        fields: share of right pairs per field, as papers report it.
        field_paradigms: mean over the paradigms of each field.
        over_pairs: share of right pairs of all.
    """

    paradigms: dict[str, float]
    categories: dict[str, float]
    mean: float
    ties: int
    pairs: int
    fields: dict[str, float]
    field_paradigms: dict[str, float]
    over_pairs: float


def decisions(pairs: Sequence[Pair], good: Sequence[float], bad: Sequence[float]) -> Array:
    """For each pair `[n]` 1 if the good sentence scores higher, 0 if the bad one does, else 1/2.

    Raises:
        SpeechkdError: a score is not a finite number.
    """
    good_n, bad_n = np.asarray(good, np.float64), np.asarray(bad, np.float64)
    broken = ~np.isfinite(good_n + bad_n)
    if broken.any():
        pair = pairs[int(broken.argmax())]
        raise SpeechkdError(f"the likelihood of {pair.good!r} or {pair.bad!r} is no number.")
    decided_n: Array = (good_n > bad_n) + 0.5 * (good_n == bad_n)
    return decided_n


def compare_pairs(pairs: Sequence[Pair], good: Sequence[float], bad: Sequence[float]) -> Scores:
    """Accuracies from the likelihoods of the good and the bad sentence of each pair.

    Raises:
        SpeechkdError: a likelihood is not a finite number.
    """
    return score(pairs, decisions(pairs, good, bad))


def score(pairs: Sequence[Pair], decided_n: Array) -> Scores:
    """Accuracies from the decision on each pair."""
    paradigms = _means(pairs, decided_n, lambda pair: pair.paradigm)
    category_of = {pair.paradigm: pair.category for pair in pairs}
    field_of = {pair.paradigm: pair.field for pair in pairs}
    return Scores(
        paradigms=paradigms,
        categories=_over_paradigms(paradigms, category_of),
        mean=fmean(paradigms.values()),
        ties=int((decided_n == DECISIONS[TIE]).sum()),
        pairs=len(pairs),
        fields=_means(pairs, decided_n, lambda pair: pair.field),
        field_paradigms=_over_paradigms(paradigms, field_of),
        over_pairs=float(decided_n.mean()),
    )


def _means(
    pairs: Sequence[Pair], decided_n: Array, group: Callable[[Pair], str]
) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for pair, decided in zip(pairs, decided_n.tolist(), strict=True):
        values.setdefault(group(pair), []).append(decided)
    return {name: fmean(values[name]) for name in sorted(values)}


def _over_paradigms(
    paradigms: Mapping[str, float], group_of: Mapping[str, str]
) -> dict[str, float]:
    return {
        group: fmean(value for name, value in paradigms.items() if group_of[name] == group)
        for group in sorted(set(group_of.values()))
    }


def shorter_sentence(pairs: Sequence[Pair], length: Callable[[str], int]) -> Array:
    """What choosing the shorter sentence decides, as `decisions` `[n]`; equal lengths are a tie.

    A sum of log-probabilities is larger for a shorter sentence as a rule, so an encoder that knows
    nothing may score this.

    Args:
        pairs: the pairs.
        length: of a sentence, in words or tokens.
    """
    sizes = [[-length(text) for text in (pair.good, pair.bad)] for pair in pairs]
    return decisions(pairs, [good for good, _ in sizes], [bad for _, bad in sizes])


def words(text: str) -> int:
    """How many words a sentence has, cut at white space."""
    return len(text.split())


def tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Callable[[str], int]:
    """How many tokens each of some sentences has, special ones left out."""
    read = all_composed(texts)
    ids = tokenizer(read, add_special_tokens=False, verbose=False)["input_ids"]
    length_of = {text: len(row) for text, row in zip(texts, ids, strict=True)}
    return length_of.__getitem__


def letters(pairs: Sequence[Pair], decided_n: Array) -> dict[str, str]:
    """The decisions of each paradigm in the order of its pairs: 1, 0, or t for a tie."""
    letter_of = {value: letter for letter, value in DECISIONS.items()}
    by_paradigm: dict[str, list[str]] = {}
    for pair, decided in zip(pairs, decided_n.tolist(), strict=True):
        by_paradigm.setdefault(pair.paradigm, []).append(letter_of[decided])
    return {name: "".join(decided) for name, decided in by_paradigm.items()}


def pairs_sha256(pairs: Sequence[Pair]) -> str:
    """Digest of the pairs: decisions of files with equal digests can be compared one by one."""
    return json_sha256([[pair.paradigm, pair.good, pair.bad] for pair in pairs])


@dataclass(frozen=True)
class Contrast:
    """How much better one encoder decides the same pairs than another.

    Attributes:
        difference: of the accuracies over pairs; positive where the first is better.
        low: lower end of its 95 % interval, by a bootstrap over pairs within each paradigm.
        high: upper end.
        better: pairs that the first decides better.
        worse: pairs that the second decides better.
        p: McNemar's exact two-sided test of better against worse.
        pairs: how many pairs there are.
    """

    difference: float
    low: float
    high: float
    better: int
    worse: int
    p: float
    pairs: int


def contrasts(pairs: Sequence[Pair], first_n: Array, second_n: Array) -> dict[str, Contrast]:
    """Compare two encoders field by field, and over `all` pairs.

    The same pairs are drawn for both (Efron & Tibshirani 1993, chapter 8; percentile intervals).
    Of pairs that one of them decides better, a half would favour either by chance: McNemar 1947,
    exact (a tie against right or wrong counts as better or worse, as in a sign test). Neither
    says anything of another seed of pre-training.

    Args:
        pairs: the pairs.
        first_n: decisions of the first encoder.
        second_n: those of the other.
    """
    by_field: dict[str, dict[str, list[float]]] = {}
    for pair, apart in zip(pairs, (first_n - second_n).tolist(), strict=True):
        by_field.setdefault(pair.field, {}).setdefault(pair.paradigm, []).append(apart)
    draws = {field: _Drawn.of(paradigms) for field, paradigms in sorted(by_field.items())}
    whole = {field: one.contrast() for field, one in draws.items()}
    return {**whole, "all": sum(draws.values(), _Drawn.of({})).contrast()}


@dataclass(frozen=True)
class _Drawn:
    """Sums of differences: as they are, and in each bootstrap draw."""

    total: float
    draws_R: Array
    better: int
    worse: int
    pairs: int

    @classmethod
    def of(cls, paradigms: Mapping[str, Sequence[float]]) -> "_Drawn":
        """Draw pairs within each paradigm.

        The differences have five values, so how many of a draw's pairs have each of them is a
        draw from a multinomial distribution.
        """
        draws_R = np.zeros(DRAWS)
        total, better, worse, count = 0.0, 0, 0, 0
        for name, apart in sorted(paradigms.items()):
            apart_n = np.asarray(apart)
            shares = [(apart_n == value).mean() for value in DIFFERENCES]
            rng = np.random.default_rng(derive("minimal pairs", name, len(apart_n)))
            draws_R += rng.multinomial(len(apart_n), shares, size=DRAWS) @ np.array(DIFFERENCES)
            total += float(apart_n.sum())
            better += int((apart_n > 0).sum())
            worse += int((apart_n < 0).sum())
            count += len(apart_n)
        return cls(total, draws_R, better, worse, count)

    def __add__(self, other: "_Drawn") -> "_Drawn":
        return _Drawn(
            self.total + other.total,
            self.draws_R + other.draws_R,
            self.better + other.better,
            self.worse + other.worse,
            self.pairs + other.pairs,
        )

    def contrast(self) -> Contrast:
        """The difference, its interval and its test."""
        tail = 100 * (1 - LEVEL) / 2
        low, high = np.percentile(self.draws_R / self.pairs, [tail, 100 - tail])
        return Contrast(
            difference=self.total / self.pairs,
            low=float(low),
            high=float(high),
            better=self.better,
            worse=self.worse,
            p=mcnemar(self.better, self.worse),
            pairs=self.pairs,
        )


def mcnemar(better: int, worse: int) -> float:
    """Exact two-sided p of so many pairs decided better and worse, each as likely by chance."""
    count, least = better + worse, min(better, worse)
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        for k in range(least + 1)
    ]
    tail = math.fsum(math.exp(log - count * math.log(2)) for log in logs)
    return min(1.0, 2 * tail)
