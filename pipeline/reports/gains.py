"""What every encoder gains over masked-LM training alone, and over the control of its objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.cells import Folder
from pipeline.reports.comparison import (
    REMEDY,
    Difference,
    Predictions,
    difference,
    read_predictions,
)
from pipeline.reports.tables import ordered, row_name

MEASURES = {"classes": ("accuracy",), "flags": ("accuracy",), "value": ("mae", "pearson")}
FEW_GROUPS = 20
"""Below this, percentile intervals of a bootstrap over groups leave out the truth too often."""
TITLES = {"mae": "MAE", "pearson": "Pearson r"}


@dataclass(frozen=True)
class Gain:
    """One encoder against another in one measure.

    Attributes:
        measure: the task, or for a regression its measure.
        label: the encoder.
        against: the encoder that it is compared with.
        found: the difference; None where there is none to be stated (see `difference`).
        percent: whether the difference is shown in points (times 100).
    """

    measure: str
    label: str
    against: str
    found: Difference | None
    percent: bool

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `noise`, or a dash."""
        if self.found is None:
            return "–"
        if not self.found.beyond_noise:
            return "noise"
        return "better" if self.found.mean > 0 else "worse"

    def cells(self) -> list[str]:
        """Gain, interval, common seeds and verdict, as text."""
        if self.found is None:
            return ["–", "–", "0", "–"]
        scale, digits = (100, 2) if self.percent else (1, 4)
        mean, low, high = (
            f"{x * scale:+.{digits}f}" for x in (self.found.mean, self.found.low, self.found.high)
        )
        alone = ", one seed" if self.found.seeds == 1 and self.found.beyond_noise else ""
        return [mean, f"{low} to {high}", str(self.found.seeds), self.verdict + alone]


@dataclass(frozen=True)
class Gains:
    """All comparisons of a set of results.

    Attributes:
        baseline: the encoder trained with --kd none.
        over_baseline: each other encoder against it.
        over_control: each distilled encoder against each control of its objective.
        checkpoints: what each encoder is, by label.
        names: how each is called in tables.
    """

    baseline: str
    over_baseline: tuple[Gain, ...]
    over_control: tuple[Gain, ...]
    checkpoints: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, str]

    def grid(self) -> list[list[str]]:
        """Every comparison as a table of text."""
        lines = [["measure", "encoder", "against", "gain", "95 % interval", "seeds", "reads as"]]
        for one in sorted(
            (*self.over_baseline, *self.over_control),
            key=lambda gain: [g.measure for g in self.over_baseline].index(gain.measure),
        ):
            lines.append([one.measure, self.names[one.label], one.against, *one.cells()])
        return lines

    def students(self) -> list[str]:
        """Labels of the encoders that a teacher's vectors were used for, controls included."""
        return [
            label
            for label, c in self.checkpoints.items()
            if c["objective"] is not None and label != self.baseline
        ]

    def told(self) -> list[str]:
        """A plain sentence or two on each encoder: what is shown, and what is not."""
        return [self._told(label) for label in dict.fromkeys(g.label for g in self.over_baseline)]

    def _told(self, label: str) -> str:
        mine = [gain for gain in self.over_baseline if gain.label == label]
        seeds = sorted({gain.found.seeds for gain in mine if gain.found}) or [0]
        spread = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        said = (
            f"{self.names[label]} against {self.baseline} ({spread} "
            f"{'seed' if seeds[-1] == 1 else 'seeds'}): {_counted(mine, seeds[-1])}."
        )
        if self.checkpoints[label]["objective"] is None or is_control(self.checkpoints[label]):
            return said
        gained = [gain.measure for gain in mine if gain.verdict == "better"]
        if not gained:
            return f"{said} No gain is shown."
        controls = list(dict.fromkeys(g.against for g in self.over_control if g.label == label))
        if not controls:
            return (
                f"{said} It has no control with shuffled or random vectors here, so the gain is "
                "not shown to be the teacher's."
            )
        for control in controls:
            over = {
                g.measure: g.verdict
                for g in self.over_control
                if g.label == label and g.against == control
            }
            left = [measure for measure in gained if over.get(measure) != "better"]
            if not left:
                said += f" Each of these gains is beyond the noise over {control}, too."
            else:
                said += (
                    f" Over {control} there is no gain beyond the noise in {_listed(left)}: what "
                    "is gained there is not shown to be the teacher's."
                )
        return said

    def caution(self) -> str:
        """What has to be kept in mind with every one of the comparisons."""
        known = [g for g in (*self.over_baseline, *self.over_control) if g.found]
        fewest = min((gain.found.seeds for gain in known if gain.found), default=0)
        groups = min((gain.found.groups for gain in known if gain.found), default=FEW_GROUPS)
        said = (
            f"Comparisons with 95 % intervals: {len(known)}; about one in twenty leaves out zero "
            "by chance alone. Intervals are from a paired bootstrap over whole groups of test "
            "clips (MOSEI's videos) and over fine-tuning seeds. Each encoder was pre-trained once: "
            "how much another pre-training seed would change is not in them."
        )
        if fewest == 1:
            said += (
                " Where there is one fine-tuning seed, its noise is not in them either: such a "
                "gain may be the luck of one run."
            )
        elif fewest < 5:
            said += " With fewer than five seeds they are too narrow."
        if groups < FEW_GROUPS:
            said += f" The test clips are of {groups} groups: so few make intervals too narrow."
        if not any(map(is_control, self.checkpoints.values())):
            said += (
                " There is no control with shuffled or random teacher vectors among these "
                "encoders, and a gain that a control also gives is not distillation."
            )
        return said


