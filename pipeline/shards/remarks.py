"""Remarks: what is odd about a clip that is kept, so that a user hears of it.

Shapes: F slices of 50 ms, S samples, C channels.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.foundation.units import Hertz

EXAMPLES = 3
"""Refusals and remarks that are named per kind."""
SLICES_PER_SECOND = 20
SILENT_PEAK = 1e-3  # -60 dB of full scale, some 30 steps of 16 bits
CANCELLED = 0.25  # of the power that independent channels would leave
AUDIBLE = 1e-4  # of the loudest slice: -40 dB
APART = 16.0  # ratio of power, 12 dB: one channel speaks, the other hardly hears it
ALONE_SHARE, APART_SHARE = 0.1, 0.6


class Remark(StrEnum):
    """Every remark, in the words of receipts and summaries."""

    SILENT = "silent"
    """No sample is above -60 dB of full scale."""
    OPPOSITE_PHASE = "channels of opposite phase"
    """The average of the channels is far weaker than they are: they cancel each other."""
    SPEAKER_PER_CHANNEL = "a speaker per channel"
    """The two channels speak in turn; their average mixes two voices under one transcript."""


REMEDIES = {
    Remark.SILENT: "check the recordings and the times",
    Remark.OPPOSITE_PHASE: "--channel 1 takes one channel in place of the average",
    Remark.SPEAKER_PER_CHANNEL: "--channel 1 or 2 takes one in place of the average",
}


@dataclass
class Remarked:
    """Clips that bear a remark: how many, and the first few."""

    clips: int = 0
    keys: list[str] = field(default_factory=list)

    def add(self, clips: int, keys: Iterable[str]) -> None:
        """Count more of them."""
        self.clips += clips
        self.keys = [*self.keys, *keys][:EXAMPLES]

    def record(self) -> dict[str, Any]:
        """As receipts and summary.json keep it."""
        return {"clips": self.clips, "such_as": self.keys}


class ChannelPowers:
    """Collects the power of each channel and of their average, block by block."""

    def __init__(self, rate: Hertz) -> None:
        self._slice = max(1, rate // SLICES_PER_SECOND)
        self._powers: list[NDArray[np.float32]] = []
        self._mean_power = 0.0

    def add(self, block_SC: NDArray[np.float32], mono_S: NDArray[np.float32]) -> None:
        """Add a block of a recording with several channels, and its average."""
        length = min(self._slice, len(block_SC))
        slices = len(block_SC) // length
        sliced_FSC = block_SC[: slices * length].reshape(slices, length, -1)
        with np.errstate(over="ignore", invalid="ignore"):
            self._powers.append(np.einsum("fsc,fsc->fc", sliced_FSC, sliced_FSC))
            whole_S = mono_S[: slices * length]  # the same samples
            self._mean_power += float(np.dot(whole_S, whole_S))

    def remarks(self) -> list[Remark]:
        """What the channels are like."""
        if not self._powers:
            return []
        powers_FC = np.concatenate(self._powers)
        channels = powers_FC.shape[1]
        total = float(powers_FC.sum(dtype=np.float64)) / channels
        if not 0 < total < float("inf"):
            return []
        remarks = []
        if self._mean_power < CANCELLED * total / channels:
            remarks.append(Remark.OPPOSITE_PHASE)
        if channels == 2 and _speak_in_turn(powers_FC):
            remarks.append(Remark.SPEAKER_PER_CHANNEL)
        return remarks


def remarks_of(wave_S: NDArray[np.float32], powers: "ChannelPowers | None") -> tuple[Remark, ...]:
    """Everything that is odd about a clip.

    Args:
        wave_S: the clip as it is written.
        powers: those of its channels, if they were averaged.
    """
    remarks: list[Remark] = powers.remarks() if powers else []
    peak: Any = max(abs(wave_S.max()), abs(wave_S.min()))
    if peak < SILENT_PEAK and Remark.OPPOSITE_PHASE not in remarks:
        remarks.append(Remark.SILENT)
    return tuple(remarks)


def _speak_in_turn(powers_FC: NDArray[np.float32]) -> bool:
    audible_F = powers_FC.max(axis=1) > AUDIBLE * powers_FC.max()
    first_F, second_F = powers_FC[audible_F].T
    only_first = float(np.mean(first_F > APART * second_F))
    only_second = float(np.mean(second_F > APART * first_F))
    return min(only_first, only_second) >= ALONE_SHARE and only_first + only_second >= APART_SHARE
