"""CTAL as a run of pre-training: its cache, its model, its batches, and what it hands on."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, RobertaConfig, RobertaForMaskedLM

from pipeline.cache.store import TeacherCache
from pipeline.corpus.ctal_model import AUDIO, FEATURES, TEXT
from pipeline.corpus.frame_features import MELS, FrameFeatures, front_end
from pipeline.corpus.identity import tokenizer_sha256
from pipeline.corpus.masking import Masking, most_chosen
from pipeline.corpus.prepared import Prepared
from pipeline.corpus.row_batches import RowBatch
from pipeline.corpus.row_corpus import TOKENS, RowCorpus
from pipeline.corpus.rows import Rows
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.models.loading import load_tokenizer
from pipeline.models.student import Student
from pipeline.models.text_referred import AudioConfig, AudioStack, save_audio
from pipeline.pretraining.ctal.batches import FRAMES, CtalBatch, CtalMaker
from pipeline.pretraining.ctal.card import card_words
from pipeline.pretraining.ctal.costs import audio_flops, heads_flops, step_bytes, text_flops
from pipeline.pretraining.ctal.masking import FrameMasking
from pipeline.pretraining.ctal.module import CtalPretraining
from pipeline.pretraining.ctal.settings import CtalSettings
from pipeline.pretraining.ctal.words import LESS_MEMORY, WORDS
from pipeline.pretraining.data import joined
from pipeline.pretraining.method import Data, Method, Parts
from pipeline.pretraining.sizes import largest_share, own_clips
from pipeline.pretraining.text_start import TextStart
from pipeline.training import processes
from pipeline.training.card import CardWords
from pipeline.training.log import Words

MODEL = "model"
TEXT_POSITIONS = 512
CLIPS_FOR_SCALES = 1000
"""Clips whose deltas give the scale of deltas, for the normalisation by the corpus."""


class CtalMethod(Method[CtalSettings]):
    """Masked tokens and masked frames: a text encoder and an audio stack that looks at it."""

    name: ClassVar[str] = "ctal"
    folders: ClassVar[tuple[str, ...]] = (MODEL,)
    counted: ClassVar[str] = FRAMES
    words: ClassVar[Words] = WORDS
    less_memory: ClassVar[str] = LESS_MEMORY
    next_command: ClassVar[str] = (
        "speechkd finetune audio-text TABLE --cache {cache} --checkpoint {out} --out RESULTS"
    )

    def caches(self) -> dict[str, TeacherCache]:
        """The one cache, of log-mels."""
        return {FRAMES: TeacherCache.open(self.settings.cache, kinds=MELS)}

    @cached_property
    def _begun_from(self) -> TextStart | None:
        """The text encoder to go on from, and its tokenizer."""
        if not self.settings.text:
            return None
        start = TextStart.load(self.settings.text)
        if start.student.width % self.settings.heads:
            raise SpeechkdError(
                f"--text {self.settings.text} is {start.student.width} wide, and --heads "
                f"{self.settings.heads} do not divide that. Give a number of heads that does."
            )
        return start

    def identity(self) -> dict[str, Any]:
        """The weights that the text encoder begins with, if it is not fresh."""
        return {"text_sha256": self._begun_from.encoder_sha256} if self._begun_from else {}

    def tokenizer(self, caches: Mapping[str, TeacherCache]) -> PreTrainedTokenizerBase:
        """That of --text, or a new one of byte pairs."""
        if self._begun_from:
            return self._begun_from.tokenizer
        settings = self.settings
        with processes.first_on_this_machine():
            folder = Prepared(caches[FRAMES], settings.prepared).byte_pairs(
                settings.vocab_size, lowercase=settings.lowercase, max_tokens=settings.max_tokens
            )
        return load_tokenizer(str(folder))

    def corpus(
        self, caches: Mapping[str, TeacherCache], tokenizer: PreTrainedTokenizerBase | None
    ) -> RowCorpus:
        """The clips with a text; under the control each has the frames of another one."""
        shuffled = self.settings.control == "shuffled-text"
        return joined(
            self.settings,
            caches,
            controls={FRAMES: "shuffled"} if shuffled else {},
            tokenizer=tokenizer,
            max_tokens=self.settings.max_tokens,
        )

    _features: FrameFeatures | None = None

    def module(self, data: Data) -> nn.Module:
        """Both stacks and their heads."""
        settings, features = self.settings, self.features(data)
        student = self._student(data)
        config = AudioConfig(
            columns=features.columns,
            width=student.width,
            text_width=student.width,
            layers=settings.layers,
            heads=settings.heads,
            inner_width=4 * student.width,
            positions=int(features.positions(torch.tensor(features.longest))),
            cross=settings.cross == "on",
            dropout=settings.dropout,
        )
        return CtalPretraining(
            student,
            AudioStack(config),
            features.target_columns,
            mlm_weight=settings.mlm_weight,
            mcam_weight=settings.mcam_weight,
        )

    def _student(self, data: Data) -> Student:
        settings, tokenizer = self.settings, _present(data.tokenizer)
        student = self._begun_from.student if self._begun_from else fresh_text(settings, tokenizer)
        student.check_fits(tokenizer, settings.max_tokens)
        return student

    def features(self, data: Data) -> FrameFeatures:
        """How frames are read; the longest clip of training decides how many positions there are.

        Its scales are those of the cache if the normalisation is by the corpus.
        """
        if self._features is None:
            self._features = self._measured(data)
        return self._features

    def _measured(self, data: Data) -> FrameFeatures:
        settings, corpus, cache = self.settings, data.corpus, data.caches[FRAMES]
        part = corpus.parts[FRAMES]
        clips = torch.arange(len(corpus))
        features = FrameFeatures(
            front_end=front_end(cache.identity),
            normalisation=settings.normalisation,
            deltas=settings.chosen("deltas"),
            stack=settings.stack,
            longest=min(settings.max_frames, int(part.lengths_of(clips).max())),
        )
        if settings.normalisation != "corpus":
            return features
        chosen = corpus.train[:: max(1, len(corpus.train) // CLIPS_FOR_SCALES)]
        rows = cast(Rows, part.of(chosen))
        statistics = cache.statistics()
        mean_M, std_M = (torch.from_numpy(x) for x in (statistics.mean_E, statistics.std_E))
        return features.with_scales(rows.values_NW, rows.lengths_B, mean_M, std_M)

    def maker(self, data: Data) -> Callable[[RowBatch], CtalBatch]:
        """Hides tokens and frames of a batch."""
        settings, hop_ms = self.settings, _hop_ms(data)
        frames = FrameMasking(
            share=settings.frame_share,
            shortest=max(1, round(settings.shortest_ms / hop_ms)),
            longest=max(1, round(settings.longest_ms / hop_ms)),
            stack=settings.stack,
            spans=settings.chosen("spans"),
            fates=settings.chosen("fates"),
        )
        tokens = Masking.of(_present(data.tokenizer), settings.mask_share)
        return CtalMaker(data.corpus, tokens, frames, self.features(data))

    def size(self, batch: CtalBatch) -> int:
        """Frames of a batch."""
        return batch.frames

    def step_bytes(self, parts: Parts) -> int:
        """Upper bound of what a step holds beside weights, gradients and moments, in bytes.

        It is that of the largest batch that will come, whose places follow from the seed.
        """
        module, features = _module(parts), self.features(parts.data)
        clips = own_clips(parts.batches.clips_per_batch, parts.batches.processes)
        frames, tokens = (
            largest_share(parts.batches, name, parts.schedule.total_steps)
            for name in (FRAMES, TOKENS)
        )
        return step_bytes(
            module.text,
            module.audio.config,
            features.target_columns,
            positions=min(frames, features.longest * clips) // features.stack + clips,
            tokens=tokens,
            masked=most_chosen(self.settings.mask_share, tokens, parts.batches.processes),
        )

    def flops(self, parts: Parts) -> float:
        """Floating-point operations per frame, forward and backward."""
        settings, module, data = self.settings, _module(parts), parts.data
        features = self.features(data)
        clips = data.corpus.train
        frames, tokens = (
            float(data.corpus.parts[name].lengths_of(clips).double().mean())
            for name in (FRAMES, TOKENS)
        )
        positions = frames / features.stack
        forward = (
            audio_flops(module.audio.config, positions, tokens)
            + text_flops(module.text, tokens)
            + heads_flops(
                module.text,
                module.audio.config,
                features.target_columns,
                settings.mask_share * tokens,
                settings.frame_share * positions,
            )
        )
        return 3 * forward / frames

    def notes(self, parts: Parts) -> Iterable[str]:
        """What is read and hidden, what was cut, and what a control is."""
        settings, data, features = self.settings, parts.data, self.features(parts.data)
        lengths_C = data.corpus.parts[FRAMES].lengths_of(torch.arange(len(data.corpus)))
        cut = int((lengths_C > features.longest).sum())
        yield (
            f"frames normalised by {settings.normalisation}, deltas {features.deltas}, "
            f"{features.columns} values per position; {settings.chosen('spans')} spans of "
            f"{settings.shortest_ms:g} to {settings.longest_ms:g} ms, a fate per "
            f"{settings.chosen('fates')}"
            + (f"; {counted(cut, 'clip')} cut to {features.longest:,} frames" if cut else "")
        )
        if settings.recipe == "repository":
            yield (
                "the released code also hides from each frame all later ones, which the paper does "
                "not; that is not copied"
            )
        if settings.control != "real":
            yield "CONTROL: each clip has another one's text"
        short = int((lengths_C * _hop_ms(data) <= settings.shortest_ms).sum())
        if short:
            yield (
                f"clips without two segments of {settings.shortest_ms:g} ms, whose tokens alone "
                f"are predicted: {short:,}"
            )

    def comparable(self, parts: Parts) -> dict[str, Any]:
        """How its models stand to others."""
        module, settings = _module(parts), self.settings
        setup = {
            "tokenizer": tokenizer_sha256(_present(parts.data.tokenizer)),
            "layers": settings.layers,
            "width": module.text.width,
            "text": self._begun_from.encoder_sha256 if self._begun_from else "fresh",
        }
        return {
            "objective": self.name,
            "control": "shuffled" if settings.control != "real" else "real",
            "setup": setup,
            "teaching": {
                "mlm weight": settings.mlm_weight,
                "mcam weight": settings.mcam_weight,
                "cross": settings.cross,
            },
        }

    def record(self, parts: Parts) -> dict[str, Any]:
        """The model and what it reads."""
        module = _module(parts)
        return {
            "model": {
                "text": module.text.model.config.model_type,
                "text_parameters": sum(p.numel() for p in module.text.model.parameters()),
                "audio_parameters": sum(p.numel() for p in module.audio.parameters()),
                "vocabulary": len(_present(parts.data.tokenizer)),
                "audio": module.audio.config.record(),
            },
            "features": self.features(parts.data).record(),
        }

    def save(self, parts: Parts) -> Mapping[str, Callable[[Path], None]]:
        """`model/`: `text/` as Hugging Face has it, `audio/`, `features.json`."""
        module, features = _module(parts), self.features(parts.data)

        def fill(folder: Path) -> None:
            for name in (TEXT, AUDIO):
                (folder / name).mkdir()
            module.text.save(folder / TEXT)
            _present(parts.data.tokenizer).save_pretrained(folder / TEXT)
            save_audio(module.audio, folder / AUDIO)
            text = json.dumps(features.record(), indent=2)
            (folder / FEATURES).write_text(text + "\n", encoding="utf-8")

        return {MODEL: fill}

    def card(self, record: Mapping[str, Any]) -> CardWords:
        """What its card says."""
        return card_words(record)


def fresh_text(settings: CtalSettings, tokenizer: PreTrainedTokenizerBase) -> Student:
    """A RoBERTa with weights drawn from torch's generator, of the released code's library defaults.

    Its layer norms have BERT's epsilon; its attention drops nothing.
    """
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.width,
        max_position_embeddings=TEXT_POSITIONS,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Student(RobertaForMaskedLM(config), "the text stack")


def _module(parts: Parts) -> CtalPretraining:
    return cast(CtalPretraining, parts.module)


def _present(tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    if tokenizer is None:
        raise ValueError("CTAL reads texts")
    return tokenizer


def _hop_ms(data: Data) -> float:
    identity = data.caches[FRAMES].identity
    return 1000 * identity.hop_samples / identity.sample_rate_hz