def gains_of(folder: Folder) -> Gains | None:
    """Compare every encoder of a set of results; None without one trained with --kd none.

    Raises:
        SpeechkdError: predictions are missing or damaged, or were made for different clips.
    """
    checkpoints = {r["checkpoint"]["label"]: r["checkpoint"] for r in ordered(folder.records)}
    baseline = next((k for k, c in checkpoints.items() if c["objective"] == "none"), None)
    if baseline is None:
        return None
    over_baseline: list[Gain] = []
    over_control: list[Gain] = []
    for task in dict.fromkeys(r["task"] for r in folder.records):
        kind = next(r["kind"] for r in folder.records if r["task"] == task)
        cells = {label: _predictions(folder, label, task) for label in checkpoints}
        for measure in MEASURES[kind]:
            title = TITLES.get(measure, task)
            if measure in TITLES and task != "sentiment":
                title = f"{task}: {title}"
            for label in checkpoints:
                if label == baseline or not cells[label]:
                    continue
                for into, other in (
                    (over_baseline, baseline),
                    *((over_control, c) for c in _controls(checkpoints, label) if cells[c]),
                ):
                    found = difference(cells[label], cells[other], measure)
                    into.append(Gain(title, label, other, found, measure != "mae"))
    names = {label: row_name(folder.records, label) for label in checkpoints}
    return Gains(baseline, tuple(over_baseline), tuple(over_control), checkpoints, names)


def is_control(checkpoint: Mapping[str, Any]) -> bool:
    """Whether an encoder was taught with vectors that are not its clips' own."""
    return checkpoint.get("control") not in (None, "real")


def _controls(checkpoints: Mapping[str, Mapping[str, Any]], label: str) -> list[str]:
    mine = checkpoints[label]
    if mine["objective"] is None or is_control(mine):
        return []
    return [
        other
        for other, c in checkpoints.items()
        if is_control(c) and c["objective"] == mine["objective"]
    ]


def _predictions(folder: Folder, label: str, task: str) -> dict[int, Predictions]:
    found = {}
    for record, path in zip(folder.records, folder.paths, strict=True):
        if record["checkpoint"]["label"] == label and record["task"] == task:
            one = read_predictions(path, record["kind"], record["outputs"])
            if len(one.ids) != record["splits"].get("test"):
                raise SpeechkdError(
                    f"{path} holds {len(one.ids):,} of {record['splits'].get('test'):,} test "
                    f"clips; remove it, and {REMEDY}."
                )
            found[record["seed"]] = one
    return found


def _counted(gains: Sequence[Gain], seeds: int) -> str:
    """`better beyond the noise in a and b; inside the noise in c`."""
    noise = (
        "the noise" if seeds > 1 else "the noise of test clips, with that of fine-tuning unknown,"
    )
    words = {
        "better": f"better beyond {noise} in",
        "worse": f"worse beyond {noise} in",
        "noise": "inside the noise, so no difference is shown, in",
        "–": "nothing can be stated (no seed in common, one video, or no correlation) in",
    }
    parts = [
        f"{words[verdict]} {_listed(found)}"
        for verdict in words
        if (found := [gain.measure for gain in gains if gain.verdict == verdict])
    ]
    return "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
