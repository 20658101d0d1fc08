"""Figures of docs/natural-speech.md, and comparisons paired over seeds, with Holm's correction."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from pipeline.finetuning.results import settled
from pipeline.foundation.atomic import write_json
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.provenance import git_commit
from pipeline.foundation.tables import json_lines
from pipeline.reports.holm import holm

MEASURES = {
    "stress": "average_precision",
    "valence": "pearson",
    "arousal": "pearson",
    "emotion": "weighted_f1",
}
"""The measure of each primary task: of a student its mean over folds and fine-tuning seeds."""
OTHER_MEASURES = {
    **dict.fromkeys(("sarcasm", "intents", "sentiment"), "accuracy"),
    **dict.fromkeys(("acts-telephone", "acts-meetings"), "accuracy"),
    "mosei": "pearson",
}
"""Of tasks that are not primary."""
TITLES = {
    "stress": "stressed words, average precision",
    "valence": "valence, r",
    "arousal": "arousal, r",
    "emotion": "emotion, weighted F1",
    "sarcasm": "sarcasm, accuracy",
    "intents": "intents, accuracy",
    "mosei": "CMU-MOSEI sentiment, r",
    "sentiment": "MELD sentiment, accuracy",
    "acts-telephone": "acts on the telephone, accuracy",
    "acts-meetings": "acts in meetings, accuracy",
    "blimp": "BLiMP, accuracy",
    "supplement": "its supplement, accuracy",
}
"""Of each task and its measure."""
Values = Mapping[tuple[str, str], Mapping[int | str, float]]
"""By task and arm, for each pre-training seed the task's measure. Words stand for a seed of another
run, whose students began with another base."""
Questions = Mapping[str, Sequence[str]]
"""For each arm, the arms that it is to be better than."""
QUESTIONS: Questions = {
    "word-crd": ("none", "word-crd-shuffled"),
    "clip-crd": ("none", "clip-crd-shuffled"),
}
FAMILY = len(MEASURES) * len(QUESTIONS)
"""Hypotheses that Holm's correction is over, whether they can be asked or not."""
FEWEST = 3
"""Pre-training seeds that all students of a hypothesis must have: the plan's stopping rule."""
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


def results_of(
    out: Path, done: Container[str]
) -> Iterator[tuple[str, str, list[Mapping[str, Any]]]]:
    """Task, student, and the lines of its results, of every cell of fine-tuning that is done.

    Args:
        out: the study's folder.
        done: names of the cells that are done. Others are left out: the mean of some of their folds
            is another measure.

    Raises:
        SpeechkdError: two students of a task differ in data, recipe, folds or fine-tuning seeds.
    """
    first: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in sorted((out / "results").glob("*/*/results.jsonl")):
        folder, task, run = path.parent, path.parts[-3], path.parts[-2]
        if f"judge/{task}/{run}" not in done:
            continue
        rows = [row for _, row in json_lines(path)]
        asked = sorted((row["fold"], row["seed"]) for row in rows)
        for row in rows:
            fixed = settled({part: row[part] for part in ("data", "recipe")})
            mine = {f"{part}.{name}": v for part in fixed for name, v in fixed[part].items()}
            mine["fold and fine-tuning seed"] = asked
            other, theirs = first.setdefault(task, (folder, mine))
            differing = [
                f"{name}: {mine.get(name)} and {theirs.get(name)}"
                for name in sorted(mine.keys() | theirs.keys())
                if mine.get(name) != theirs.get(name)
            ]
            if differing:
                raise SpeechkdError(
                    f"{folder} and {other} must not be compared, because they differ in "
                    f"{'; '.join(differing)}. Fine-tune both students alike."
                )
        yield task, run, rows


def figure(row: Mapping[str, Any], measure: str) -> float:
    """A line's figure in a measure: 0 where it is not defined, as r is if all answers are alike."""
    value = row["metrics"][measure]
    return 0.0 if value is None else float(value)


def values_of(out: Path, done: Container[str]) -> Values:
    """By task and arm, for each pre-training seed the task's measure.

    An arm of one kind of speech alone is named with it (`read-word-crd`), those of all are not.

    Args:
        out: the study's folder.
        done: as of `results_of`.

    Raises:
        SpeechkdError: as of `results_of`.
    """
    measures = MEASURES | OTHER_MEASURES
    values: dict[tuple[str, str], dict[int | str, float]] = defaultdict(dict)
    means = [
        (task, run, float(np.mean([figure(row, measures[task]) for row in rows])))
        for task, run, rows in results_of(out, done)
    ]
    for task, run, mean in (*means, *minimal_pairs_of(out, done)):
        arm, _, seed = run.removeprefix("all-").rpartition("-")
        values[task, arm][int(seed)] = mean
    return dict(values)


