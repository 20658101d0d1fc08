"""The primary comparisons of docs/natural-speech.md: paired over seeds, with Holm's correction."""

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from pipeline.foundation.tables import json_lines
from pipeline.reports.holm import holm

MEASURES = {
    "stress": "average_precision",
    "valence": "pearson",
    "arousal": "pearson",
    "emotion": "weighted_f1",
}
"""The measure of each primary task: of a student its mean over folds and fine-tuning seeds."""
OTHER_MEASURES = {"sarcasm": "accuracy", "intents": "accuracy"}
"""Of tasks that are not primary."""
Questions = Mapping[str, Sequence[str]]
"""For each arm, the arms that it is to be better than."""
QUESTIONS: Questions = {
    "word-crd": ("none", "word-crd-shuffled"),
    "clip-crd": ("none", "clip-crd-shuffled"),
}
FAMILY = len(MEASURES) * len(QUESTIONS)
"""Hypotheses that Holm's correction is over, whether they can be asked or not."""
LEVEL = 0.05
ROUNDING = 1e-9
"""Measures that differ by less are equal: they are means of some figures between -1 and 1."""


@dataclass(frozen=True)
class Comparison:
    """Two arms on one task.

    Attributes:
        task: its name.
        arm: that is to be better.
        other: than this one.
        gains: of each pre-training seed that both have, in the task's own measure.
    """

    task: str
    arm: str
    other: str
    gains: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean gain."""
        return float(np.mean(self.gains))

    @property
    def varies(self) -> bool:
        """Whether gains differ by more than rounding; if not, nothing was drawn anew."""
        return float(np.ptp(self.gains)) > ROUNDING

    @property
    def half_width(self) -> float:
        """Half of Student's 95 % interval; infinite where gains do not vary, as with one seed."""
        if not self.varies:
            return math.inf
        n = len(self.gains)
        spread = float(np.std(self.gains, ddof=1))
        return float(stats.t.ppf(0.975, n - 1)) * spread / math.sqrt(n)

    @property
    def points(self) -> str:
        """Mean gain and its interval, in hundredths of the measure."""
        width = f"{100 * self.half_width:.2f}" if math.isfinite(self.half_width) else "?"
        return f"{100 * self.mean:+.2f} ± {width}"

    @property
    def p(self) -> float:
        """Two-sided p of Student's t over paired seeds; 1 where gains do not vary."""
        return float(stats.ttest_1samp(self.gains, 0.0).pvalue) if self.varies else 1.0


def values_of(out: Path, done: Container[str]) -> dict[tuple[str, str], dict[int, float]]:
    """By task and arm, for each pre-training seed the task's measure.

    An arm of one kind of speech alone is named with it (`read-word-crd`), those of all are not.
    A correlation that is not defined, because all answers are alike, counts as 0.

    Args:
        out: the study's folder.
        done: names of the cells that have ended by their present commands. Others are left out:
            the mean of some of their folds is another measure.
    """
    values: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for task, measure in (MEASURES | OTHER_MEASURES).items():
        for path in sorted((out / "results" / task).glob("*/results.jsonl")):
            run = path.parent.name
            if f"judge/{task}/{run}" not in done:
                continue
            arm, _, seed = run.removeprefix("all-").rpartition("-")
            each = [row["metrics"][measure] for _, row in json_lines(path)]
            values[task, arm][int(seed)] = float(np.mean([0.0 if x is None else x for x in each]))
    return dict(values)


def comparisons(
    values: Mapping[tuple[str, str], Mapping[int, float]],
    tasks: Iterable[str] = MEASURES,
    questions: Questions = QUESTIONS,
) -> list[Comparison]:
    """The comparisons that there are pairs of; the primary ones by default."""
    pairs = []
    for task in tasks:
        for arm, others in questions.items():
            for other in others:
                one, two = values.get((task, arm), {}), values.get((task, other), {})
                gains = tuple(one[seed] - two[seed] for seed in sorted(one.keys() & two.keys()))
                if gains:
                    pairs.append(Comparison(task, arm, other, gains))
    return pairs


def primary_table(out: Path, done: Container[str]) -> str:
    """All primary comparisons that there are, in points, and what follows, as Markdown.

    An arm has to be better than both others. So a hypothesis has the larger p of its two
    comparisons (or 1 if one of them goes the other way), and Holm's correction is over hypotheses.

    Args:
        out: the study's folder.
        done: as of `values_of`.
    """
    primary = comparisons(values_of(out, done))
    lines = [
        "Gains in points (× 100), with Student's 95 % interval over pre-training seeds",
        "",
        "| task | compared | gain | p | seeds |",
        "|---|---|--:|--:|--:|",
    ]
    for one in primary:
        pair = f"{one.arm} over {one.other} | {one.points}"
        lines.append(f"| {one.task} | {pair} | {one.p:.4f} | {len(one.gains)} |")
    pairs_of = {
        (task, arm): [c for c in primary if (c.task, c.arm) == (task, arm)]
        for task in MEASURES
        for arm in QUESTIONS
    }
    whole = {k: both for k, both in pairs_of.items() if len(both) == len(QUESTIONS[k[1]])}
    p_of = [max(c.p if c.mean > 0 else 1.0 for c in both) for both in whole.values()]
    lines += ["", f"{len(whole)} of {FAMILY} hypotheses can be asked", ""]
    lines += ["| task | hypothesis | p | Holm's p | holds |", "|---|---|--:|--:|---|"]
    for (task, arm), p, adjusted in zip(whole, p_of, holm(p_of, FAMILY), strict=True):
        better = f"{arm} is better than {' and '.join(QUESTIONS[arm])}"
        holds = "yes" if adjusted <= LEVEL else "not shown"
        lines.append(f"| {task} | {better} | {p:.4f} | {adjusted:.4f} | {holds} |")
    return "\n".join(lines)


def secondary_table(out: Path, done: Container[str], questions: Questions) -> str:
    """All comparisons that are not primary, in points, as Markdown. None of them is a claim.

    Args:
        out: the study's folder.
        done: as of `values_of`.
        questions: of arms that are not primary; the primary ones are asked of other tasks, too.
    """
    values = values_of(out, done)
    every = comparisons(values, OTHER_MEASURES, QUESTIONS)
    every += comparisons(values, MEASURES, questions)
    lines = ["| task | compared | gain | seeds |", "|---|---|--:|--:|"]
    for one in every:
        pair = f"{one.arm} over {one.other}"
        lines.append(f"| {one.task} | {pair} | {one.points} | {len(one.gains)} |")
    return "\n".join(lines)
