"""Speaker verification: pairs of clips, and how well scores tell those of one speaker from others.

A pair is accepted if its score is at least a threshold. All pairs are pooled, and equal scores are
one threshold.

Shapes: n pairs, c clips, t thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.untrusted import read_text_file

PairKind: TypeAlias = Literal["all", "other-recording"]
TARGET_SHARE = 0.01
"""How likely a pair of one speaker is in the detection cost, as in NIST's evaluations."""
RESAMPLINGS = 100
COVERED = 0.95
"""Share of resamplings that an interval covers."""
MOST_PAIRS = 30_000_000
"""All pairs of 7,746 clips: some 3 GB while they are scored."""
_SAME = {"1": True, "0": False, "target": True, "nontarget": False}


@dataclass(frozen=True)
class Trials:
    """Pairs of clips.

    Attributes:
        one_n: a clip's number.
        other_n: another one's.
        same_n: whether they are of one speaker.
    """

    one_n: Array
    other_n: Array
    same_n: Array


def pairs(speakers: Sequence[str], recordings: Sequence[str], kind: PairKind = "all") -> Trials:
    """All pairs of some clips.

    Args:
        speakers: of each clip.
        recordings: of each clip.
        kind: `other-recording` leaves out pairs of one recording, whose room and microphone are the
            same, too.

    Raises:
        SpeechkdError: no pair is of one speaker, or none of two; or there are more than
            `MOST_PAIRS`.
    """
    if (count := len(speakers) * (len(speakers) - 1) // 2) > MOST_PAIRS:
        raise SpeechkdError(
            f"{len(speakers):,} clips of a split make {count:,} pairs, and at most {MOST_PAIRS:,} "
            "fit into memory. Give valid and test fewer clips; of the test --trials takes a list "
            "of pairs instead."
        )
    one_n, other_n = np.triu_indices(len(speakers), 1)
    speaker_c = np.unique(np.asarray(speakers, object).astype(str), return_inverse=True)[1]
    same_n = speaker_c[one_n] == speaker_c[other_n]
    if kind == "other-recording":
        recording_c = np.unique(np.asarray(recordings, object).astype(str), return_inverse=True)[1]
        apart_n = recording_c[one_n] != recording_c[other_n]
        one_n, other_n, same_n = one_n[apart_n], other_n[apart_n], same_n[apart_n]
    trials = Trials(one_n, other_n, same_n)
    _check(trials, f"the {len(speakers):,} clips to test")
    return trials


def read_trials(path: Path, keys: Sequence[str]) -> Trials:
    """Read a list of pairs: `1 a b` or `0 a b` as VoxCeleb's, `a b target` or `a b nontarget`.

    Args:
        path: the list.
        keys: of the clips at hand. A list may name files, with a suffix that keys do not have.

    Raises:
        SpeechkdError: a line has another form, names a clip that is not there or one clip twice,
            or no pair is of one speaker, or none of two.
    """
    place_of = {key: place for place, key in enumerate(keys)}
    rows: list[tuple[int, int, bool]] = []
    unknown: dict[str, int] = {}
    for number, line in enumerate(read_text_file(path).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) == 3 and words[0] in ("0", "1"):
            label, names = words[0], words[1:]
        elif len(words) == 3 and words[2] in _SAME:
            label, names = words[2], words[:2]
        else:
            raise SpeechkdError(
                f"{path}, line {number}: {line[:80]!r} is no trial. A line is `1 a b` or `0 a b`, "
                "or `a b target` or `a b nontarget`."
            )
        places = [place_of.get(name, place_of.get(_stem(name))) for name in names]
        for name, place in zip(names, places, strict=True):
            if place is None:
                unknown.setdefault(name, number)
        if places[0] is not None and places[0] == places[1]:
            raise SpeechkdError(
                f"{path}, line {number}: {line[:80]!r} is a pair of one clip with itself, which "
                "tells nothing of a speaker. Take the line out."
            )
        if places[0] is not None and places[1] is not None:
            rows.append((places[0], places[1], _SAME[label]))
    if unknown:
        name, number = next(iter(unknown.items()))
        raise SpeechkdError(
            f"{path}: {len(unknown):,} names of clips are not in the test, the first is {name!r} "
            f"in line {number}; a clip there is called {keys[0] if keys else ''!r}. Correct the "
            "list, or give the clips those keys."
        )
    table_n3 = np.array(rows, np.int64).reshape(-1, 3)
    trials = Trials(table_n3[:, 0], table_n3[:, 1], table_n3[:, 2] > 0)
    _check(trials, str(path))
    return trials


def _stem(name: str) -> str:
    return name[: -len(Path(name).suffix)] if Path(name).suffix else name


def _check(trials: Trials, where: str) -> None:
    same = int(trials.same_n.sum())
    if not same or same == len(trials.same_n):
        what = "no pair of one speaker" if not same else "no pair of two speakers"
        raise SpeechkdError(
            f"{where}: there is {what} among {len(trials.same_n):,} pairs, so nothing can be "
            "verified. Name clips of several speakers, with two or more of each; pairs of other "
            "recordings need speakers with two recordings."
        )


def cosine(vectors_cD: Array, trials: Trials) -> Array:
    """Cosine of the vectors of each pair `[n]`, float64; 0 with a vector of length 0."""
    wide_cD = np.asarray(vectors_cD, np.float64)
    length_c1 = np.linalg.norm(wide_cD, axis=1, keepdims=True)
    unit_cD = wide_cD / np.where(length_c1 > 0, length_c1, 1)
    scores_n = np.empty(len(trials.one_n))
    step = max(1, 2**22 // max(1, wide_cD.shape[1]))
    for at in range(0, len(scores_n), step):
        part = slice(at, at + step)
        scores_n[part] = np.einsum(
            "nd,nd->n", unit_cD[trials.one_n[part]], unit_cD[trials.other_n[part]]
        )
    return scores_n


@dataclass(frozen=True)
class Rates:
    """Errors at each threshold.

    Attributes:
        threshold_t: distinct scores, ascending, and infinity.
        rejected_t: share of pairs of one speaker below it (false rejections).
        accepted_t: share of pairs of two speakers at or above it (false acceptances).
    """

    threshold_t: Array
    rejected_t: Array
    accepted_t: Array

    @property
    def equal(self) -> float:
        """The equal error rate.

        At the first threshold where rejections are at least as frequent as acceptances, the line
        from the threshold before is followed to where both are equal.
        """
        place = int(np.argmax(self.rejected_t >= self.accepted_t))
        before = max(place - 1, 0)
        above = self.accepted_t[before] - self.rejected_t[before]
        below = self.rejected_t[place] - self.accepted_t[place]
        share = above / (above + below) if above + below > 0 else 0.0
        low, high = self.rejected_t[before], self.rejected_t[place]
        return float(low + share * (high - low))

    @property
    def equal_threshold(self) -> float | None:
        """The first threshold where rejections are at least as frequent; None if none is finite."""
        value = float(self.threshold_t[np.argmax(self.rejected_t >= self.accepted_t)])
        return value if np.isfinite(value) else None

    def least_cost(self, target_share: float = TARGET_SHARE) -> float:
        """The least detection cost over all thresholds, as a share of that of no system at all.

        Both errors cost the same, and a pair is of one speaker with probability `target_share`.
        """
        cost_t = target_share * self.rejected_t + (1 - target_share) * self.accepted_t
        return float(cost_t.min() / min(target_share, 1 - target_share))


class Scored:
    """Scores of pairs, sorted once, so that rates for other weights of pairs are quick.

    Args:
        scores_n: a score per pair; any finite numbers.
        same_n: whether a pair is of one speaker; there are both kinds.

    Raises:
        ValueError: a score is no finite number, or one kind is missing.
    """

    def __init__(self, scores_n: Array, same_n: Array) -> None:
        if not np.isfinite(scores_n).all():
            raise ValueError("a score is not finite")
        if len(np.unique(same_n)) < 2:
            raise ValueError("there is no pair of one speaker, or none of two")
        self._order = np.argsort(scores_n, kind="stable")
        ordered_n = np.asarray(scores_n)[self._order]
        self._same_n = np.asarray(same_n, bool)[self._order]
        self._first_t = np.flatnonzero(np.r_[True, ordered_n[1:] != ordered_n[:-1]])
        self._threshold_t = np.r_[ordered_n[self._first_t], np.inf]

    def rates(self, weight_n: Array | None = None) -> Rates:
        """Errors at each threshold, with a weight per pair; 1 each by default."""
        weight_n = np.ones(len(self._order)) if weight_n is None else weight_n[self._order]
        below = []
        for kind_n in (self._same_n, ~self._same_n):
            sum_n = np.r_[0.0, np.cumsum(weight_n * kind_n)]
            below.append(np.r_[sum_n[self._first_t], sum_n[-1]] / sum_n[-1])
        return Rates(self._threshold_t, below[0], 1 - below[1])


def equal_error_rate(scores_n: Array, same_n: Array) -> float:
    """The equal error rate of scores of pairs; see `Rates.equal`."""
    return Scored(scores_n, same_n).rates().equal


def verify(
    vectors_cD: Array, speakers: Sequence[str], trials: Trials, seed: int = 0
) -> dict[str, Any]:
    """How well vectors of clips verify their speakers, as plain JSON values.

    Args:
        vectors_cD: a vector per clip; pairs are scored by their cosine.
        speakers: of each clip.
        trials: the pairs.
        seed: of the resamplings.

    Returns:
        `eer`; `eer_low` and `eer_high`, between which 95 % of the rates lie if speakers are drawn
        anew with replacement; `threshold`; `min_dcf` (cost of pairs of one speaker one in a
        hundred); numbers of `pairs`, `same_pairs`, `speakers`, `clips`.
    """
    scored = Scored(cosine(vectors_cD, trials), trials.same_n)
    rates = scored.rates()
    low, high = _interval(scored, speakers, trials, seed)
    used = np.unique(np.r_[trials.one_n, trials.other_n])
    return {
        "eer": rates.equal,
        "eer_low": low,
        "eer_high": high,
        "threshold": rates.equal_threshold,
        "min_dcf": rates.least_cost(),
        "pairs": len(trials.same_n),
        "same_pairs": int(trials.same_n.sum()),
        "speakers": len({speakers[int(clip)] for clip in used}),
        "clips": len(used),
    }


def _interval(
    scored: Scored, speakers: Sequence[str], trials: Trials, seed: int
) -> tuple[float | None, float | None]:
    """The rate between which resamplings of speakers lie; None where too few are left."""
    speaker_c = np.unique(np.asarray(speakers, object).astype(str), return_inverse=True)[1]
    one_n, other_n = speaker_c[trials.one_n], speaker_c[trials.other_n]
    count = int(speaker_c.max()) + 1
    source = np.random.default_rng(seed)
    rates = []
    for _ in range(RESAMPLINGS):
        times_s = np.bincount(source.integers(0, count, count), minlength=count)
        # a speaker drawn twice has its own pairs twice; those of its two copies are left out
        weight_n = np.where(one_n == other_n, times_s[one_n], times_s[one_n] * times_s[other_n])
        if np.any(weight_n[trials.same_n]) and np.any(weight_n[~trials.same_n]):
            rates.append(scored.rates(weight_n.astype(np.float64)).equal)
    if len(rates) < RESAMPLINGS // 2:
        return None, None
    low, high = np.quantile(rates, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return float(low), float(high)
