"""What a model reads of log-mel rows: normalised channels, and their deltas, packed clip by clip.

Caches hold raw log-mels, because both are functions of them. They are computed when a batch is
made, deltas after masking: the deltas of a visible frame are made of the four frames on each side,
so those beside a masked span would tell what is masked.

Shapes: F frames of all clips end to end, B clips, M channels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Normalisation = Literal["clip", "corpus", "none"]

REACH = 4  # frames on each side of a delta's
SMALLEST_DEVIATION = 1e-3  # nepers: below it a channel is digital silence, not a signal


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of channels, per clip or for all clips.

    Attributes:
        mean_BM: `[B, M]`, or `[1, M]` for all clips.
        std_BM: of the same shape, at least `SMALLEST_DEVIATION`.
    """

    mean_BM: Tensor
    std_BM: Tensor

    def normalised(self, values_FM: Tensor, counts_B: Tensor) -> Tensor:
        """Values less the mean, over the standard deviation."""
        if len(self.mean_BM) == 1:
            return (values_FM - self.mean_BM) / self.std_BM
        clip_F = clip_of_frames(counts_B, len(values_FM))
        return (values_FM - self.mean_BM[clip_F]) / self.std_BM[clip_F]


def clip_of_frames(counts_B: Tensor, frames: int) -> Tensor:
    """The clip that each frame belongs to, `[F]`; `frames` is the sum of the counts."""
    clips_B = torch.arange(len(counts_B), device=counts_B.device)
    return clips_B.repeat_interleave(counts_B, output_size=frames)


def clip_scale(values_FM: Tensor, counts_B: Tensor) -> Scale:
    """Mean and standard deviation of each clip's channels, summed in float64.

    Args:
        values_FM: rows of all clips, end to end.
        counts_B: rows of each clip, all at least 1.
    """
    wide_FM = values_FM.double()
    mean_BM = torch.segment_reduce(wide_FM, "mean", lengths=counts_B, axis=0, unsafe=True)
    apart_FM = wide_FM - mean_BM[clip_of_frames(counts_B, len(values_FM))]
    square_BM = torch.segment_reduce(
        apart_FM.square(), "mean", lengths=counts_B, axis=0, unsafe=True
    )
    return _scale(mean_BM, square_BM.sqrt())


def corpus_scale(mean_M: Tensor, std_M: Tensor) -> Scale:
    """The scale of a whole cache, from its statistics (`Cache.statistics`)."""
    return _scale(mean_M[None], std_M[None])


def deltas(values_FM: Tensor, counts_B: Tensor) -> Tensor:
    """First differences in time, as `librosa.feature.delta` computes them by default.

    At frame t it is Σ k·x(t + k) / 60 over k from −4 to 4: the slope of the straight line that fits
    those nine frames best. The first and the last four frames of a clip take the slope of its
    outermost nine. A clip of fewer than nine frames has deltas of 0; librosa refuses it.

    Args:
        values_FM: rows of all clips, end to end.
        counts_B: rows of each clip, all at least 1.

    Returns:
        `[F, M]`, in the dtype of the values.
    """
    frames = len(values_FM)
    ends_B = counts_B.cumsum(0)
    clip_F = clip_of_frames(counts_B, frames)
    first_F, last_F = (ends_B - counts_B)[clip_F], ends_B[clip_F] - 1
    place_F = torch.arange(frames, device=values_FM.device)
    centre_F = torch.minimum(torch.maximum(place_F, first_F + REACH), last_F - REACH)
    sum_FM = torch.zeros_like(values_FM)
    for k in range(1, REACH + 1):
        # beyond the rows only where a clip is too short, and there the sum does not count
        after_F, before_F = ((centre_F + shift).clamp(0, max(frames - 1, 0)) for shift in (k, -k))
        sum_FM += k * (values_FM[after_F] - values_FM[before_F])
    squares = 2 * sum(k * k for k in range(1, REACH + 1))
    enough_F1 = (counts_B > 2 * REACH)[clip_F, None]
    return torch.where(enough_F1, sum_FM / squares, 0)


@dataclass(frozen=True)
class Normalised:
    """Log-mels of some clips as a model predicts them, and how to make what it reads.

    Attributes:
        mel_FM: normalised log-mels.
        counts_B: rows of each clip.
        delta_scale: mean and standard deviation of the clean deltas of `mel_FM`.
    """

    mel_FM: Tensor
    counts_B: Tensor
    delta_scale: Scale

    def with_deltas(self, shown_FM: Tensor) -> Tensor:
        """Features `[F, 2 M]`: log-mels, then their deltas on the scale of the clean ones.

        Args:
            shown_FM: `mel_FM`, or that with masked frames zeroed or replaced. Nothing of a masked
                frame is left in the features then.
        """
        delta_FM = deltas(shown_FM, self.counts_B)
        normal_FM = self.delta_scale.normalised(delta_FM, self.counts_B).to(shown_FM.dtype)
        return torch.cat([shown_FM, normal_FM], dim=1)


def normalise(
    mel_FM: Tensor,
    counts_B: Tensor,
    kind: Normalisation = "clip",
    corpus: tuple[Scale, Scale] | None = None,
) -> Normalised:
    """Normalise the raw log-mels of some clips.

    Args:
        mel_FM: rows of all clips as a cache of kind `ctal-mel` or `whisper-mel` has them; float16
            becomes float32.
        counts_B: rows of each clip, all at least 1.
        kind: `clip` gives each channel of each clip mean 0 and standard deviation 1 over the clip,
            as CTAL's code does, and so removes much of voice and room. `corpus` does so over the
            whole cache. `none` leaves log-mels and deltas as they are.
        corpus: for `corpus`, the scale of the cache's log-mels (`corpus_scale`), and that of the
            deltas of log-mels so normalised (`clip_scale` of many clips taken as one).

    Raises:
        ValueError: `corpus` without its scale.
    """
    mel_FM = mel_FM.float()
    if kind == "none":
        return Normalised(mel_FM, counts_B, _unchanged(mel_FM))
    if kind == "corpus":
        if corpus is None:
            raise ValueError("the normalisation corpus needs the scales of the corpus")
        scale, delta_scale = corpus
        return Normalised(scale.normalised(mel_FM, counts_B).float(), counts_B, delta_scale)
    scale = clip_scale(mel_FM, counts_B)
    normal_FM = scale.normalised(mel_FM, counts_B).float()
    of_deltas = clip_scale(deltas(normal_FM, counts_B), counts_B)
    # as if deltas were taken of raw log-mels, where silence has deltas near 0
    least_BM = SMALLEST_DEVIATION / scale.std_BM
    delta_scale = Scale(of_deltas.mean_BM, torch.maximum(of_deltas.std_BM, least_BM))
    return Normalised(normal_FM, counts_B, delta_scale)


def _scale(mean_BM: Tensor, std_BM: Tensor) -> Scale:
    return Scale(mean_BM, std_BM.clamp(min=SMALLEST_DEVIATION))


def _unchanged(values_FM: Tensor) -> Scale:
    zero_1M = values_FM.new_zeros(1, values_FM.shape[1])
    return Scale(zero_1M, zero_1M + 1)
