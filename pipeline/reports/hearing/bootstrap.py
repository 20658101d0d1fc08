"""Figures with intervals: recordings are drawn with replacement, the same ones for all encoders.

Items of one recording are alike, so whole recordings are drawn (Efron & Tibshirani 1993, chapter
8; percentile intervals). Since each draw is of the same recordings for all encoders, differences
are paired. What is told within speaker is counted from the speaker's mean, so that of two
recordings of a speaker one says what the other is. For such figures whole speakers are drawn, if
there are enough of them for an interval.

Pre-training seeds are too few to be drawn: where a group has several, what their mean may be off by
is added to each draw, from Student's t (`pipeline.reports.comparison`).

Shapes: G recordings, R draws, n items.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.seeds import derive
from pipeline.reports.comparison import DRAWS, LEVEL, pretraining_noise, two_sided_p
from pipeline.reports.hearing.measures import Measure, values_of
from pipeline.reports.partners import Group
from pipeline.tasks.hearing.names import Level
from pipeline.tasks.hearing.results import Hearing, LevelItems

DRAWS_AT_ONCE = 500
FEWEST_SPEAKERS = 20
"""Speakers under which an interval from draws of them would be too narrow, so that recordings are
drawn."""
UNKNOWN = "-1"


@dataclass(frozen=True)
class Interval:
    """A figure, or a difference of two, with its interval.

    Attributes:
        mean: over the runs of a group.
        low: lower end of the 95 % interval.
        high: upper end.
        p: two-sided p value against zero, from the same draws.
        runs: how many runs the mean is over; of a difference, of either side.
    """

    mean: float
    low: float
    high: float
    p: float
    runs: tuple[int, ...]

    @property
    def beyond_noise(self) -> bool:
        """Of a difference: whether its interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Sample:
    """A figure of one run: as it is, and in each draw of recordings."""

    value: float
    drawn_R: Array


class Figures:
    """The figures of a results folder, each computed once.

    Args:
        hearing: the folder.
    """

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing
        self._columns = {one.encoder.label: one.columns for one in hearing.judged}
        self._units = {level: _units(items) for level, items in hearing.levels.items()}
        self._samples: dict[tuple[Measure, str], Sample] = {}

    def units(self, level: Level, view: str = "raw") -> tuple[int, str]:
        """How many units are drawn for figures of a view, and what they are."""
        what, unit_n = self._drawn(level, view)
        return int(unit_n.max()) + 1, what

    def _drawn(self, level: Level, view: str) -> tuple[str, Array]:
        recording_n, speaker_n = self._units[level]
        if view == "within speaker" and speaker_n.max() + 1 >= FEWEST_SPEAKERS:
            return "speakers", speaker_n
        return "recordings", recording_n

    def sample(self, measure: Measure, label: str) -> Sample:
        """A figure of one encoder."""
        key = (measure, label)
        if key not in self._samples:
            _, unit_n = self._drawn(measure.level, measure.view)
            items = self._hearing.levels[measure.level]
            values = values_of(measure, items, self._columns[label][measure.level], unit_n)
            draws_RG = draws(int(unit_n.max()) + 1)
            drawn = [
                values(draws_RG[first : first + DRAWS_AT_ONCE].astype(np.float64))
                for first in range(0, len(draws_RG), DRAWS_AT_ONCE)
            ]
            once = float(values(np.ones((1, draws_RG.shape[1])))[0])
            self._samples[key] = Sample(once, np.concatenate(drawn).astype(np.float32))
        return self._samples[key]

    def of(self, measure: Measure, group: Group) -> Interval | None:
        """A figure of a group; None if it is undefined."""
        samples = self._of_runs(measure, group)
        values = {run: sample.value for run, sample in samples.items()}
        mean_R = np.mean([sample.drawn_R for sample in samples.values()], axis=0)
        mean = float(np.mean(list(values.values())))
        return interval_of(mean, mean_R, spread_of_runs(values), (len(values),))

    def difference(self, measure: Measure, group: Group, other: Group) -> Interval | None:
        """By how much a group is better than another; None if that is undefined."""
        sides = [self._of_runs(measure, one) for one in (group, other)]
        values = [{run: s.value for run, s in side.items()} for side in sides]
        mean_R = [np.mean([s.drawn_R for s in side.values()], axis=0) for side in sides]
        mean = float(np.mean(list(values[0].values())) - np.mean(list(values[1].values())))
        return interval_of(
            measure.better * mean,
            measure.better * (mean_R[0] - mean_R[1]),
            pretraining_noise(*values),
            (len(values[0]), len(values[1])),
        )

    def _of_runs(self, measure: Measure, group: Group) -> dict[str, Sample]:
        return {run: self.sample(measure, label) for run, label in group.runs().items()}


def _units(items: LevelItems) -> tuple[Array, Array]:
    """Numbers from 0 of each item's recording, and of its speaker or else its recording."""
    recordings = [("recording", name) for name in items.recording_n]
    speakers = [
        ("speaker", speaker) if speaker != UNKNOWN else recording
        for speaker, recording in zip(items.speaker_n, recordings, strict=True)
    ]
    return _numbered(recordings), _numbered(speakers)


def _numbered(names: Sequence[tuple[str, str]]) -> Array:
    number_of: dict[tuple[str, str], int] = {}
    return np.array([number_of.setdefault(name, len(number_of)) for name in names], np.int64)


def spread_of_runs(values: Mapping[str, float]) -> tuple[float, int] | None:
    """Standard error of the mean over runs, and degrees of freedom; None for a single run."""
    if len(values) < 2:
        return None
    spread = float(np.std(list(values.values()), ddof=1))
    return spread / len(values) ** 0.5, len(values) - 1


def interval_of(
    mean: float, drawn_R: Array, noise: tuple[float, int] | None, runs: tuple[int, ...]
) -> Interval | None:
    """A figure with its interval and p; None if it is undefined.

    Args:
        mean: the figure.
        drawn_R: it in each bootstrap draw.
        noise: what the mean over runs may be off by, as of `pretraining_noise`.
        runs: how many runs the figure is over.
    """
    if noise:
        rng = np.random.default_rng(derive("noise of pre-training", noise[1]))
        drawn_R = drawn_R + noise[0] * rng.standard_t(noise[1], len(drawn_R))
    if not np.isfinite(mean) or not np.isfinite(drawn_R).all():
        return None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn_R, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), two_sided_p(drawn_R), runs)


@functools.lru_cache(maxsize=4)
def draws(units: int) -> Array:
    """How often each recording (or speaker) counts in each draw, `[R, G]`."""
    rng = np.random.default_rng(derive("draws", units))
    share_G = np.full(units, 1 / units)
    counts = [
        rng.multinomial(units, share_G, DRAWS_AT_ONCE).astype(np.uint16)
        for _ in range(0, DRAWS, DRAWS_AT_ONCE)
    ]
    return np.concatenate(counts)
