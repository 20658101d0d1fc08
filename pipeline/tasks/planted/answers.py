"""What students of a planted corpus know: right answers a word, their intervals, and a picture."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.cache.store import TeacherCache, vectors_by_key
from pipeline.foundation.arrays import Array
from pipeline.tasks.planted.linear_probe import probe

DRAWS = 4_000
LEVEL = 0.95
CHANCE = 0.5


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
    """Share of right answers of each test word, from predictions files of `finetune table`."""
    right: dict[str, list[bool]] = defaultdict(list)
    for path in predictions:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                right[row["group"]].append(row["prediction"] == row["label"])
    return {word: float(np.mean(answers)) for word, answers in sorted(right.items())}


def probed(
    features_CD: Array,
    clips: Sequence[Mapping[str, str]],
    splits: Sequence[str],
    *,
    judged_CD: Array | None = None,
) -> dict[str, float]:
    """Share of right answers of each test word by linear probes of affect.

    Args:
        features_CD: vectors of the clips; those of train words are learnt from.
        clips: rows of `labels.csv`.
        splits: its columns to go by, one after the other.
        judged_CD: what is judged instead of a clip's own vector.
    """
    judged_CD = features_CD if judged_CD is None else judged_CD
    affect_C = np.array([clip["affect"] for clip in clips])
    right: dict[str, list[bool]] = defaultdict(list)
    for split in splits:
        train_C = np.array([clip[split] == "train" for clip in clips])
        found = probe(features_CD[train_C], affect_C[train_C].tolist(), judged_CD[~train_C])
        for i, answer in zip(np.flatnonzero(~train_C).tolist(), found, strict=True):
            right[clips[i]["word"]].append(bool(answer == affect_C[i]))
    return {word: float(np.mean(answers)) for word, answers in sorted(right.items())}


def teacher_vectors(cache: TeacherCache, clips: Sequence[Mapping[str, str]]) -> tuple[Array, Array]:
    """The cached vector of each clip, and the mean over all clips of its word, `[C, E]` both."""
    clip_CE = vectors_by_key(cache, [clip["key"] for clip in clips])[1].astype(np.float64)
    word_C = np.array([clip["word"] for clip in clips])
    mean_CE = np.stack([clip_CE[word_C == word].mean(0) for word in word_C])
    return clip_CE, mean_CE


def share(corpora: Sequence[Sequence[Mapping[str, float]]]) -> Share:
    """Mean share over corpora, seeds and words, with a hierarchical bootstrap interval.

    Corpora are drawn with replacement, in each its seeds and, the same for all of its seeds, its
    words; percentile interval of the means (Efron & Tibshirani 1993).

    Args:
        corpora: of each corpus, of each seed, the share of right answers of each word; a corpus
            has the same words for all seeds.
    """
    return _summary(_drawn(corpora), corpora)


def gain(
    first: Sequence[Sequence[Mapping[str, float]]], second: Sequence[Sequence[Mapping[str, float]]]
) -> Share:
    """Mean of `first` less `second`, judged on the same words of the same corpora.

    Corpora and words are drawn once for both, seeds for each.
    """
    drawn = _drawn(first) - _drawn(second, seeds_from=1)
    mean = _mean(first) - _mean(second)
    return Share(mean, *_ends(drawn))


def _summary(drawn_R: Array, corpora: Sequence[Sequence[Mapping[str, float]]]) -> Share:
    return Share(_mean(corpora), *_ends(drawn_R))


def _ends(drawn_R: Array) -> tuple[float, float]:
    low, high = np.quantile(drawn_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _mean(corpora: Sequence[Sequence[Mapping[str, float]]]) -> float:
    return float(np.mean([np.mean([list(seed.values()) for seed in one]) for one in corpora]))


def _drawn(corpora: Sequence[Sequence[Mapping[str, float]]], seeds_from: int = 0) -> Array:
    """Means `[R]` of the drawn corpora, seeds and words."""
    words = np.random.default_rng(0)
    seeds = np.random.default_rng([1, seeds_from])
    means_CR = np.stack([_of_corpus(one, words, seeds) for one in corpora])
    count = len(corpora)
    picked_RC = words.multinomial(count, np.full(count, 1 / count), DRAWS) / count
    drawn_R: Array = np.einsum("rc,cr->r", picked_RC, means_CR)
    return drawn_R


def _of_corpus(
    of_seeds: Sequence[Mapping[str, float]], words: np.random.Generator, seeds: np.random.Generator
) -> Array:
    right_SW = np.array([[one[word] for word in sorted(one)] for one in of_seeds])
    s, w = right_SW.shape
    words_RW = words.multinomial(w, np.full(w, 1 / w), DRAWS) / w
    seeds_RS = seeds.multinomial(s, np.full(s, 1 / s), DRAWS) / s
    drawn_R: Array = np.einsum("rs,sw,rw->r", seeds_RS, right_SW, words_RW)
    return drawn_R


def picture(rows: Mapping[str, Mapping[str, float]], affects: Mapping[str, str]) -> bytes:
    """A dot a word and the mean of each row, as PNG: who tells a word's affect, and how surely.

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
    axes.set_xlabel("right answers: a dot a word, black their mean with its 95 % interval")
    for name, colour in colours.items():
        axes.scatter([], [], s=20, color=colour, label=f"spoken in the {name} voice")
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    for edge in ("top", "right", "left"):
        axes.spines[edge].set_visible(False)
    axes.tick_params(axis="y", length=0)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()