def minimal_pairs_of(out: Path, done: Container[str]) -> Iterator[tuple[str, str, float]]:
    """BLiMP and its supplement, student, and its accuracy over pairs, as `results_of`."""
    for path in sorted((out / "blimp").glob("*.json")):
        run = path.stem
        if f"judge/blimp/{run}" in done:
            content = json.loads(path.read_text(encoding="utf-8"))
            yield "blimp", run, content["scores"][run]["over_pairs"]
            yield "supplement", run, content["supplement"]["scores"][run]["over_pairs"]


def of_seeds(values: Values, choose: Callable[[int | str], bool]) -> Values:
    """The figures of some pre-training seeds."""
    return {
        key: {seed: value for seed, value in of_seed.items() if choose(seed)}
        for key, of_seed in values.items()
    }


def write_values(values: Values, path: Path) -> None:
    """Write figures to a JSON file, which outlives the students that they are of."""
    tasks: dict[str, dict[str, dict[str, float]]] = {}
    for (task, arm), of_seed in sorted(values.items()):
        rounded = {str(seed): round(value, 5) for seed, value in sorted(of_seed.items(), key=str)}
        tasks.setdefault(task, {})[arm] = rounded
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"commit": git_commit(), "tasks": tasks})


def read_values(path: Path) -> Values:
    """The figures that `write_values` wrote."""
    tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    return {
        (task, arm): {int(seed): value for seed, value in of_seed.items()}
        for task, arms in tasks.items()
        for arm, of_seed in arms.items()
    }


def join_runs(values: Values, earlier: Values, run: str) -> Values:
    """Figures with those of an earlier run of this name, whose students began with another base.

    Students are compared only with those of the same seed and base. So seeds of `earlier` have a
    name of their own. Those of which `values` has all that `earlier` has of a task are left out,
    because they would count twice.
    """
    lacks = {
        (task, seed)
        for (task, arm), of_seed in earlier.items()
        for seed in of_seed
        if seed not in values.get((task, arm), {})
    }
    both = {key: dict(of_seed) for key, of_seed in values.items()}
    for (task, arm), of_seed in earlier.items():
        more = {f"{seed}, {run}": v for seed, v in of_seed.items() if (task, seed) in lacks}
        both.setdefault((task, arm), {}).update(more)
    return both


def with_earlier(values: Values, files: Iterable[Path]) -> Values:
    """Figures with those of earlier runs, from files that `write_values` wrote; as `join_runs`."""
    for file in files:
        values = join_runs(values, read_values(file), file.stem)
    return values


def figures(out: Path, done: Container[str]) -> str:
    """Every figure of every cell of fine-tuning that is done, its mean over seeds and folds.

    Args:
        out: the study's folder.
        done: as of `results_of`.

    Raises:
        SpeechkdError: as of `results_of`.
    """
    lines = ["| task | student | measure | mean | cells |", "|---|---|---|--:|--:|"]
    for task, run, rows in results_of(out, done):
        for name, value in rows[0]["metrics"].items():
            if value is None or isinstance(value, int | float):
                mean = np.mean([figure(row, name) for row in rows])
                lines.append(f"| {task} | {run} | {name} | {mean:.4f} | {len(rows)} |")
    return "\n".join(lines)


def comparisons(
    values: Values,
    tasks: Iterable[str] = MEASURES,
    questions: Questions = QUESTIONS,
    *,
    together: bool = True,
) -> list[Comparison]:
    """The comparisons that there are pairs of; the primary ones by default.

    Args:
        values: as `values_of` gives them.
        tasks: of which to compare.
        questions: what to compare.
        together: whether all comparisons of an arm are over the seeds that it and all its others
            have, because they answer one question; if not, each is over its own pairs. A seed of
            both runs counts in the later one.
    """
    pairs = []
    for task in tasks:
        for arm, others in questions.items():
            of = {name: values.get((task, name), {}) for name in (arm, *others)}
            for other in others:
                names = of if together else (arm, other)
                both = set.intersection(*(set(of[name]) for name in names))
                earlier = {seed for seed in both if isinstance(seed, str)}
                twice = {seed for seed in earlier if int(seed.partition(",")[0]) in both}
                seeds = sorted(both - twice, key=str)
                gains = tuple(of[arm][seed] - of[other][seed] for seed in seeds)
                if gains:
                    pairs.append(Comparison(task, arm, other, gains))
    return pairs


