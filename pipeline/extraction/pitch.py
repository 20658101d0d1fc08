"""Pitch and voicing by pYIN, the values of `librosa.pyin`, some ten times as fast.

Source: Mauch and Dixon 2014, "pYIN: a fundamental frequency estimator using probabilistic threshold
distributions"; the arithmetic is that of librosa 0.11. What is quicker:

- A pitch moves by at most 20 bins per frame, so a path comes from one of 41 states and not of 385.
  Any other jump costs what librosa's smallest number costs, from wherever it starts, so the best
  of all states stands for it.
- A path changes between voiced and not at a price that does not depend on its pitch, so the 41 are
  searched once for each and not once for each pair.
- The prior of the troughs has its closed form; no call of scipy per frame.

Shapes: S samples, F frames, N samples of a window, P periods in samples, T troughs of all frames,
H thresholds, J bins of pitch, D steps of pitch from one frame to the next.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.foundation.units import Frames, Samples

THRESHOLDS = 100
BOLTZMANN = 2.0  # the prior of troughs, which favours shorter periods
NO_TROUGH = 0.01  # of the deepest trough where none is below the threshold
SWITCH = 0.01  # from voiced to not, and back
BINS_PER_SEMITONE = 10
OCTAVES_PER_SECOND = 35.92
FRAMES_IN_CACHE: Frames = 128  # so few that their spectra stay in the processor's cache
TINY = np.finfo(np.float64).tiny

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Pyin:
    """The tracker, for one range of pitch.

    Attributes:
        lowest_hz: the lowest pitch.
        highest_hz: the highest pitch.
        window: samples of a frame; over twice the period of the lowest pitch.
        hop: samples from a frame to the next.
        rate_hz: samples per second.
    """

    lowest_hz: float
    highest_hz: float
    window: Samples
    hop: Samples
    rate_hz: int

    def track(self, wave_S: NDArray[np.float32]) -> tuple[Float64, Float64]:
        """Pitch and voicing of a wave; frame f stands around sample f times `hop`.

        Args:
            wave_S: at least one sample, finite.

        Returns:
            Pitch in Hz, 0 where a frame is not voiced, and the probability that it is voiced; both
            `[F]`, with F = 1 + S // hop.
        """
        difference_FP = self._difference(wave_S)
        frames, bins = len(difference_FP), self._bins
        chance_T, frame_T, bin_T = self._candidates(difference_FP)
        voiced_FJ = np.full((frames, bins), np.log(TINY))
        voiced_FJ[frame_T, bin_T] = np.log(chance_T + TINY)
        voicing_F = np.bincount(frame_T, chance_T, minlength=frames).clip(0, 1)
        unvoiced_F = np.log((1 - voicing_F) / bins + TINY)
        bins_F = self._path(voiced_FJ, unvoiced_F)
        return np.where(bins_F < 0, 0.0, self._pitch_J[bins_F]), voicing_F

    @property
    def _periods(self) -> range:
        longest = min(int(np.ceil(self.rate_hz / self.lowest_hz)), self.window - 1)
        return range(int(np.floor(self.rate_hz / self.highest_hz)), longest + 1)

    @property
    def _bins(self) -> int:
        octaves = np.log2(self.highest_hz / self.lowest_hz)
        return int(np.floor(12 * BINS_PER_SEMITONE * octaves)) + 1

    @property
    def _reach(self) -> int:
        """Bins by which a pitch may move from one frame to the next."""
        semitones = round(OCTAVES_PER_SECOND * 12 * self.hop / self.rate_hz)
        return semitones * BINS_PER_SEMITONE // 2

    @cached_property
    def _pitch_J(self) -> Float64:
        return self.lowest_hz * 2 ** (np.arange(self._bins) / (12 * BINS_PER_SEMITONE))

    @cached_property
    def _moves(self) -> tuple[Float64, Float64]:
        """Logarithms: of a move by so many bins, and of the sum of moves from each bin."""
        reach, bins = self._reach, self._bins
        move_D = 1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)
        sums_J = np.convolve(np.ones(bins), move_D)[reach : reach + bins]
        return np.log(move_D), np.log(sums_J)

    def _difference(self, wave_S: NDArray[np.float32]) -> Float64:
        """Cumulative mean normalised difference (YIN's equation 8) of each frame; `[F, P]`."""
        longest = self._periods[-1]
        margin = self.window // 2
        padded_S = np.pad(wave_S, (margin, margin))
        frames_FN = sliding_window_view(padded_S, self.window)[:: self.hop]
        alike_FP = _autocorrelation(frames_FN, longest)
        energy_FP = np.cumsum(np.square(frames_FN[:, :longest]), axis=1)
        difference_FP = 2 * (alike_FP[:, :1] - alike_FP[:, 1:]) - energy_FP
        mean_FP = np.cumsum(difference_FP, axis=1) / np.arange(1, longest + 1)
        shortest = self._periods[0]
        normalised_FP: Float64 = difference_FP[:, shortest - 1 :] / (
            mean_FP[:, shortest - 1 :] + TINY
        )
        return normalised_FP

    def _candidates(
        self, difference_FP: Float64
    ) -> tuple[Float64, NDArray[np.intp], NDArray[np.intp]]:
        """Probability, frame and bin of each trough, those of a frame together; all `[T]`."""
        trough_FP = np.zeros(difference_FP.shape, bool)
        left_FP, middle_FP, right_FP = (
            difference_FP[:, :-2], difference_FP[:, 1:-1], difference_FP[:, 2:]
        )  # fmt: skip
        trough_FP[:, 1:-1] = (middle_FP < left_FP) & (middle_FP <= right_FP)
        trough_FP[:, 0] = difference_FP[:, 0] < difference_FP[:, 1]
        trough_FP[:, -1] = difference_FP[:, -1] < difference_FP[:, -2]
        frame_T, place_T = np.nonzero(trough_FP)
        height_T = difference_FP[frame_T, place_T]
        chance_T = _chances(height_T, frame_T)
        likely_T = chance_T > 0
        frame_T, place_T = frame_T[likely_T], place_T[likely_T]
        period_T = self._periods[0] + place_T + _shift(difference_FP, frame_T, place_T)
        step_T = 12 * BINS_PER_SEMITONE * np.log2(self.rate_hz / period_T / self.lowest_hz)
        bin_T = np.round(step_T).clip(0, self._bins).astype(np.intp)
        # a bin takes one trough of a frame, the longest period; what is higher than all has none
        taken_T = bin_T < self._bins
        taken_T[:-1] &= (frame_T[1:] != frame_T[:-1]) | (bin_T[1:] != bin_T[:-1])
        return chance_T[likely_T][taken_T], frame_T[taken_T], bin_T[taken_T]

    def _path(self, voiced_FJ: Float64, unvoiced_F: Float64) -> NDArray[np.intp]:
        """The likeliest path by Viterbi's algorithm: a bin for each frame, −1 where unvoiced.

        Args:
            voiced_FJ: logarithm of the probability of each pitch.
            unvoiced_F: that of no pitch, the same for each bin that a path may lie in meanwhile.
        """
        move_D, sums_J = self._moves
        reach, bins = self._reach, self._bins
        stay, change, jump = np.log(1 - SWITCH), np.log(SWITCH), np.log(TINY)
        frames = len(voiced_FJ)
        # two rows, voiced and not; what is left of the first bin and right of the last is no state
        scores_F2J = np.full((frames, 2, bins + 2 * reach), -np.inf)
        states_F2J = scores_F2J[:, :, reach : reach + bins]
        windows_FD2J = sliding_window_view(scores_F2J, 2 * reach + 1, axis=2).transpose(0, 3, 1, 2)
        reached_2J, switched_2J = np.empty((2, bins)), np.empty((2, bins))
        reached_2J[0] = voiced_FJ[0] - np.log(2 * bins)
        reached_2J[1] = unvoiced_F[0] - np.log(2 * bins)
        best_F = np.empty(frames)
        best_F[0] = reached_2J.max()
        np.subtract(reached_2J, sums_J, out=states_F2J[0])
        from_D2J = np.empty((2 * reach + 1, 2, bins))
        move_D11 = move_D[:, None, None]
        for frame in range(1, frames):
            np.add(windows_FD2J[frame - 1], move_D11, out=from_D2J)
            from_D2J.max(axis=0, out=reached_2J)
            np.add(reached_2J[::-1], change, out=switched_2J)
            reached_2J += stay
            np.maximum(reached_2J, switched_2J, out=reached_2J)
            np.maximum(reached_2J, best_F[frame - 1] + jump, out=reached_2J)
            reached_2J[0] += voiced_FJ[frame]
            reached_2J[1] += unvoiced_F[frame]
            best_F[frame] = reached_2J.max()
            np.subtract(reached_2J, sums_J, out=states_F2J[frame])
        return self._back(scores_F2J, best_F + jump)

    def _back(self, scores_F2J: Float64, jumps_F: Float64) -> NDArray[np.intp]:
        """The path that ends in the best state; −1 where it is unvoiced."""
        move_D, sums_J = self._moves
        reach = self._reach
        switch_22 = np.log([[1 - SWITCH, SWITCH], [SWITCH, 1 - SWITCH]])
        frames, _, _ = scores_F2J.shape
        bins_F = np.empty(frames, np.intp)

        def best_of(frame: int) -> tuple[int, int]:
            values_2J = scores_F2J[frame, :, reach : reach + self._bins] + sums_J
            row, place = divmod(int(values_2J.argmax()), self._bins)
            return row, place

        row, place = best_of(frames - 1)
        for frame in range(frames - 1, -1, -1):
            bins_F[frame] = place if row == 0 else -1
            if not frame:
                break
            before_2D = scores_F2J[frame - 1, :, place : place + 2 * reach + 1] + move_D
            before_2D += switch_22[:, row, None]
            came_from = int(before_2D.argmax())
            if before_2D.flat[came_from] >= jumps_F[frame - 1]:
                row, step = divmod(came_from, 2 * reach + 1)
                place += step - reach
            else:
                row, place = best_of(frame - 1)
        return bins_F


def _autocorrelation(frames_FN: NDArray[np.float32], longest: Samples) -> NDArray[np.float32]:
    """Sums of products of a frame with itself at each distance up to the longest; `[F, 1 + P]`."""
    points = (frames_FN.shape[1] + longest) // 256 * 256 + 256  # so that no end meets a beginning
    parts = []
    for first in range(0, len(frames_FN), FRAMES_IN_CACHE):
        part_FN = torch.from_numpy(frames_FN[first : first + FRAMES_IN_CACHE].copy())
        spectrum_FK = torch.fft.rfft(part_FN, points)
        power_FK = spectrum_FK.real.square().add_(spectrum_FK.imag.square())
        parts.append(torch.fft.irfft(power_FK.to(spectrum_FK.dtype), points)[:, : longest + 1])
    alike_FP: NDArray[np.float32] = torch.cat(parts).numpy()
    return alike_FP


def _chances(height_T: Float64, frame_T: NDArray[np.intp]) -> Float64:
    """Probability of each trough, summed over the thresholds that may be the right one; `[T]`.

    A threshold that n troughs are below gives the k-th of them the share that Boltzmann's
    distribution, cut at n, has at k. One that none is below gives a little to the deepest.

    Args:
        height_T: height of each trough, those of a frame in the order of their periods.
        frame_T: its frame, ascending.
    """
    edges_H = np.linspace(0, 1, THRESHOLDS + 1)
    prior_H = np.diff(_beta_2_18(edges_H))
    chance_T = np.zeros(len(height_T))
    some_T = np.flatnonzero(height_T < 1)  # the others are below no threshold
    if len(some_T):
        below_TH = height_T[some_T, None] < edges_H[1:]
        begins_T = np.flatnonzero(np.diff(frame_T[some_T], prepend=-1))
        sizes_T = np.diff(begins_T, append=len(some_T))
        counts_TH = np.cumsum(below_TH, axis=0, dtype=np.int32)
        before_TH = counts_TH[begins_T] - below_TH[begins_T]
        number_TH = np.add.reduceat(below_TH, begins_T, axis=0, dtype=np.int32)
        place_TH = counts_TH - np.repeat(before_TH, sizes_T, axis=0) - 1
        shares = np.exp(-BOLTZMANN * np.arange(place_TH.max() + 2))
        wholes = (1 - np.exp(-BOLTZMANN)) / (
            1 - np.exp(-BOLTZMANN * np.arange(len(shares) + 1)[1:])
        )
        wholes = np.append(0.0, wholes)  # no trough, no share
        share_TH = shares[place_TH] * np.repeat(wholes[number_TH], sizes_T, axis=0)
        share_TH[~below_TH] = 0
        chance_T[some_T] = share_TH @ prior_H
    if len(height_T):
        begins_T = np.flatnonzero(np.diff(frame_T, prepend=-1))
        sizes_T = np.diff(begins_T, append=len(height_T))
        lowest_T = np.repeat(np.minimum.reduceat(height_T, begins_T), sizes_T)
        at_T = np.flatnonzero(height_T == lowest_T)
        at_T = at_T[np.diff(frame_T[at_T], prepend=-1) > 0]  # the first of equal ones
        above = np.append(0.0, np.cumsum(prior_H))
        chance_T[at_T] += NO_TROUGH * above[np.searchsorted(edges_H[1:], height_T[at_T], "right")]
    return chance_T


def _beta_2_18(threshold: Float64) -> Float64:
    """Distribution function of Beta(2, 18), the prior of thresholds: most are 0.02 to 0.25.

    For whole numbers a and b it is the chance of a or more successes among a + b − 1 trials.
    """
    left = 1 - threshold
    return 1 - left**19 - 19 * threshold * left**18


def _shift(difference_FP: Float64, frame_T: NDArray[np.intp], place_T: NDArray[np.intp]) -> Float64:
    """How far from its sample the parabola through each trough and its neighbours is lowest."""
    shift_T = np.zeros(len(place_T))
    inner_T = np.flatnonzero((place_T > 0) & (place_T < difference_FP.shape[1] - 1))
    frame, place = frame_T[inner_T], place_T[inner_T]
    left, middle, right = (difference_FP[frame, place + step] for step in (-1, 0, 1))
    bend, slope = right + left - 2 * middle, (right - left) / 2
    is_near = np.abs(slope) < np.abs(bend)
    shift_T[inner_T[is_near]] = -slope[is_near] / bend[is_near]
    return shift_T
