"""What students gain over their equals without a teacher, and over their own controls."""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pipeline.reports.cells import ResultSet
from pipeline.reports.comparison import Difference, Side, difference
from pipeline.reports.formats import NOTHING, listed
from pipeline.reports.partners import Group, Partners, groups_of, partners_of
from pipeline.reports.predictions import Predictions
from pipeline.reports.tables import WORD_ALONE, encoders_of
from pipeline.tasks.spans.overlap import SCORES
from pipeline.tasks.spans.table import CONTROLS
from pipeline.tasks.words import RANKED

MEASURES = {
    "classes": ("accuracy",),
    "flags": ("accuracy",),
    "speaker": (),  # a rate of pairs has no share for each clip
    "spans": tuple(SCORES),
    "value": ("mae", "pearson"),
    "words": tuple(RANKED),
}
TITLES = {
    "mae": "MAE",
    "pearson": "Pearson r",
    "weighted_f1": "weighted F1",
    **RANKED,
    **SCORES,
}
ON_DEMAND = {"classes": ("weighted_f1",)}
"""Measures that are compared where they are asked for."""


@dataclass(frozen=True)
class Gain:
    """One group of encoders compared with another in one measure.

    Attributes:
        measure: the task, or for a regression its measure.
        label: the group's name.
        against: the name of the group that it is compared with.
        difference: how much better it is; None if that cannot be stated (see `difference`).
        percent: whether the difference is shown in points (times 100).
        task: the task.
        key: the measure as `difference` names it.
    """

    measure: str
    label: str
    against: str
    difference: Difference | None
    percent: bool
    task: str = ""
    key: str = ""

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `noise`, or a dash."""
        if self.difference is None:
            return NOTHING
        if not self.difference.beyond_noise:
            return "noise"
        return "better" if self.difference.mean > 0 else "worse"

    def cells(self) -> list[str]:
        """Gain, interval, common seeds, pre-training seeds and verdict, as text."""
        one = self.difference
        if one is None:
            return [NOTHING, NOTHING, "0", NOTHING, NOTHING]
        scale, digits = (100, 2) if self.percent else (1, 4)
        mean, low, high = (f"{x * scale:+.{digits}f}" for x in (one.mean, one.low, one.high))
        remark = ", one seed" if one.seeds == 1 and one.beyond_noise else ""
        runs = " and ".join(map(str, dict.fromkeys(one.runs)))
        return [mean, f"{low} to {high}", str(one.seeds), runs, self.verdict + remark]


@dataclass(frozen=True)
class Gains:
    """All comparisons of a set of results.

    Attributes:
        groups: every group of encoders by name, in the order of the tables.
        partners: whom each is compared with.
        over_baseline: each group of students against its equal without a teacher.
        over_control: each of those with a teacher against its own controls.
        over_word_alone: of tasks of words, every group against what each word tells without its
            text.
        over_unasked: of spans, every group against the same encoders fine-tuned as a control: with
            questions about other passages, or none.
        over_fresh: encoders of `pretrain` against the same ones with fresh weights, `fresh:RUN` or
            `scratch:RUN`, or against what they began with, with fresh weights.
        over_start: encoders of `pretrain` against those that they began with.
    """

    groups: Mapping[str, Group]
    partners: Mapping[str, Partners]
    over_baseline: tuple[Gain, ...]
    over_control: tuple[Gain, ...]
    over_word_alone: tuple[Gain, ...] = ()
    over_unasked: tuple[Gain, ...] = ()
    over_fresh: tuple[Gain, ...] = ()
    over_start: tuple[Gain, ...] = ()

    @property
    def all(self) -> tuple[Gain, ...]:
        """Every comparison."""
        return (
            *self.over_baseline,
            *self.over_control,
            *self.over_word_alone,
            *self.over_unasked,
            *self.over_start,
            *self.over_fresh,
        )

    def grid(self) -> list[list[str]]:
        """Every comparison as a table of text."""
        gains = self.all
        head = ["measure", "encoder", "compared with", "gain", "95 % interval"]
        return [
            [*head, "seeds", "pre-training seeds", "verdict"],
            *(
                [measure, self.groups[gain.label].title, gain.against, *gain.cells()]
                for measure in dict.fromkeys(gain.measure for gain in gains)
                for gain in gains
                if gain.measure == measure
            ),
        ]

    def pairs(self) -> list[list[str]]:
        """Who is compared with whom, and of which encoders each group consists."""
        rows = [["encoders", "members", "without a teacher", "controls"]]
        begun = any(mine.start or mine.fresh for mine in self.partners.values())
        rows[0] += ["began with", "fresh weights"] if begun else []
        for name, group in self.groups.items():
            mine = self.partners[name]
            if group.is_student:
                baseline = mine.baseline.name if mine.baseline else f"{NOTHING} ({mine.why})"
                controls = listed([one.name for one in mine.controls])
                nobody = f"{NOTHING} (it is a control)" if group.first.is_control else NOTHING
                if mine.baseline is None and (mine.start or mine.fresh):
                    baseline = NOTHING
                row = [group.title, ", ".join(group.members), baseline, controls or nobody]
                row += [one.name if one else NOTHING for one in (mine.start, mine.fresh) if begun]
                rows.append(row)
        return rows


def gains_of(results: ResultSet, on_demand: Collection[tuple[str, str]] = ()) -> Gains:
    """Compare every group of students with its partners.

    Args:
        results: the cells.
        on_demand: tasks and measures of `ON_DEMAND` that are asked for.

    Raises:
        SpeechkdError: two encoders were scored on different clips.
    """
    groups = groups_of(encoders_of(results.cells))
    partners = {group.name: partners_of(group, groups) for group in groups}
    over_baseline: list[Gain] = []
    over_control: list[Gain] = []
    over_word_alone: list[Gain] = []
    over_unasked: list[Gain] = []
    over_fresh: list[Gain] = []
    over_start: list[Gain] = []
    for task, kind in {cell.task: cell.kind for cell in results.cells}.items():
        sides = {group.name: _side(results, group, task) for group in groups}
        more = [m for m in ON_DEMAND.get(kind, ()) if (task, m) in on_demand]
        for measure, group in itertools.product([*MEASURES[kind], *more], groups):
            mine = partners[group.name]
            if kind == "words" and sides[group.name]:
                mine_alone = sides[group.name], _word_alone(sides[group.name])
                one = _gain(task, measure, *mine_alone, group.name, WORD_ALONE)
                over_word_alone.append(one)
            for control in CONTROLS if kind == "spans" else ():
                if other := _unasked(results, group, task, control):
                    against = f"{group.name}, {control.rstrip(':')}"
                    one = _gain(task, measure, sides[group.name], other, group.name, against)
                    over_unasked.append(one)
            for others, gains in (
                ((mine.baseline,), over_baseline),
                (mine.controls, over_control),
                ((mine.start,), over_start),
                ((mine.fresh,), over_fresh),
            ):
                gains += [
                    _gain(
                        task,
                        measure,
                        sides[group.name],
                        sides[other.name],
                        group.name,
                        other.name,
                    )
                    for other in others
                    if other and sides[group.name] and sides[other.name]
                ]
    return Gains(
        {group.name: group for group in groups},
        partners,
        tuple(over_baseline),
        tuple(over_control),
        tuple(over_word_alone),
        tuple(over_unasked),
        tuple(over_fresh),
        tuple(over_start),
    )


def _unasked(results: ResultSet, group: Group, task: str, control: str) -> Side:
    """Predictions of a group's members that were fine-tuned as a control, by the same runs."""
    side: dict[str, dict[int, Predictions]] = {}
    for run, label in group.runs().items():
        for cell in results.cells:
            source = control + group.members[label].source
            if cell.task == task and cell.checkpoint.source == source:
                side.setdefault(run, {})[cell.seed] = results.predictions[cell.key]
    return side


def _word_alone(side: Side) -> Side:
    """Predictions of the same words by each word alone, as often as a side has runs and seeds."""
    return {
        run: {seed: _by_prior(one) for seed, one in predictions.items()}
        for run, predictions in side.items()
    }


def _by_prior(one: Predictions) -> Predictions:
    if one.words is None:
        raise ValueError("these predictions are of whole texts")
    words = replace(one.words, margins=one.words.prior)
    answers = (words.margins > 0).astype(np.float64)
    return replace(one, predictions=answers, words=words, folds=tuple(map(_by_prior, one.folds)))


def _gain(task: str, measure: str, side: Side, other: Side, label: str, against: str) -> Gain:
    title = TITLES.get(measure, task)
    if measure in TITLES and task != "sentiment":
        title = f"{task}: {title}"
    one = difference(side, other, measure)
    return Gain(title, label, against, one, measure != "mae", task, measure)


def _side(results: ResultSet, group: Group, task: str) -> Side:
    """Predictions of the members that have any for a task."""
    side = {
        run: {
            cell.seed: results.predictions[cell.key]
            for cell in results.cells
            if cell.label == label and cell.task == task
        }
        for run, label in group.runs().items()
    }
    return {run: predictions for run, predictions in side.items() if predictions}
