"""WhisBERT as a method of pre-training: its cache, its module, its batches, what it leaves."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from pipeline.cache.identity import Kind
from pipeline.cache.store import TeacherCache
from pipeline.corpus.draws import DRAWS
from pipeline.corpus.masking import Masking, most_chosen
from pipeline.corpus.prepared import Prepared
from pipeline.corpus.prepared_texts import new_wordpiece
from pipeline.corpus.row_batches import RowBatch
from pipeline.corpus.row_corpus import TOKENS, RowCorpus
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.loading import load_tokenizer
from pipeline.models.student import check_kind
from pipeline.models.whisbert.layers import LayerSizes
from pipeline.models.whisbert.speech_encoder import KERNEL
from pipeline.pretraining.data import joined
from pipeline.pretraining.method import Data, Method, Parts
from pipeline.pretraining.sizes import largest_share, own_clips
from pipeline.pretraining.text_start import TextStart
from pipeline.pretraining.whisbert import costs, saved
from pipeline.pretraining.whisbert.batches import FRAMES, Hides, Maker, PairBatch
from pipeline.pretraining.whisbert.card import whisbert_card
from pipeline.pretraining.whisbert.losses import HEAR, HIDE, JOIN
from pipeline.pretraining.whisbert.measures import LESS_MEMORY, WORDS
from pipeline.pretraining.whisbert.module import Shape, WhisBERT
from pipeline.pretraining.whisbert.record import (
    comparable,
    held_out_retrieval,
    model_of,
    model_record,
    notes,
    tokenizer_of,
)
from pipeline.pretraining.whisbert.settings import WhisbertSettings
from pipeline.pretraining.whisbert.start import AudioStart
from pipeline.pretraining.whisbert.text import text_encoder, text_identity, text_notes, text_record
from pipeline.pretraining.whisbert.twin import INIT_AUDIO, check_twin
from pipeline.training import processes
from pipeline.training.card import CardWords

KIND_OF: dict[str, Kind] = {"mel": "whisper-mel", "hidden": "states"}
PATCH_MS = 100.0
FEED_FORWARD = 4
"""Widths of a layer's feed-forward part, in widths of the layer."""


