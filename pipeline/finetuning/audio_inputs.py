"""Clips of speech as a classifier's examples: cached frames through a speech module.

Shapes: N positions of frames, B examples of a batch, n examples, D width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.cache.identity import Kind
from pipeline.cache.sequences import SequenceReader, finished
from pipeline.cache.store import TeacherCache
from pipeline.corpus.frame_statistics import Frames, open_frames
from pipeline.corpus.speech import BASE, FRESH, is_fresh, open_speech, speech_folder
from pipeline.corpus.stacking import stack_rows, stacked_lengths
from pipeline.finetuning.inputs import Loaded, device_of
from pipeline.finetuning.patch_inputs import PatchEncoder, PatchInputs, open_hearing
from pipeline.finetuning.settings import Pooling
from pipeline.foundation.progress import say
from pipeline.models.encoders import describe, name_and_source, record_above
from pipeline.models.lengths import Lengths
from pipeline.models.packing import batches_by_length
from pipeline.models.speech import SpeechInput, SpeechModule, attended, means
from pipeline.models.speech_front import SpeechFront
from pipeline.models.whisbert.loading import whisbert_folder

FRAME_KINDS: tuple[Kind, ...] = ("whisper-mel", "ctal-mel", "states")
SCORED_POSITIONS_PER_BATCH = 8192
FRESH_SEED = 0
"""Of the weights of `fresh:base`, which are the same in every cell."""
NEEDS_ATTENTION = ("tok", "tok-contrast")
"""Alignments that ask nothing of the vector of a whole clip."""


class SpeechEncoder(nn.Module):
    """A speech module whose states become one vector per clip.

    Args:
        speech: the module.
        pooling: `cls` is what stands for a clip in the module itself; `mean` of the frames; or
            `attention`, a learned query over the frames, which begins as their mean.
    """

    def __init__(self, speech: SpeechModule, pooling: Pooling) -> None:
        super().__init__()
        self.speech, self.pooling = speech, pooling
        self.width = speech.width
        self.query = nn.Parameter(torch.zeros(speech.width)) if pooling == "attention" else None

    def vectors(self, clips: SpeechInput, pooling: Pooling) -> Tensor:
        """One vector per clip `[B, D]`.

        Raises:
            ValueError: the module was made for another pooling.
        """
        if pooling == "cls":
            return self.speech.vectors(clips)
        states_ND = self.speech(clips).frames_ND
        if pooling == "mean":
            return means(states_ND, clips.frames)
        if pooling != "attention" or self.query is None:
            raise ValueError(f"this speech encoder has no pooling {pooling}")
        score_N = states_ND @ self.query / self.width**0.5
        return attended(states_ND, score_N, clips.frames)


def speech_input(frames: Frames, front: SpeechFront, place_B: Tensor) -> SpeechInput:
    """Clips of a cache as a speech module reads them, on the host.

    Args:
        frames: the cache.
        front: of the module.
        place_B: places of the clips in the cache, int64.
    """
    reader, stack = frames.reader, front.stack
    rows = Lengths.of(torch.from_numpy(reader.clips.rows)[place_B].long())
    values_NC = frames.normalised(reader.values(place_B.numpy()), rows, place_B)
    positions = Lengths.of(stacked_lengths(rows.lengths_B, stack))
    return SpeechInput.of(positions, stack_rows(values_NC, rows, stack), front.read)


@dataclass(frozen=True)
class AudioInputs:
    """Clips of a cache of frames, normalised and stacked as a speech module reads them.

    Attributes:
        frames: the cache.
        front: of the module.
        place_n: place in the cache of each example.
        pooling: what the command's `auto` is for this module.
    """

    frames: Frames
    front: SpeechFront
    place_n: Tensor
    pooling: Pooling
    truncated: int = 0
    unknown: None = None

    def _lengths(self, places: Sequence[int]) -> list[int]:
        rows_B = torch.from_numpy(self.frames.reader.clips.rows)[self.place_n[list(places)]].long()
        lengths: list[int] = stacked_lengths(rows_B, self.front.stack).tolist()
        return lengths

    def size(self, places: Sequence[int]) -> int:
        """Positions of some clips."""
        return sum(self._lengths(places))

    def batches(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Group clips of like length, at most `SCORED_POSITIONS_PER_BATCH` positions per batch."""
        return batches_by_length(self._lengths(places), SCORED_POSITIONS_PER_BATCH)

    def clips(self, places: Sequence[int]) -> SpeechInput:
        """Some clips as the module reads them, on the host."""
        return speech_input(self.frames, self.front, self.place_n[list(places)])

    def vectors(self, encoder: Any, places: Sequence[int], pooling: Pooling) -> Tensor:
        """One vector per clip `[B, D]`, by a `SpeechEncoder`."""
        vector_BD: Tensor = encoder.vectors(
            self.clips(places).to(device_of(encoder)),
            self.pooling if pooling == "auto" else pooling,
        )
        return vector_BD


