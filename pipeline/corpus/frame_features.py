"""What a model of speech reads of a cache of log-mels: the same in pre-training and afterwards.

A cache holds raw log-mels. Normalisation, deltas and stacking belong to the model that reads them,
so they are stored with it (`features.json`), and a cache of another front end is refused.

Shapes: F frames of all clips end to end, B clips, M mel channels, P positions (frames, or groups of
`stack` frames), C columns of a position.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from pipeline.cache.identity import Identity, Kind
from pipeline.corpus.acoustic import (
    Normalisation,
    Normalised,
    clip_of_frames,
    clip_scale,
    corpus_scale,
    deltas,
    normalise,
)
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.models.lengths import Lengths

Deltas: TypeAlias = Literal["clean", "paper", "none"]
MELS: tuple[Kind, ...] = ("ctal-mel", "whisper-mel")
"""Kinds of caches that have log-mels."""


@dataclass(frozen=True)
class FrameFeatures:
    """How rows of log-mels become what a model reads.

    Attributes:
        front_end: what the cache's rows are: its kind, width, hop and settings.
        normalisation: `clip`, `corpus` or `none`.
        deltas: how deltas are read: computed `clean`ly from what is shown, as in the `paper`, or
            `none` at all. They differ where frames are hidden, and only there.
        stack: frames that make one position.
        longest: frames of the longest clip that the model was trained on; longer ones are cut.
        mean: of each channel of the cache that the model was trained on; empty unless the
            normalisation is `corpus`.
        std: their standard deviations.
        delta_mean: the means of the deltas of channels so normalised.
        delta_std: the standard deviations of these.
    """

    front_end: Mapping[str, Any]
    normalisation: Normalisation
    deltas: Deltas
    stack: int
    longest: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    delta_mean: tuple[float, ...] = ()
    delta_std: tuple[float, ...] = ()

    @property
    def channels(self) -> int:
        """M, mel channels of the cache."""
        return int(self.front_end["width"])

    @property
    def columns(self) -> int:
        """C, values of a position as it is read."""
        return self.stack * self.channels * (1 if self.deltas == "none" else 2)

    @property
    def target_columns(self) -> int:
        """Values of a position as it is predicted: log-mels and deltas of each frame."""
        return self.stack * self.channels * 2

    def normal(self, mel_FM: Tensor, counts_B: Tensor) -> Normalised:
        """Raw log-mels of some clips, normalised."""
        scales = None
        if self.normalisation == "corpus":
            mean_M, std_M, delta_mean_M, delta_std_M = (
                torch.tensor(values)
                for values in (self.mean, self.std, self.delta_mean, self.delta_std)
            )
            scales = corpus_scale(mean_M, std_M), corpus_scale(delta_mean_M, delta_std_M)
        return normalise(mel_FM, counts_B, self.normalisation, scales)

    def clean(self, normal: Normalised) -> Tensor:
        """What is predicted: log-mels with clean deltas, `[F, 2 M]`."""
        return normal.with_deltas(normal.mel_FM)

    def read(self, normal: Normalised) -> Tensor:
        """What is read of clips of which nothing is hidden, `[F, C / stack]`."""
        return normal.mel_FM if self.deltas == "none" else self.clean(normal)

    def positions(self, counts_B: Tensor) -> Tensor:
        """Positions of each clip."""
        return -(-counts_B // self.stack)

    def stacked(self, values_FC: Tensor, counts_B: Tensor) -> Tensor:
        """Values of frames side by side per position; the last one's missing frames are 0.

        Args:
            values_FC: rows of all clips, end to end.
            counts_B: frames of each clip.

        Returns:
            `[P, stack · C]`.
        """
        if self.stack == 1:
            return values_FC
        slots_B = self.positions(counts_B) * self.stack
        into_F = slot_of_frames(counts_B, slots_B, len(values_FC))
        slots = int(slots_B.sum())
        wide = values_FC.new_zeros(slots, values_FC.shape[1])
        return wide.index_copy(0, into_F, values_FC).view(slots // self.stack, -1)

    def packed(self, mel_FM: Tensor, counts_B: Tensor) -> tuple[Tensor, Lengths]:
        """Raw log-mels of some clips as a model reads them when nothing is hidden.

        Args:
            mel_FM: rows of all clips, end to end.
            counts_B: rows of each clip.

        Returns:
            Values `[P, C]`, and the positions of each clip.
        """
        mel_FM, counts_B = self.cut(mel_FM, counts_B)
        values_FC = self.read(self.normal(mel_FM, counts_B))
        return self.stacked(values_FC, counts_B), Lengths.of(self.positions(counts_B))

    def cut(self, mel_FM: Tensor, counts_B: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and counts of clips that have lost what is longer than `longest`."""
        if int(counts_B.max()) <= self.longest:
            return mel_FM, counts_B
        starts_B = counts_B.cumsum(0) - counts_B
        place_F = torch.arange(len(mel_FM))
        inside_F = place_F - starts_B[clip_of_frames(counts_B, len(mel_FM))] < self.longest
        return mel_FM[inside_F], counts_B.clamp(max=self.longest)

    def check(self, identity: Identity, where: str) -> None:
        """Refuse a cache whose rows are not those that the model reads.

        Raises:
            SpeechkdError: it is one; both values are shown.
        """
        own, other = dict(self.front_end), front_end(identity)
        differing = [
            f"{name}: {own.get(name)!r} there, {other.get(name)!r} here"
            for name in sorted({*own, *other})
            if own.get(name) != other.get(name)
        ]
        if differing:
            raise SpeechkdError(
                f"{where}: the model reads frames of another front end ({'; '.join(differing)}). "
                f"Make a cache with `speechkd extract-features --features {own['kind']}`."
            )

    def record(self) -> dict[str, Any]:
        """What `features.json` says."""
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}
        return {**values, "front_end": dict(self.front_end)}

    @classmethod
    def of_record(cls, record: Any, where: str) -> "FrameFeatures":
        """Read what `record` gave, whoever wrote it.

        Raises:
            Damaged: it is something else.
        """
        try:
            features = cls(
                front_end=dict(record["front_end"]),
                normalisation=_one_of(record["normalisation"], get_args(Normalisation)),
                deltas=_one_of(record["deltas"], get_args(Deltas)),
                stack=_positive(record["stack"]),
                longest=_positive(record["longest"]),
                **{name: _numbers(record[name]) for name in _SCALES},
            )
            _positive(features.front_end["width"])
            wanted = features.channels if features.normalisation == "corpus" else 0
            if any(len(getattr(features, name)) != wanted for name in _SCALES):
                raise ValueError(f"its scales are not of {wanted} channels")
            return features
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(
                f"{where} does not say how frames are read ({error!r}). Take the folder of the "
                "model anew from the run that made it."
            ) from None

    def with_scales(
        self, mel_FM: Tensor, counts_B: Tensor, mean_M: Tensor, std_M: Tensor
    ) -> "FrameFeatures":
        """These features with the scales of a corpus.

        Args:
            mel_FM: raw log-mels of many of its clips, whose deltas are measured.
            counts_B: frames of each of them.
            mean_M: mean of each channel over the whole cache.
            std_M: their standard deviation.
        """
        scale = corpus_scale(mean_M, std_M)
        normal_FM = scale.normalised(mel_FM.float(), counts_B).float()
        of_deltas = clip_scale(deltas(normal_FM, counts_B), counts_B.sum()[None])
        return replace(
            self,
            mean=_tuple(scale.mean_BM),
            std=_tuple(scale.std_BM),
            delta_mean=_tuple(of_deltas.mean_BM),
            delta_std=_tuple(of_deltas.std_BM),
        )