class Whisbert(Method[WhisbertSettings]):
    """Text, audio and fusion encoders trained together; with mlm alone the text encoder.

    Args:
        settings: as the user gave them.
        start: what the audio encoder begins with; None for fresh weights.
    """

    name = "whisbert"
    folders = ("whisbert", "student")
    counted = TOKENS
    words = WORDS
    less_memory = LESS_MEMORY
    next_command = "speechkd probe blimp BLIMP --checkpoint {out} --out blimp.json"

    def __init__(self, settings: WhisbertSettings, start: AudioStart | None = None) -> None:
        super().__init__(settings)
        self.start = start if self.hears else None

    @property
    def hears(self) -> bool:
        """Whether any loss hears audio."""
        return bool(set(self.settings.losses) & HEAR)

    def caches(self) -> dict[str, TeacherCache]:
        """The one cache of frames.

        Raises:
            SpeechkdError: it is of another kind, or its rows do not make up patches of 100 ms.
        """
        settings = self.settings
        if not settings.init_text:
            check_kind(settings.student)
        cache = TeacherCache.open(settings.cache, kinds=(KIND_OF[settings.features],))
        per_patch(cache)
        if self.start is not None:
            self.start.check(self.shape(cache).audio, _reads(cache), cache.location)
        return {FRAMES: cache}

    def identity(self) -> dict[str, Any]:
        """What the audio and the text encoder begin with; here the twin is checked."""
        if self.settings.twin is not None:
            check_twin(self.settings, self._identity_of(self.caches()))
        audio = {} if self.start is None else {INIT_AUDIO: self.start.sha256}
        return {**audio, **text_identity(self.settings, self.text_start)}

    @cached_property
    def text_start(self) -> TextStart | None:
        """What the text encoder begins with; None for fresh weights."""
        return TextStart.load(self.settings.init_text) if self.settings.init_text else None

    def tokenizer(self, caches: Mapping[str, TeacherCache]) -> PreTrainedTokenizerBase:
        """The tokenizer that is named, that of --init-text, or a new one of the cache's texts."""
        settings = self.settings
        if settings.tokenizer:
            return load_tokenizer(settings.tokenizer)
        if self.text_start is not None:
            return self.text_start.tokenizer
        with processes.first_on_this_machine():
            return new_wordpiece(
                Prepared(caches[FRAMES], settings.prepared),
                settings.vocab_size,
                lowercase=settings.lowercase,
                max_tokens=settings.max_tokens,
            )

    def corpus(
        self, caches: Mapping[str, TeacherCache], tokenizer: PreTrainedTokenizerBase | None
    ) -> RowCorpus:
        """The clips with their tokens, and with their frames if a loss hears audio."""
        settings = self.settings
        corpus = joined(
            settings,
            caches,
            controls={FRAMES: settings.control},
            tokenizer=tokenizer,
            max_tokens=settings.max_tokens,
        )
        if self.hears:
            return corpus
        return replace(corpus, parts={TOKENS: corpus.parts[TOKENS]})

    def module(self, data: Data) -> nn.Module:
        """The text encoder first, so that its weights are those of the twin."""
        settings = self.settings
        student = text_encoder(settings, tokenizer_of(data), self.text_start)
        model = WhisBERT(student, settings.weight_of(), self.shape(data.caches[FRAMES]))
        if self.start is not None and model.speech is not None:
            self.start.fill(model.speech)
        return model

    def shape(self, cache: TeacherCache) -> Shape:
        """What is built beside the text encoder."""
        settings = self.settings

        def sizes(layers: int) -> LayerSizes:
            width = settings.width
            return LayerSizes(layers, width, settings.heads, FEED_FORWARD * width)

        learned = settings.mmc_temperature is None
        return Shape(
            frame_width=cache.identity.width,
            per_patch=per_patch(cache),
            audio=sizes(settings.audio_layers),
            fusion=sizes(settings.fusion_layers),
            normed=settings.stem_norm,
            kappa=settings.mam_temperature,
            temperature=Shape.temperature if learned else settings.mmc_temperature or 1.0,
            learned=learned,
        )

    def maker(self, data: Data) -> Callable[[RowBatch], PairBatch]:
        """Masks, hidden patches, negatives, partners and rivals of each batch."""
        settings, on = self.settings, set(self.settings.losses)
        hides = Hides(
            settings.mam_share if on & HIDE else 0.0,
            settings.mam_span,
            settings.mam_negatives,
            settings.mam_among,
        )
        return Maker(
            data.corpus,
            Masking.of(tokenizer_of(data), settings.mask_share),
            hides if self.hears else None,
            per_patch(data.caches[FRAMES]),
            joins=bool(on & JOIN),
            unmatched="atm" in on,
            process=processes.rank(),
        )

    def size(self, batch: PairBatch) -> int:
        """Tokens of the whole batch."""
        return batch.tokens

    def step_bytes(self, parts: Parts) -> int:
        """An upper bound for what one step holds, in bytes: that of the largest batch."""
        model, batches = model_of(parts), parts.batches
        clips = own_clips(batches.clips_per_batch, batches.processes)
        frames, tokens = (
            largest_share(batches, name, parts.schedule.total_steps)
            if name in batches.corpus.parts
            else 0
            for name in (FRAMES, TOKENS)
        )
        return costs.step_bytes(
            model.student,
            model.shape,
            model.weights,
            costs.Clip(frames / clips, tokens / clips),
            clips,
            most_chosen(self.settings.mask_share, tokens, batches.processes),
        )

    def clip(self, parts: Parts) -> costs.Clip:
        """Mean sizes of a clip to train on."""
        corpus = parts.data.corpus
        frames, tokens = (
            float(corpus.parts[name].lengths_of(corpus.train).double().mean())
            if name in corpus.parts
            else 0.0
            for name in (FRAMES, TOKENS)
        )
        return costs.Clip(frames, tokens)

    def flops(self, parts: Parts) -> float:
        """Per token, forward and backward."""
        model, clip = model_of(parts), self.clip(parts)
        each = costs.pass_flops(model.student, model.shape, clip, self.settings.mask_share)
        return costs.BACKWARD * costs.clip_flops(each, model.weights) / clip.tokens

    def notes(self, parts: Parts) -> Iterable[str]:
        """What texts and recordings lack, what a step costs, which control it is."""
        yield from notes(self.settings, parts, self.clip(parts))
        yield from text_notes(self.text_start, tokenizer_of(parts.data))
        if self.start is not None:
            yield f"the audio encoder begins with {self.start.description}, {self.start.name}" + (
                ""
                if self.start.hearing is not None
                else ". It learnt from transcribed speech, which is not BabyLM; stem and CLS are "
                "fresh"
            )

    def comparable(self, parts: Parts) -> dict[str, Any]:
        """The twin is the text encoder without audio; the others are compared with it."""
        audio_start = None if self.start is None else self.start.sha256
        return comparable(self.settings, parts, audio_start, self.text_start)

    def record(self, parts: Parts) -> dict[str, Any]:
        """The model, its cost, its twin, and what lengths alone give."""
        record = model_record(self.settings, parts, self.clip(parts))
        record |= text_record(self.text_start)
        if self.settings.twin is not None:
            record["twin_of"] = check_twin(self.settings, self._identity_of(parts.data.caches))
        return record

    def outcome(self, parts: Parts) -> dict[str, Any]:
        """Retrieval among the clips held out, if clips are contrasted."""
        if "mmc" not in self.settings.losses or not len(parts.data.corpus.held_out):
            return {}
        return {"retrieval": held_out_retrieval(parts, self.maker(parts.data))}

    def save(self, parts: Parts) -> Mapping[str, Callable[[Path], None]]:
        """The whole model, and its text encoder as an ordinary Hugging Face folder."""
        model, tokenizer = model_of(parts), tokenizer_of(parts.data)
        reads = _reads(parts.data.caches[FRAMES])

        def student(into: Path) -> None:
            model.student.save(into)
            tokenizer.save_pretrained(into)

        return {
            "whisbert": lambda into: saved.save(model, tokenizer, reads, into),
            "student": student,
        }

    def card(self, record: Mapping[str, Any]) -> CardWords:
        """What its card says."""
        return whisbert_card(record)

    def _identity_of(self, caches: Mapping[str, TeacherCache]) -> dict[str, Any]:
        return {
            "method": self.name,
            **self.settings.identity(),
            **text_identity(self.settings, self.text_start),
            "frames_sha256": caches[FRAMES].digest(),
            "draws": DRAWS,
        }


def _reads(cache: TeacherCache) -> dict[str, Any]:
    """What an audio encoder reads of a cache."""
    identity = cache.identity
    return {"kind": identity.kind, "width": identity.width, **identity.settings}


def per_patch(cache: TeacherCache) -> int:
    """Rows of a cache that make up a patch of 100 ms.

    Raises:
        SpeechkdError: no whole number of them does, or more than the stem sees.
    """
    identity = cache.identity
    frames = PATCH_MS / 1000 * identity.rows_per_second
    if frames != round(frames) or not 1 <= frames <= KERNEL:
        raise SpeechkdError(
            f"{cache.location} has {identity.rows_per_second:g} rows per second; a patch of "
            f"{PATCH_MS:g} ms must be 1 to {KERNEL} whole rows. Make the cache with --stride 1."
        )
    return round(frames)
