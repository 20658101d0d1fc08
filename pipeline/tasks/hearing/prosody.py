"""Named targets: what a reader understands of how a clip or a word was said.

Pitch and energy come from a cache of kind `prosody` (`librosa.pyin` and root mean square every
10 ms), rate from it or from the times of words, pauses from these times.

Shapes: F frames, W words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.corpus.word_spans import spelled
from pipeline.foundation.arrays import Array

FEWEST_VOICED = 5
"""Voiced frames (50 ms) under which a pitch is not told."""
LONGEST_PAUSE_SECONDS = 1.0
"""Longer pauses count as this long: they are turns, and a few of them would be all of the r."""
SEMITONES = 12
REFERENCE_HZ = 100.0
RANGE = (10, 90)

DEFINITIONS: Mapping[str, str] = {
    "pitch": f"mean over voiced frames, in semitones over {REFERENCE_HZ:.0f} Hz",
    "pitch range": f"from the {RANGE[0]}th to the {RANGE[1]}th percentile over voiced frames, in "
    "semitones",
    "energy": "mean power of the frames, in dB of full scale",
    "rate": "letters and digits per second: of a clip from its first to its last voiced frame, of "
    "a word over the whole of it",
    "pause": "seconds of silence before a word, from the end of the word before it in the clip, at "
    f"most {LONGEST_PAUSE_SECONDS:.0f} s; of a clip the mean over its words",
}


@dataclass(frozen=True)
class Stretch:
    """What is heard in some frames that follow each other; NaN where that cannot be told.

    Attributes:
        pitch: mean, in semitones.
        pitch_range: in semitones.
        energy: in dB.
        voiced_seconds: from the first voiced frame to the end of the last.
    """

    pitch: float
    pitch_range: float
    energy: float
    voiced_seconds: float


def heard_in(frames_F3: Array, frame_seconds: float) -> Stretch:
    """Pitch, energy and length of some frames of prosody.

    Args:
        frames_F3: `f0_hz` (0 where unvoiced), `energy_db`, `voicing`.
        frame_seconds: from one frame to the next.
    """
    pitch_F, energy_F = (np.asarray(frames_F3[:, column], np.float64) for column in (0, 1))
    voiced = np.flatnonzero(pitch_F > 0)
    energy = 10 * np.log10(np.mean(10 ** (energy_F / 10))) if len(energy_F) else np.nan
    if len(voiced) < FEWEST_VOICED:
        return Stretch(np.nan, np.nan, float(energy), np.nan)
    semitones = SEMITONES * np.log2(pitch_F[voiced] / REFERENCE_HZ)
    low, high = np.percentile(semitones, RANGE)
    seconds = float(voiced[-1] - voiced[0] + 1) * frame_seconds
    return Stretch(float(semitones.mean()), float(high - low), float(energy), seconds)


def letters(text: str) -> int:
    """How many letters and digits a text has."""
    return len(spelled(text)[0])


def of_clip(text: str, frames_F3: Array, frame_seconds: float) -> dict[str, float]:
    """Pitch, pitch range, energy and rate of a clip."""
    stretch = heard_in(frames_F3, frame_seconds)
    rate = letters(text) / stretch.voiced_seconds if letters(text) else np.nan
    return {
        "pitch": stretch.pitch,
        "pitch range": stretch.pitch_range,
        "energy": stretch.energy,
        "rate": rate,
    }


def of_words(
    start_W: Array, end_W: Array, frames_F3: Array, frame_seconds: float
) -> dict[str, Array]:
    """Pitch, pitch range and energy `[W]` of the words of a clip, by their times in seconds."""
    first_W = np.ceil(np.round(start_W / frame_seconds, 6)).astype(np.int64).clip(min=0)
    last_W = np.ceil(np.round(end_W / frame_seconds, 6)).astype(np.int64)
    stretches = [
        heard_in(frames_F3[first:last], frame_seconds)
        for first, last in zip(first_W.tolist(), last_W.tolist(), strict=True)
    ]
    return {
        "pitch": np.array([s.pitch for s in stretches]),
        "pitch range": np.array([s.pitch_range for s in stretches]),
        "energy": np.array([s.energy for s in stretches]),
    }


def rates(words: Sequence[str], start_W: Array, end_W: Array) -> Array:
    """Letters and digits per second `[W]` of each word; NaN for a word that takes no time."""
    letters_W = np.array([letters(word) for word in words], np.float64)
    seconds_W = np.asarray(end_W - start_W, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(seconds_W > 0, letters_W / seconds_W, np.nan)


def pauses(start_W: Array, end_W: Array, trusted_W: Array) -> Array:
    """Seconds of silence before each word `[W]` of a clip; NaN before the first, or untrusted."""
    pause_W = np.full(len(start_W), np.nan)
    pause_W[1:] = np.clip(start_W[1:] - end_W[:-1], 0, LONGEST_PAUSE_SECONDS)
    pause_W[1:][~(trusted_W[1:] & trusted_W[:-1])] = np.nan
    return pause_W