def primary_table(values: Values) -> str:
    """All primary comparisons that there are, in points, and what follows, as Markdown.

    An arm has to be better than both others. So a hypothesis has the larger p of its two
    comparisons (or 1 if one of them goes the other way), and Holm's correction is over hypotheses.
    Both are over the seeds that all three arms have; of fewer than `FEWEST` nothing is asked.

    Args:
        values: as `values_of` gives them.
    """
    primary = comparisons(values)
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
    whole = {k: both for k, both in pairs_of.items() if both and len(both[0].gains) >= FEWEST}
    p_of = [max(c.p if c.mean > 0 else 1.0 for c in both) for both in whole.values()]
    lines += ["", f"{len(whole)} of {FAMILY} hypotheses can be asked", ""]
    lines += [
        "| task | hypothesis | seeds | p | Holm's p | holds by p |",
        "|---|---|--:|--:|--:|---|",
    ]
    for (task, arm), p, adjusted in zip(whole, p_of, holm(p_of, FAMILY), strict=True):
        better = f"{arm} is better than {' and '.join(QUESTIONS[arm])}"
        seeds = len(whole[task, arm][0].gains)
        holds = "yes" if adjusted <= LEVEL else "not shown"
        lines.append(f"| {task} | {better} | {seeds} | {p:.4f} | {adjusted:.4f} | {holds} |")
    return "\n".join(lines)


def secondary_table(values: Values, tasks: Sequence[str], questions: Questions) -> str:
    """Comparisons that are not primary, in points, as Markdown. None of them is a claim.

    Args:
        values: as `values_of` gives them.
        tasks: a pair of columns each, of the gain and its p.
        questions: rows. Each is over its own pairs of seeds; those that have none are left out.
    """
    titles = [f"{TITLES[task]} | p" for task in tasks]
    lines = [f"| compared | {' | '.join(titles)} | pairs |", f"|---|{'--:|--:|' * len(tasks)}--:|"]
    for arm, others in questions.items():
        for other in others:
            pair = {arm: (other,)}
            of = {one.task: one for one in comparisons(values, tasks, pair, together=False)}
            if of:
                columns = [f"{of[t].points} | {of[t].p:.3f}" if t in of else "– | –" for t in tasks]
                pairs = dict.fromkeys(str(len(one.gains)) for one in of.values())
                row = (f"`{arm}` over `{other}`", *columns, ", ".join(pairs))
                lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def hours_table(values: Values, hours: Mapping[str, float]) -> str:
    """How gains of `word-crd` on stressed words go with hours of speech, in points, as Markdown.

    A straight line over the logarithm of hours goes through all pairs of seeds of this run; the
    interval of its slope is Student's. Pairs of an earlier run are left out: they began with
    another base, and would be of some hours alone.

    Args:
        values: as `values_of` or `with_earlier` gives them.
        hours: for the beginning of each part's arms (as `read-`), its hours.
    """
    own = of_seeds(values, lambda seed: isinstance(seed, int))
    titles = [f"{h:.1f} h" for h in hours.values()]
    lines = [f"| compared | {' | '.join(titles)} | pairs | per doubling | p |",
             f"|---|{'--:|' * (len(hours) + 3)}"]  # fmt: skip
    arm = "word-crd"
    for other in QUESTIONS[arm]:
        ones = [
            one
            for part in hours
            for one in comparisons(own, ["stress"], {part + arm: (part + other,)})
        ]
        if len(ones) < len(hours):
            continue
        doublings = [math.log2(h) for h, one in zip(hours.values(), ones, strict=True)
                     for _ in one.gains]  # fmt: skip
        line = stats.linregress(doublings, [gain for one in ones for gain in one.gains])
        width = stats.t.ppf(0.975, len(doublings) - 2) * line.stderr
        columns = [
            *(one.points for one in ones),
            ", ".join(str(len(one.gains)) for one in ones),
            f"{100 * line.slope:+.2f} ± {100 * width:.2f}",
            f"{line.pvalue:.3f}",
        ]
        lines.append(f"| `{arm}` over `{other}` | {' | '.join(columns)} |")
    return "\n".join(lines)
