"""Frames with mean 0 and deviation 1 per speaker, recording, utterance, or over a whole corpus.

Statistics of a few seconds are uncertain, so those of N frames are drawn towards those of the
corpus: μ = (N μ_u + κ μ_g) / (N + κ), and the variance likewise. A channel that hardly varies, such
as the upper ones of telephone speech, is divided by a least deviation instead of by its own.

Source: SPLAT, section 3.1 (per speaker); the rest is ours (docs/splat.md).

Shapes: N frames, C channels, U units (speakers, recordings, utterances), P clips of a cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cache.identity import Identity
from pipeline.cache.sequences import Clips, SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.corpus.arrays import ArrayWriter
from pipeline.corpus.prepared import Prepared
from pipeline.foundation.progress import Meter
from pipeline.models.lengths import Lengths
from pipeline.models.speech_front import Normalise, SpeechFront

CLIPS_AT_ONCE = 64
SUMS_VERSION = 1
FLOORS = {"whisper-mel": 0.05, "ctal-mel": 0.05 * 4 * float(np.log(10))}
"""Least deviation of a channel, in its own units: a seventh of that of speech within a speaker.
Whisper's log-mel is (log10 x + 4) / 4, CTAL's the natural logarithm."""
FLOOR_SHARE = 1 / 7
"""The same for other rows, such as a teacher's states: a share of the median deviation."""


@dataclass(frozen=True)
class Units:
    """What each clip of a cache is normalised by.

    Attributes:
        unit_P: number of each clip's unit.
        count: how many units there are.
        clips: how many clips took their `speaker`, their `recording`, or themselves (`utterance`).
    """

    unit_P: NDArray[np.int64]
    count: int
    clips: dict[str, int]

    def in_words(self) -> str:
        """How many clips took which, in words."""
        return ", ".join(f"{n:,} clips by {what}" for what, n in self.clips.items() if n)


def units_of(clips: Clips, normalise: Normalise) -> Units:
    """The unit of each clip: its speaker, else its recording, else itself; or one for all."""
    if normalise == "global":
        return Units(np.zeros(len(clips), np.int64), 1, {"the whole cache": len(clips)})
    ways = {"speaker": clips.speaker, "recording": clips.recording}
    if normalise != "speaker":
        del ways["speaker"]
    if normalise == "utterance":
        ways.clear()
    number_of: dict[tuple[str, str | int], int] = {}
    taken = dict.fromkeys([*ways, "utterance"], 0)
    units = []
    for place in range(len(clips)):
        name: tuple[str, str | int] = ("utterance", place)
        for what, names in ways.items():
            if (own := names[place]) is not None:
                name = (what, own)
                break
        taken[name[0]] += 1
        units.append(number_of.setdefault(name, len(number_of)))
    return Units(np.array(units, np.int64), len(number_of), taken)


