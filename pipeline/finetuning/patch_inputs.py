"""Clips of speech as a classifier's examples: cached frames through WhisBERT's audio encoder.

Shapes: B examples of a batch, n examples, P patches, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.cache.identity import Identity
from pipeline.cache.sequences import SequenceReader
from pipeline.finetuning.inputs import device_of
from pipeline.finetuning.settings import Pooling
from pipeline.models.lengths import Movable
from pipeline.models.packing import batches_by_length
from pipeline.models.speech import attended, means
from pipeline.models.whisbert.loading import Hearing, load_hearing
from pipeline.models.whisbert.patches import PatchFrames, lay_out, patches_of
from pipeline.models.whisbert.speech_encoder import SpeechEncoder, WithFirst

SCORED_PATCHES_PER_BATCH = 4096


@dataclass(frozen=True)
class PatchClips(Movable):
    """Clips as the audio encoder reads them.

    Attributes:
        frames: laid out for the stem.
        places: of patches, and of states with a CLS before them.
    """

    frames: PatchFrames
    places: WithFirst


class PatchEncoder(nn.Module):
    """An audio encoder whose states become one vector per clip.

    Args:
        speech: the encoder.
        pooling: `cls` is the state of its CLS (WhisBERT, section 2.1); `mean` of the patches; or
            `attention`, a learned query over them, which begins as their mean.
    """

    def __init__(self, speech: SpeechEncoder, pooling: Pooling) -> None:
        super().__init__()
        self.speech, self.pooling, self.width = speech, pooling, speech.width
        self.query = nn.Parameter(torch.zeros(speech.width)) if pooling == "attention" else None
        # nothing is hidden here, so nothing would train what stands for hidden patches
        speech.mask_D.requires_grad_(False)

    def vectors(self, clips: PatchClips, pooling: Pooling) -> Tensor:
        """One vector per clip `[B, D]`.

        Raises:
            ValueError: the encoder was made for another pooling.
        """
        states_ND: Tensor = self.speech(self.speech.patches(clips.frames), clips.places)
        if pooling == "cls":
            return states_ND.index_select(0, clips.places.outer.starts_B)
        patches_PD = states_ND.index_select(0, clips.places.place_N)
        if pooling == "mean":
            return means(patches_PD, clips.places.inner)
        if pooling != "attention" or self.query is None:
            raise ValueError(f"this audio encoder has no pooling {pooling}")
        score_P = patches_PD @ self.query / self.width**0.5
        return attended(patches_PD, score_P, clips.places.inner)


@dataclass(frozen=True)
class PatchInputs:
    """Clips of a cache of frames in patches.

    Attributes:
        reader: of the cache.
        place_n: place in the cache of each example.
        per_patch: rows per patch.
        pooling: what the command's `auto` is.
    """

    reader: SequenceReader
    place_n: Tensor
    per_patch: int
    pooling: Pooling
    truncated: int = 0
    unknown: None = None

    def _rows(self, places: Sequence[int]) -> Tensor:
        return torch.from_numpy(self.reader.clips.rows)[self.place_n[list(places)]].long()

    def size(self, places: Sequence[int]) -> int:
        """Patches of some clips."""
        return sum(self.lengths(places))

    def lengths(self, places: Sequence[int]) -> list[int]:
        """Patches of each of some clips."""
        lengths: list[int] = patches_of(self._rows(places), self.per_patch).tolist()
        return lengths

    def batches(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Group clips of like length, at most `SCORED_PATCHES_PER_BATCH` patches per batch."""
        return batches_by_length(self.lengths(places), SCORED_PATCHES_PER_BATCH)

    def clips(self, places: Sequence[int]) -> PatchClips:
        """Some clips as the encoder reads them, on the host."""
        values_FW = self.reader.values(self.place_n[list(places)].numpy()).float()
        frames = lay_out(values_FW, self._rows(places), self.per_patch)
        return PatchClips(frames, WithFirst.of(frames.patches))

    def vectors(self, encoder: Any, places: Sequence[int], pooling: Pooling) -> Tensor:
        """One vector per clip `[B, D]`, by a `PatchEncoder`."""
        vector_BD: Tensor = encoder.vectors(
            self.clips(places).to(device_of(encoder)),
            self.pooling if pooling == "auto" else pooling,
        )
        return vector_BD


def open_hearing(folder: Path, identity: Identity, location: str, *, fresh: bool) -> Hearing:
    """The audio encoder of a run, for a cache of the frames that it learnt from.

    Raises:
        SpeechkdError: the cache holds other frames, or the run has no audio encoder.
    """
    hearing = load_hearing(folder, fresh=fresh)
    reads = {"kind": identity.kind, "width": identity.width, **identity.settings}
    hearing.check(reads, location, str(folder))
    return hearing