_SCALES = ("mean", "std", "delta_mean", "delta_std")


def front_end(identity: Identity) -> dict[str, Any]:
    """What the rows of a cache are, apart from which clips and how they are stored."""
    return {
        "kind": identity.kind,
        "width": identity.width,
        "hop_samples": identity.hop_samples,
        "sample_rate_hz": identity.sample_rate_hz,
        **identity.settings,
    }


def slot_of_frames(counts_B: Tensor, slots_B: Tensor, frames: int) -> Tensor:
    """Where each frame `[F]` stands if clip `b` has room for `slots_B[b]` of them."""
    gained_B = (slots_B.cumsum(0) - slots_B) - (counts_B.cumsum(0) - counts_B)
    return torch.arange(frames) + gained_B[clip_of_frames(counts_B, frames)]


def _tuple(values_1M: Tensor) -> tuple[float, ...]:
    return tuple(values_1M.flatten().tolist())


def _one_of(value: Any, allowed: tuple[Any, ...]) -> Any:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(map(str, allowed))}")
    return value


def _positive(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 2**24:
        raise ValueError(f"{value!r} is no count")
    return value


def _numbers(values: Any) -> tuple[float, ...]:
    if not all(type(v) in (int, float) and abs(v) < 1e9 for v in values):
        raise ValueError("a scale has something that is no number")
    return tuple(map(float, values))