@dataclass
class FrameSums:
    """Count, sum and sum of squares of each unit's frames, in float64; they add up.

    Attributes:
        count_U: frames of each unit.
        sum_UC: their sums.
        square_UC: the sums of their squares.
    """

    count_U: Tensor
    sum_UC: Tensor
    square_UC: Tensor

    @classmethod
    def none(cls, units: int, channels: int) -> "FrameSums":
        """Of no frames."""
        zero_UC = torch.zeros(units, channels, dtype=torch.float64)
        return cls(torch.zeros(units, dtype=torch.int64), zero_UC, zero_UC.clone())

    def add(self, values_NC: Tensor, unit_N: Tensor) -> None:
        """Count some frames."""
        wide_NC = values_NC.double()
        self.count_U += torch.bincount(unit_N, minlength=len(self.count_U))
        self.sum_UC.index_add_(0, unit_N, wide_NC)
        self.square_UC.index_add_(0, unit_N, wide_NC.square())

    def plus(self, other: "FrameSums") -> "FrameSums":
        """The sums of both."""
        return FrameSums(
            self.count_U + other.count_U,
            self.sum_UC + other.sum_UC,
            self.square_UC + other.square_UC,
        )

    def whole(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation `[C]` over the frames of all units, float64."""
        count = self.count_U.sum().clamp(min=1)
        mean_C = self.sum_UC.sum(0) / count
        variance_C = self.square_UC.sum(0) / count - mean_C.square()
        return mean_C, variance_C.clamp(min=0).sqrt()


@dataclass(frozen=True)
class Normaliser:
    """Gives frames mean 0 and deviation 1.

    Attributes:
        mean_UC: per unit, float32.
        std_UC: per unit, float32, positive.
        unit_P: unit of each clip of the cache.
    """

    mean_UC: Tensor
    std_UC: Tensor
    unit_P: Tensor

    def normalised(self, values_NC: Tensor, rows: Lengths, place_B: Tensor) -> Tensor:
        """Normalised frames `[N, C]` of some clips.

        Args:
            values_NC: their raw rows.
            rows: which rows are of which clip.
            place_B: each clip's place in the cache.
        """
        unit_N = self.unit_P[place_B][rows.sequence_N]
        return (values_NC.float() - self.mean_UC[unit_N]) / self.std_UC[unit_N]


def normaliser_of(
    sums: FrameSums, unit_P: NDArray[np.int64], mean_C: Tensor, std_C: Tensor, front: SpeechFront
) -> Normaliser:
    """Statistics of units, drawn towards those of the corpus of pre-training.

    Args:
        sums: of the frames at hand.
        unit_P: the unit of each clip.
        mean_C: of the corpus.
        std_C: of the corpus.
        front: says by how much, and the least deviation.
    """
    mean_C, std_C = mean_C.double(), std_C.double()
    unit = torch.from_numpy(unit_P)
    if front.normalise == "global":
        return Normaliser(
            mean_C[None].float(), std_C.clamp(min=front.floor)[None].float(), torch.zeros_like(unit)
        )
    count_U1 = sums.count_U.double()[:, None]
    own_UC = sums.sum_UC / count_U1.clamp(min=1)
    variance_UC = (sums.square_UC / count_U1.clamp(min=1) - own_UC.square()).clamp(min=0)
    weight_U1 = count_U1 / (count_U1 + front.shrink_frames).clamp(min=1e-12)
    mean_UC = torch.lerp(mean_C.expand_as(own_UC), own_UC, weight_U1)
    variance_UC = torch.lerp(std_C.square().expand_as(own_UC), variance_UC, weight_U1)
    std_UC = variance_UC.sqrt().clamp(min=front.floor)
    return Normaliser(mean_UC.float(), std_UC.float(), unit)


def frame_sums(
    cache: TeacherCache,
    reader: SequenceReader,
    units: Units,
    normalise: Normalise,
    folder: Path | None,
) -> FrameSums:
    """Read every frame of a cache once, for all runs that normalise it alike.

    Args:
        cache: of frames.
        reader: of the same cache.
        units: of its clips.
        normalise: how units were chosen, which names the prepared file.
        folder: for prepared files; None for the usual one.
    """

    def fill(writer: ArrayWriter) -> None:
        sums = FrameSums.none(units.count, cache.identity.width)
        unit_P = torch.from_numpy(units.unit_P)
        with Meter("statistics of frames", len(reader.clips), "clips") as meter:
            for place_B in _pieces(len(reader.clips)):
                rows_B = torch.from_numpy(reader.clips.rows[place_B])
                unit_N = unit_P[torch.from_numpy(place_B)].repeat_interleave(rows_B)
                sums.add(reader.values(place_B).float(), unit_N)
                meter.advance(len(place_B))
        for name, values in vars(sums).items():
            writer.append(name, values.numpy())
        writer.close({})

    store = Prepared(cache, folder).made("frame-sums", [normalise, SUMS_VERSION], fill)
    host = torch.device("cpu")
    return FrameSums(*(store.load(n, host) for n in ("count_U", "sum_UC", "square_UC")))


def _pieces(clips: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, clips, CLIPS_AT_ONCE):
        yield np.arange(start, min(start + CLIPS_AT_ONCE, clips))


def source_of(identity: Identity) -> dict[str, object]:
    """What rows of a cache are, apart from how they are stored: of `SpeechFront.source`."""
    return {
        "kind": identity.kind,
        "width": identity.width,
        "hop_samples": identity.hop_samples,
        **identity.settings,
    }


def floor_of(kind: str, std_C: Tensor) -> float:
    """Least deviation of a channel, in the unit of the rows."""
    return FLOORS.get(kind) or max(float(std_C.median()) * FLOOR_SHARE, 1e-6)


@dataclass(frozen=True)
class Frames:
    """A cache of frames as an encoder reads it.

    Attributes:
        reader: of the cache.
        normaliser: of its clips.
        units: what clips are normalised by.
    """

    reader: SequenceReader
    normaliser: Normaliser
    units: Units

    def normalised(self, values_NC: Tensor, rows: Lengths, place_B: Tensor) -> Tensor:
        """Normalised rows of some clips; see `Normaliser.normalised`."""
        return self.normaliser.normalised(values_NC, rows, place_B)


def open_frames(
    cache: TeacherCache, reader: SequenceReader, front: SpeechFront, folder: Path | None
) -> Frames:
    """A cache of frames, normalised as a front end asks.

    Args:
        cache: of frames, of the front end's own source.
        reader: of the same cache.
        front: of the encoder.
        folder: for prepared files; None for the usual one.
    """
    units = units_of(reader.clips, front.normalise)
    sums = frame_sums(cache, reader, units, front.normalise, folder)
    normaliser = normaliser_of(sums, units.unit_P, front.mean_C, front.std_C, front)
    return Frames(reader, normaliser, units)


def new_front(
    cache: TeacherCache,
    reader: SequenceReader,
    *,
    normalise: Normalise,
    shrink_frames: float,
    stack: int,
    read: str,
    folder: Path | None,
) -> SpeechFront:
    """The front end of an encoder that is trained on a cache from the beginning.

    Args:
        cache: of frames.
        reader: of the same cache.
        normalise: over what.
        shrink_frames: κ.
        stack: rows that become one position.
        read: what stands for a clip.
        folder: for prepared files; None for the usual one.
    """
    units = units_of(reader.clips, normalise)
    mean_C, std_C = frame_sums(cache, reader, units, normalise, folder).whole()
    floor = floor_of(cache.identity.kind, std_C)
    return SpeechFront(
        source=source_of(cache.identity),
        normalise=normalise,
        shrink_frames=shrink_frames,
        floor=floor,
        stack=stack,
        read=read,  # type: ignore[arg-type]
        mean_C=mean_C.float(),
        std_C=std_C.clamp(min=floor).float(),
    )
