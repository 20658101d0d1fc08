"""What every encoder gains over masked-LM training alone, and over the control of its objective."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.finetuning.cells import Pretrained
from pipeline.foundation.errors import Damaged
from pipeline.reports.cells import ResultSet
from pipeline.reports.comparison import (
    REMEDY,
    Difference,
    Predictions,
    difference,
    read_predictions,
)
from pipeline.reports.formats import NOTHING, listed
from pipeline.reports.tables import encoders_of, row_name

MEASURES = {"classes": ("accuracy",), "flags": ("accuracy",), "value": ("mae", "pearson")}
FEW_GROUPS = 20
"""Below this, percentile intervals of a bootstrap over groups leave out the truth too often."""
TITLES = {"mae": "MAE", "pearson": "Pearson r"}


@dataclass(frozen=True)
class Gain:
    """One encoder compared with another in one measure.

    Attributes:
        measure: the task, or for a regression its measure.
        label: the encoder.
        against: the encoder that it is compared with.
        difference: how much better it is; None if that cannot be stated (see `difference`).
        percent: whether the difference is shown in points (times 100).
    """

    measure: str
    label: str
    against: str
    difference: Difference | None
    percent: bool

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `noise`, or a dash."""
        if self.difference is None:
            return NOTHING
        if not self.difference.beyond_noise:
            return "noise"
        return "better" if self.difference.mean > 0 else "worse"

    def cells(self) -> list[str]:
        """Gain, interval, common seeds and verdict, as text."""
        one = self.difference
        if one is None:
            return [NOTHING, NOTHING, "0", NOTHING]
        scale, digits = (100, 2) if self.percent else (1, 4)
        mean, low, high = (f"{x * scale:+.{digits}f}" for x in (one.mean, one.low, one.high))
        remark = ", one seed" if one.seeds == 1 and one.beyond_noise else ""
        return [mean, f"{low} to {high}", str(one.seeds), self.verdict + remark]


@dataclass(frozen=True)
class Gains:
    """All comparisons of a set of results.

    Attributes:
        baseline: the encoder trained with --kd none.
        over_baseline: each other encoder against it.
        over_control: each distilled encoder against each control of its objective.
        encoders: every encoder by label, in the order of the tables.
    """

    baseline: str
    over_baseline: tuple[Gain, ...]
    over_control: tuple[Gain, ...]
    encoders: Mapping[str, Pretrained]

    def grid(self) -> list[list[str]]:
        """Every comparison as a table of text."""
        gains = (*self.over_baseline, *self.over_control)
        head = ["measure", "encoder", "compared with", "gain", "95 % interval", "seeds", "verdict"]
        return [
            head,
            *(
                [measure, row_name(self.encoders[gain.label]), gain.against, *gain.cells()]
                for measure in dict.fromkeys(gain.measure for gain in self.over_baseline)
                for gain in gains
                if gain.measure == measure
            ),
        ]

    def students(self) -> list[str]:
        """Labels of the encoders that were trained with a teacher's vectors, controls included."""
        return [
            label
            for label, encoder in self.encoders.items()
            if encoder.objective is not None and label != self.baseline
        ]

    def sentences(self) -> list[str]:
        """A few plain sentences on each encoder: what is shown, and what is not."""
        labels = dict.fromkeys(gain.label for gain in self.over_baseline)
        return [" ".join(self._sentences(label)) for label in labels]

    def _sentences(self, label: str) -> list[str]:
        encoder = self.encoders[label]
        mine = [gain for gain in self.over_baseline if gain.label == label]
        seeds = sorted({gain.difference.seeds for gain in mine if gain.difference}) or [0]
        counts = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        sentences = [
            f"{row_name(encoder)} compared with {self.baseline} ({counts} "
            f"{'seed' if seeds[-1] == 1 else 'seeds'}): {_verdicts(mine, seeds[-1])}."
        ]
        if encoder.objective is None or encoder.is_control:
            return sentences
        gained = [gain.measure for gain in mine if gain.verdict == "better"]
        if not gained:
            return [*sentences, "No gain is shown."]
        controls = list(dict.fromkeys(g.against for g in self.over_control if g.label == label))
        if not controls:
            sentences.append(
                "It has no control with shuffled or random vectors here, so the gain is not shown "
                "to come from the teacher."
            )
        return [*sentences, *(self._over(control, label, gained) for control in controls)]

    def _over(self, control: str, label: str, gained: Sequence[str]) -> str:
        """Which of an encoder's gains remain when it is compared with a control."""
        better = {
            gain.measure
            for gain in self.over_control
            if (gain.label, gain.against, gain.verdict) == (label, control, "better")
        }
        unproven = [measure for measure in gained if measure not in better]
        if not unproven:
            return f"Compared with {control}, each of these gains is beyond the noise, too."
        return (
            f"Compared with {control}, there is no gain beyond the noise in {listed(unproven)}, so "
            "the gain there is not shown to come from the teacher."
        )

    def caution(self) -> str:
        """What a reader has to keep in mind with every one of the comparisons."""
        known = [
            gain.difference
            for gain in (*self.over_baseline, *self.over_control)
            if gain.difference is not None
        ]
        fewest = min((one.seeds for one in known), default=0)
        groups = min((one.groups for one in known), default=FEW_GROUPS)
        sentences = [
            f"Number of comparisons with 95 % intervals: {len(known)}. About one in twenty "
            "excludes zero by chance alone.",
            "The intervals come from a paired bootstrap over whole groups of test clips (in "
            "CMU-MOSEI, videos) and over fine-tuning seeds. Each encoder was pre-trained once, so "
            "they do not show how much another pre-training seed would change.",
        ]
        if fewest == 1:
            sentences.append(
                "Where there is only one fine-tuning seed, they do not show its noise either: such "
                "a gain may be the luck of one run."
            )
        elif fewest < 5:
            sentences.append("With fewer than five seeds they are too narrow.")
        if groups < FEW_GROUPS:
            sentences.append(
                f"The test clips are of {groups} groups only, which makes the intervals too narrow."
            )
        if not any(encoder.is_control for encoder in self.encoders.values()):
            sentences.append(
                "There is no control with shuffled or random teacher vectors among these encoders, "
                "and a gain that a control also gives is not distillation."
            )
        return " ".join(sentences)


