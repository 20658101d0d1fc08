"""Step 1 of SPLAT: a speech module trained by filling in what is hidden of cached frames."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.cache.identity import Kind
from pipeline.cache.store import TeacherCache
from pipeline.corpus.frame_statistics import Frames, new_front, open_frames
from pipeline.corpus.row_batches import RowBatch
from pipeline.corpus.rows import Sequences
from pipeline.models.speech import SpeechShape, build_speech
from pipeline.models.speech_front import SpeechFront
from pipeline.pretraining.method import Data, Method, Parts
from pipeline.pretraining.splat import card, costs
from pipeline.pretraining.splat.export import save_speech
from pipeline.pretraining.splat.filling import Filling, cell_errors, references
from pipeline.pretraining.splat.masking import FrameMasking
from pipeline.pretraining.splat.reading import FRAMES, SpeechReading
from pipeline.pretraining.splat.settings import MaskedAudioSettings
from pipeline.pretraining.splat.words import LESS_MEMORY, WORDS
from pipeline.training.card import CardWords

FRAME_KINDS: tuple[Kind, ...] = ("whisper-mel", "ctal-mel", "states")
SAMPLED_BATCHES = 4
"""Batches on which what needs no learning is measured before the first step."""


class MaskedAudio(Method[MaskedAudioSettings]):
    """Masked audio alone: the paper's variant `Speech`, and where all others start."""

    name = "masked-audio"
    folders = ("speech",)
    counted = FRAMES
    words = WORDS
    less_memory = LESS_MEMORY
    next_command = "speechkd pretrain splat {cache} --text TEXTS --init {out} --out RUN"
    front: SpeechFront

    def caches(self) -> dict[str, TeacherCache]:
        """The frames."""
        return {FRAMES: TeacherCache.open(self.settings.frames, kinds=FRAME_KINDS)}

    def module(self, data: Data) -> nn.Module:
        """A fresh speech module, and a head."""
        settings, cache, part = self.settings, data.caches[FRAMES], frames_part(data)
        self.front = new_front(
            cache,
            part.reader,
            normalise=settings.normalize,
            shrink_frames=settings.shrink_frames,
            stack=settings.stack,
            read=settings.read,
            folder=settings.prepared,
        )
        speech = build_speech(
            settings.part(
                SpeechShape, channels=cache.identity.width, most_rows=cache.identity.most_rows
            )
        )
        return Filling(speech, self.front.channels, settings.stack, settings.reconstruct)

    def frames(self, data: Data) -> Frames:
        """The cache as the module reads it."""
        part = frames_part(data)
        return open_frames(data.caches[FRAMES], part.reader, self.front, self.settings.prepared)

    def maker(self, data: Data) -> Callable[[RowBatch], Any]:
        """Frames, normalised, masked and stacked."""
        settings = self.settings
        masking = FrameMasking(
            settings.mask_starts, settings.mask_span, settings.mask_channels, settings.channel_band
        )
        return SpeechReading.of(frames_part(data), self.frames(data), self.front, masking)

    def size(self, batch: Any) -> int:
        """Frames of the whole batch."""
        return int(batch.frames)

    def step_bytes(self, parts: Parts) -> int:
        """Upper bound of what a step holds."""
        return costs.step_bytes(parts, _speech(parts).encoder.config, self.front)

    def flops(self, parts: Parts) -> float:
        """Per frame, forward and backward."""
        return costs.flops_per_frame(parts, _speech(parts).encoder.config, self.front)

    def notes(self, parts: Parts) -> Iterable[str]:
        """How frames are normalised, and what needs no learning."""
        frames = self.frames(parts.data)
        yield (
            f"frames: {frames.units.in_words()}, drawn towards the whole cache as by "
            f"{self.front.shrink_frames:g} frames; deviation at least {self.front.floor:.3g}"
        )
        if self.front.source["kind"] == "states":
            yield (
                "NOTE: these frames are states of a speech encoder, not a spectrogram, so this is "
                "not SPLAT's own input"
            )
        means = trivial(self.maker(parts.data), parts)
        listing = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
        yield f"mean error of a hidden cell without any learning (deviation 1): {listing}"
        yield (
            "a module whose loss/hidden-time stays above line/hidden-time has learnt that speech "
            "is smooth, and nothing else"
        )

    def comparable(self, parts: Parts) -> dict[str, Any]:
        """Runs of the same size, frames and recipe compare."""
        del parts
        left_out = {"frames", "out", "seed", "epochs", "batch", "precision", "warmup_fraction"}
        own = self.settings.identity()
        setup = {name: value for name, value in own.items() if name not in left_out}
        return {"objective": self.name, "control": None, "setup": setup, "teaching": None}

    def record(self, parts: Parts) -> dict[str, Any]:
        """The module's size, and how frames were normalised."""
        return {"speech": card.speech_record(_speech(parts), self.front)}

    def save(self, parts: Parts) -> Mapping[str, Callable[[Path], None]]:
        """The speech module without its head."""
        return {"speech": lambda folder: save_speech(_speech(parts), self.front, folder)}

    def card(self, record: Mapping[str, Any]) -> CardWords:
        """What its card says."""
        return card.masked_audio_card(record)


def frames_part(data: Data) -> Sequences:
    """The part of a corpus that holds frames."""
    part = data.corpus.parts[FRAMES]
    if not isinstance(part, Sequences):
        raise TypeError(f"{type(part).__name__} holds no frames")
    return part


def _speech(parts: Parts) -> Any:
    return parts.module.speech


@torch.no_grad()
def trivial(make: Callable[[RowBatch], Any], parts: Parts) -> dict[str, float]:
    """Mean errors of what needs no learning, over a few batches of the first epoch."""
    batch_at = parts.batches.epoch(0)
    sums: dict[str, float] = {}
    batches = min(SAMPLED_BATCHES, parts.batches.per_epoch)
    for place in range(batches):
        masked = make(batch_at(place)).masked
        _, counts = cell_errors(masked.target_NC, masked)
        for name, value in references(masked, counts, 1).items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return {name: value / batches for name, value in sums.items()}