@dataclass(frozen=True)
class AudioClips:
    """The clips that a table asks of, in a cache of frames.

    Attributes:
        cache: of frames.
        reader: of the same cache.
        prepared: folder for prepared files; None for the usual one.
    """

    cache: TeacherCache
    reader: SequenceReader
    prepared: Path | None = None

    @classmethod
    def open(cls, location: str, prepared: Path | None = None) -> "AudioClips":
        """Open a finished cache of frames.

        Raises:
            SpeechkdError: it is of another kind, or not finished.
        """
        cache = finished(TeacherCache.open(location, kinds=FRAME_KINDS))
        return cls(cache, SequenceReader(cache, with_words=False), prepared)

    @property
    def place_of(self) -> dict[str, int]:
        """The place of each clip in the cache, by its key."""
        return self.reader.clips.place_of

    def load(self, keys: Sequence[str], pooling: Pooling, checkpoint: str) -> Loaded:
        """A speech module, and clips as it reads them.

        Args:
            keys: of the clips, all of which the cache has.
            pooling: how states become a vector; `auto` is `attention` for a module that was aligned
                by token, because nothing was asked of its first position, else `cls`.
            checkpoint: as the user wrote it: a run of `speechkd pretrain`, `fresh:base` or
                `fresh:RUN`, perhaps with a name and `=` before it.

        Raises:
            SpeechkdError: it cannot be loaded, or reads frames of another front end.
        """
        source = name_and_source(checkpoint)[1]
        if folder := whisbert_folder(source.removeprefix(FRESH)):
            return self._patches(keys, pooling, checkpoint, folder)
        run = run_of_speech(source)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fresh_seed(source))
            speech, front = open_speech(source, self.cache, self.reader, self.prepared)
        chosen = pooling
        if pooling == "auto":
            align = str(run.get("settings", {}).get("align", ""))
            chosen = "attention" if align in NEEDS_ATTENTION else "cls"
            if chosen == "attention":
                say(
                    f"{checkpoint}: aligned by {align}, which asks nothing of the vector of a "
                    "whole clip, so a learned query over its frames is read (--pooling attention)"
                )
        encoder = SpeechEncoder(speech, chosen)
        known = describe(checkpoint, run, speech)
        place_n = torch.tensor(self.reader.clips.places(keys), dtype=torch.int64)

        def inputs() -> AudioInputs:
            frames = open_frames(self.cache, self.reader, front, self.prepared)
            return AudioInputs(frames, front, place_n, chosen)

        return Loaded(known, encoder, inputs)

    def _patches(
        self, keys: Sequence[str], pooling: Pooling, checkpoint: str, folder: Path
    ) -> Loaded:
        """The audio encoder of a WhisBERT run, and clips as it reads them."""
        source = name_and_source(checkpoint)[1]
        fresh = is_fresh(source)
        run = {} if fresh else record_above(folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fresh_seed(source, folder))
            hearing = open_hearing(folder, self.cache.identity, self.cache.location, fresh=fresh)
        chosen: Pooling = "cls" if pooling == "auto" else pooling
        encoder = PatchEncoder(hearing.encoder, chosen)
        place_n = torch.tensor(self.reader.clips.places(keys), dtype=torch.int64)
        return Loaded(
            describe(checkpoint, run, hearing.encoder),
            encoder,
            lambda: PatchInputs(self.reader, place_n, hearing.per_patch, chosen),
        )


def run_of_speech(source: str) -> Mapping[str, Any]:
    """The record of a module's run; empty for fresh weights, or a folder without one."""
    if is_fresh(source):
        return {}
    return record_above(speech_folder(source))


def fresh_seed(source: str, folder: Path | None = None) -> int:
    """The seed of fresh weights: that of the run that they are named by.

    So beside runs of several seeds stand as many draws of fresh weights.

    Args:
        source: as the user wrote it.
        folder: of the encoder in its run; None for that of a speech module.
    """
    name = source.removeprefix(FRESH)
    if not is_fresh(source) or name == BASE:
        return FRESH_SEED
    seed = record_above(folder or speech_folder(name)).get("settings", {}).get("seed", FRESH_SEED)
    return seed if isinstance(seed, int) else FRESH_SEED