def gains_of(results: ResultSet) -> Gains | None:
    """Compare every encoder of a set of results; None without one trained with --kd none.

    Raises:
        SpeechkdError: predictions are missing or damaged, or were made for different clips.
    """
    encoders = encoders_of(results.cells)
    baseline = next((k for k, encoder in encoders.items() if encoder.objective == "none"), None)
    if baseline is None:
        return None
    over_baseline: list[Gain] = []
    over_control: list[Gain] = []
    for task, kind in {cell.task: cell.kind for cell in results.cells}.items():
        predictions = {label: _predictions(results, label, task) for label in encoders}
        for measure, label in itertools.product(MEASURES[kind], encoders):
            if label == baseline or not predictions[label]:
                continue
            gain = functools.partial(_gain, task, measure, predictions, label)
            over_baseline.append(gain(baseline))
            controls = [other for other in _controls(encoders, label) if predictions[other]]
            over_control += map(gain, controls)
    return Gains(baseline, tuple(over_baseline), tuple(over_control), encoders)


def _gain(
    task: str,
    measure: str,
    predictions: Mapping[str, Mapping[int, Predictions]],
    label: str,
    against: str,
) -> Gain:
    title = TITLES.get(measure, task)
    if measure in TITLES and task != "sentiment":
        title = f"{task}: {title}"
    one = difference(predictions[label], predictions[against], measure)
    return Gain(title, label, against, one, percent=measure != "mae")


def _controls(encoders: Mapping[str, Pretrained], label: str) -> list[str]:
    """Labels of the controls of an encoder's objective; none for what needs no control."""
    mine = encoders[label]
    if mine.objective is None or mine.is_control:
        return []
    return [
        other
        for other, encoder in encoders.items()
        if encoder.is_control and encoder.objective == mine.objective
    ]


def _predictions(results: ResultSet, label: str, task: str) -> dict[int, Predictions]:
    by_seed = {}
    for cell in results.cells:
        if cell.label == label and cell.task == task:
            path = results.predictions[cell.key]
            one = read_predictions(path, cell.kind, cell.outputs)
            if len(one.ids) != cell.splits["test"]:
                raise Damaged(
                    f"{path} holds {len(one.ids):,} of {cell.splits['test']:,} test clips; remove "
                    f"it, and {REMEDY}."
                )
            by_seed[cell.seed] = one
    return by_seed


def _verdicts(gains: Sequence[Gain], seeds: int) -> str:
    """`better beyond the noise in a and b; no difference beyond the noise in c`."""
    noise = "the noise" if seeds > 1 else "the noise of the test clips (of fine-tuning: unknown)"
    words = {
        "better": f"better beyond {noise} in",
        "worse": f"worse beyond {noise} in",
        "noise": f"no difference beyond {noise} in",
        NOTHING: "nothing can be stated (no common seed, a single video, or no correlation) in",
    }
    by_verdict = {
        verdict: [gain.measure for gain in gains if gain.verdict == verdict] for verdict in words
    }
    return "; ".join(
        f"{words[verdict]} {listed(measures)}"
        for verdict, measures in by_verdict.items()
        if measures
    )
