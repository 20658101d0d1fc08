"""What students of a planted corpus know: right answers per word, their intervals, a picture."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import vectors_by_key
from pipeline.foundation.arrays import Array

DRAWS = 4_000
LEVEL = 0.95
CHANCE = 0.5
INVERSE_PENALTY = 0.1
"""scikit-learn's C of the probe's logistic regression; fixed, so nothing is tuned on a test."""


@dataclass(frozen=True)
class Share:
    """A mean share of right answers and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Percentages, as in a table: `97.0 (91.5 to 100.0)`."""
        return f"{100 * self.mean:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def right_by_word(predictions: Iterable[Path]) -> dict[str, float]:
    """Share of right answers per test word, from prediction files of `finetune table`."""
    right: dict[str, list[bool]] = defaultdict(list)
    for path in predictions:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                right[row["group"]].append(row["prediction"] == row["label"])
    return {word: float(np.mean(answers)) for word, answers in sorted(right.items())}


def probe_by_word(
    features_CD: Array,
    clips: Sequence[Mapping[str, str]],
    splits: Sequence[str],
    *,
    test_CD: Array | None = None,
) -> dict[str, float]:
    """Share of right answers per test word, of linear probes for affect.

    Args:
        features_CD: vectors of the clips; a probe learns from those of train words.
        clips: rows of `labels.csv`.
        splits: its columns that say which words train; one probe per column.
        test_CD: vectors to predict the affect of, if not the clips' own.
    """
    test_CD = features_CD if test_CD is None else test_CD
    affect_C = np.array([clip["affect"] for clip in clips])
    right: dict[str, list[bool]] = defaultdict(list)
    for split in splits:
        train_C = np.array([clip[split] == "train" for clip in clips])
        answers = linear_probe(features_CD[train_C], affect_C[train_C].tolist(), test_CD[~train_C])
        for i, answer in zip(np.flatnonzero(~train_C).tolist(), answers, strict=True):
            right[clips[i]["word"]].append(bool(answer == affect_C[i]))
    return {word: float(np.mean(answers)) for word, answers in sorted(right.items())}


def linear_probe(train_CD: Array, labels_C: Sequence[str], test_CD: Array) -> Array:
    """Labels of test vectors, by a logistic regression on standardised train vectors.

    Args:
        train_CD: vectors to learn from.
        labels_C: their labels.
        test_CD: vectors to label, standardised by the train vectors' statistics.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=2000))
    model.fit(np.asarray(train_CD, np.float64), list(labels_C))
    labels: Array = model.predict(np.asarray(test_CD, np.float64))
    return labels


def teacher_vectors(cache: TeacherCache, clips: Sequence[Mapping[str, str]]) -> tuple[Array, Array]:
    """Each clip's cached vector, and the mean over all clips of its word, both `[C, E]`."""
    clip_CE = vectors_by_key(cache, [clip["key"] for clip in clips])[1].astype(np.float64)
    word_C = np.array([clip["word"] for clip in clips])
    mean_CE = np.stack([clip_CE[word_C == word].mean(0) for word in word_C])
    return clip_CE, mean_CE


def share(corpora: Sequence[Sequence[Mapping[str, float]]]) -> Share:
    """Mean share over corpora, seeds and words, with a hierarchical bootstrap interval.

    Corpora are drawn with replacement. Within a corpus its seeds are drawn, and its words, which
    are the same for all of its seeds. The interval is the percentile interval of the means (Efron &
    Tibshirani 1993).

    Args:
        corpora: per corpus, per seed, the share of right answers per word; a corpus has the same
            words for all seeds.
    """
    return Share(_mean(corpora), *_interval(_bootstrap_means(corpora)))


def gain(
    first: Sequence[Sequence[Mapping[str, float]]], second: Sequence[Sequence[Mapping[str, float]]]
) -> Share:
    """Mean of `first` less that of `second`, on the same words of the same corpora.

    Corpora and words are drawn once for both, seeds for each on its own.
    """
    means_R = _bootstrap_means(first) - _bootstrap_means(second, seeds_from=1)
    return Share(_mean(first) - _mean(second), *_interval(means_R))


def _interval(means_R: Array) -> tuple[float, float]:
    low, high = np.quantile(means_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _mean(corpora: Sequence[Sequence[Mapping[str, float]]]) -> float:
    return float(np.mean([np.mean([list(seed.values()) for seed in one]) for one in corpora]))


def _bootstrap_means(
    corpora: Sequence[Sequence[Mapping[str, float]]], seeds_from: int = 0
) -> Array:
    """Means `[R]` over resampled corpora, seeds and words."""
    words = np.random.default_rng(0)
    seeds = np.random.default_rng([1, seeds_from])
    means_CR = np.stack([_corpus_means(one, words, seeds) for one in corpora])
    count = len(corpora)
    weights_RC = words.multinomial(count, np.full(count, 1 / count), DRAWS) / count
    means_R: Array = np.einsum("rc,cr->r", weights_RC, means_CR)
    return means_R


def _corpus_means(
    by_seed: Sequence[Mapping[str, float]], words: np.random.Generator, seeds: np.random.Generator
) -> Array:
    """Means `[R]` over resampled seeds and words of one corpus."""
    right_SW = np.array([[one[word] for word in sorted(one)] for one in by_seed])
    s, w = right_SW.shape
    weights_RW = words.multinomial(w, np.full(w, 1 / w), DRAWS) / w
    weights_RS = seeds.multinomial(s, np.full(s, 1 / s), DRAWS) / s
    means_R: Array = np.einsum("rs,sw,rw->r", weights_RS, right_SW, weights_RW)
    return means_R


def picture(rows: Mapping[str, Mapping[str, float]], affects: Mapping[str, str]) -> bytes:
    """Draw who tells a word's affect, and how surely: one dot per word and each row's mean, as PNG.

    Args:
        rows: heading (two lines at most) → word → share of right answers.
        affects: word → its affect.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.1 + 0.95 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(CHANCE, color="0.55", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate(
        "guessing", (CHANCE, 1), xycoords=("data", "axes fraction"), xytext=(0, 4),
        textcoords="offset points", ha="center", fontsize=8, color="0.4",
    )  # fmt: skip
    colours = dict(zip(sorted(set(affects.values())), ("#d98c00", "#3b6fb6"), strict=True))
    for place, right in enumerate(rows.values()):
        stacked: dict[tuple[float, str], int] = defaultdict(int)
        for word, value in sorted(right.items(), key=lambda item: (item[1], affects[item[0]])):
            side = 1 if affects[word] == min(colours) else -1
            level = stacked[round(value, 2), affects[word]]
            stacked[round(value, 2), affects[word]] += 1
            height = place - side * (0.07 + 0.045 * level)
            axes.scatter(value, height, s=14, color=colours[affects[word]], linewidths=0, zorder=2)
        one = share([[right]])
        axes.plot([one.low, one.high], [place, place], color="black", linewidth=1.5, zorder=3)
        axes.scatter(one.mean, place, s=46, color="black", zorder=4)
        axes.annotate(
            f"{100 * one.mean:.0f} %", (1.03, place), xycoords=("axes fraction", "data"),
            va="center", fontsize=11, fontweight="bold", annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), rows, fontsize=10)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("right answers: one dot per word; black: their mean with its 95 % interval")
    for name, colour in colours.items():
        axes.scatter([], [], s=20, color=colour, label=f"spoken in the {name} voice")
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    for edge in ("top", "right", "left"):
        axes.spines[edge].set_visible(False)
    axes.tick_params(axis="y", length=0)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()
