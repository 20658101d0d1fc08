"""The primary comparisons of docs/natural-speech.md: paired over seeds, with Holm's correction."""

import math
from collections import defaultdict
from collections.abc import Mapping
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
QUESTIONS = {
    "word-crd": ("none", "word-crd-shuffled"),
    "clip-crd": ("none", "clip-crd-shuffled"),
}
FAMILY = len(MEASURES) * sum(map(len, QUESTIONS.values()))
"""Comparisons that Holm's correction is over, whether they are there or not."""
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
    def p(self) -> float:
        """Two-sided p of Student's t over paired seeds; 1 where gains do not vary."""
        return float(stats.ttest_1samp(self.gains, 0.0).pvalue) if self.varies else 1.0


def values_of(out: Path) -> dict[tuple[str, str], dict[int, float]]:
    """By task and arm, for each pre-training seed the task's measure of students of all speech.

    Cells that have not ended are left out: the mean of some of their folds is another measure.
    """
    values: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for task, measure in MEASURES.items():
        for path in sorted((out / "results" / task).glob("all-*/results.jsonl")):
            run = path.parent.name
            if not (out / "cells" / f"judge--{task}--{run}.json").exists():
                continue
            arm, _, seed = run.removeprefix("all-").rpartition("-")
            each = [row["metrics"][measure] for _, row in json_lines(path)]
            if each and None not in each:
                values[task, arm][int(seed)] = float(np.mean(each))
    return dict(values)


def comparisons(values: Mapping[tuple[str, str], Mapping[int, float]]) -> list[Comparison]:
    """The primary comparisons that there are pairs of."""
    pairs = []
    for task in MEASURES:
        for arm, others in QUESTIONS.items():
            for other in others:
                one, two = values.get((task, arm), {}), values.get((task, other), {})
                gains = tuple(one[seed] - two[seed] for seed in sorted(one.keys() & two.keys()))
                if gains:
                    pairs.append(Comparison(task, arm, other, gains))
    return pairs


def primary_table(out: Path) -> str:
    """All primary comparisons that there are, in points, as Markdown."""
    primary = comparisons(values_of(out))
    adjusted = holm([one.p for one in primary], FAMILY)
    lines = [
        f"{len(primary)} of {FAMILY} primary comparisons have pairs; gains in points (× 100), with "
        "Student's 95 % interval over pre-training seeds",
        "",
        "| task | compared | gain | p | Holm's p | seeds |",
        "|---|---|---|--:|--:|--:|",
    ]
    for one, p in zip(primary, adjusted, strict=True):
        width = f"± {100 * one.half_width:.2f}" if math.isfinite(one.half_width) else "± ?"
        lines.append(
            f"| {one.task} | {one.arm} over {one.other} | {100 * one.mean:+.2f} {width} "
            f"| {one.p:.4f} | {p:.4f} | {len(one.gains)} |"
        )
    for arm, others in QUESTIONS.items():
        better = [
            task
            for task in MEASURES
            if all(
                any((c.task, c.arm, c.other) == (task, arm, other) and p <= LEVEL and c.mean > 0
                    for c, p in zip(primary, adjusted, strict=True))
                for other in others
            )
        ]  # fmt: skip
        lines += ["", f"{arm} is better than {' and '.join(others)} in: {', '.join(better) or '–'}"]
    return "\n".join(lines)
