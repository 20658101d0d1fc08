"""Step 4 of SPLAT: a speech module is aligned to the cached states of a frozen text encoder."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from pipeline.cache.identity import Kind
from pipeline.cache.store import TeacherCache
from pipeline.corpus.frame_statistics import open_frames
from pipeline.corpus.row_batches import RowBatch
from pipeline.corpus.row_corpus import RowCorpus
from pipeline.corpus.rows import Sequences
from pipeline.corpus.speech import BASE, FRESH, open_speech, speech_folder
from pipeline.foundation.hashing import json_sha256
from pipeline.foundation.progress import counted
from pipeline.models.encoders import weights_sha256
from pipeline.models.speech import load_speech, means
from pipeline.models.speech_front import SpeechFront
from pipeline.pretraining.data import joined
from pipeline.pretraining.method import Data, Method, Parts
from pipeline.pretraining.splat import card, costs
from pipeline.pretraining.splat.alignment import TEXT, Alignment, AlignReading
from pipeline.pretraining.splat.export import save_speech
from pipeline.pretraining.splat.filling import Filling
from pipeline.pretraining.splat.geometry import geometry
from pipeline.pretraining.splat.masked_audio import FRAME_KINDS, frames_part
from pipeline.pretraining.splat.masking import FrameMasking
from pipeline.pretraining.splat.reading import FRAMES, SpeechReading
from pipeline.pretraining.splat.settings import SplatSettings
from pipeline.pretraining.splat.texts import (
    TextVectors,
    TokenWeights,
    cut_texts,
    text_numbers,
    text_vectors,
)
from pipeline.pretraining.splat.words import LESS_MEMORY, WORDS
from pipeline.training.card import CardWords

JUDGED_CLIPS = 2000
"""Held-out clips whose vectors are compared with each other; K² cosines are computed."""
TEXT_KINDS: tuple[Kind, ...] = ("text",)
T = TypeVar("T")


class Splat(Method[SplatSettings]):
    """Alignment by sequence or token: the paper's Seq, Seq-MLM, Tok and Tok-MLM."""

    name = "splat"
    folders = ("speech",)
    counted = FRAMES
    words = WORDS
    less_memory = LESS_MEMORY
    next_command = (
        "speechkd finetune audio LABELS --cache {cache} --checkpoint {out} --label-column LABEL "
        "--out RESULTS"
    )

    def __init__(self, settings: SplatSettings) -> None:
        super().__init__(settings)
        self.best_by = "loss/align" if settings.selection == "best" else ""  # type: ignore[misc]
        self.front: SpeechFront | None = None
        self.text: TextSide | None = None

    def caches(self) -> dict[str, TeacherCache]:
        """The frames and the text states."""
        return {
            FRAMES: TeacherCache.open(self.settings.frames, kinds=FRAME_KINDS),
            TEXT: TeacherCache.open(self.settings.text, kinds=TEXT_KINDS),
        }

    def identity(self) -> dict[str, Any]:
        """The weights that it starts from."""
        init = self.settings.init
        if init == f"{FRESH}{BASE}":
            return {}
        module, front = load_speech(speech_folder(init.removeprefix(FRESH)))
        return {"init_sha256": weights_sha256(module), "init_front": json_sha256(front.record())}

    def corpus(
        self, caches: Mapping[str, TeacherCache], tokenizer: PreTrainedTokenizerBase | None
    ) -> RowCorpus:
        """The clips that both caches have; what is aligned to is read from the second one."""
        controls = {TEXT: self.settings.control}
        return joined(self.settings, caches, controls=controls, tokenizer=tokenizer)

    def module(self, data: Data) -> nn.Module:
        """The module that it starts from, and a head."""
        settings, cache = self.settings, data.caches[FRAMES]
        part = frames_part(data)
        speech, self.front = open_speech(settings.init, cache, part.reader, settings.prepared)
        self.text = text_side(settings, data)
        filling = None
        if settings.keep_masked_audio:
            filling = Filling(speech, self.front.channels, self.front.stack, settings.reconstruct)
        width = data.caches[TEXT].identity.width
        vectors = self.text.vectors
        return Alignment(
            speech,
            settings.align,
            settings.projection,
            text_width=width,
            median_E=vectors.median_E if vectors else torch.zeros(width),
            temperature=settings.temperature,
            filling=filling,
            filling_weight=settings.keep_masked_audio,
        )

    def maker(self, data: Data) -> Callable[[RowBatch], Any]:
        """Frames and texts, ready."""
        settings, front, text = self.settings, _present(self.front), _present(self.text)
        part = frames_part(data)
        frames = open_frames(data.caches[FRAMES], part.reader, front, settings.prepared)
        masking = None
        if settings.keep_masked_audio:
            masking = FrameMasking(
                settings.mask_starts,
                settings.mask_span,
                settings.mask_channels,
                settings.channel_band,
            )
        speech = SpeechReading.of(part, frames, front, masking)
        return AlignReading(
            speech=speech,
            vectors=text.vectors,
            part=text.part,
            weights=text.weights,
            text_C=text.text_C,
            whole_C=text.whole_C,
            among_all=settings.align == "tok-contrast",
        )

    def size(self, batch: Any) -> int:
        """Frames of the whole batch."""
        return int(batch.frames)

    def step_bytes(self, parts: Parts) -> int:
        """Upper bound of what a step holds."""
        by_token = self.settings.align != "seq"
        width = parts.data.caches[TEXT].identity.width if by_token else 0
        front = _present(self.front)
        fills = bool(self.settings.keep_masked_audio)
        return costs.step_bytes(parts, self._config(parts), front, self._passes, width, fills)

    def flops(self, parts: Parts) -> float:
        """Per frame, forward and backward."""
        return costs.flops_per_frame(parts, self._config(parts), _present(self.front), self._passes)

    @property
    def _passes(self) -> int:
        return 2 if self.settings.keep_masked_audio else 1

    @staticmethod
    def _config(parts: Parts) -> Any:
        return _speech(parts).encoder.config

    def notes(self, parts: Parts) -> Iterable[str]:
        """What is aligned to what, and what must be known of it."""
        settings, text = self.settings, _present(self.text)
        teacher = parts.data.caches[TEXT].identity
        yield (
            f"aligned by {settings.align} to the states of {teacher.text('teacher')}, layer "
            f"{teacher.text('layer')}; starts from {settings.init}"
        )
        if text.weights:
            weights = text.weights
            yield (
                f"token weights {settings.token_weights} over {weights.documents:,} texts; "
                f"{weights.even:,} of them have no weight of their own and take all tokens alike"
            )
            if cut := int((~text.whole_C).sum()):
                yield f"{counted(cut, 'text')} left out: cut when encoded"
        if settings.align == "tok":
            yield (
                "NOTE: tok as printed asks that each token has a frame near it, not that frames "
                "are near to nothing else. match/other above match/other_true says that frames "
                "hedge; tok-contrast does not allow it"
            )
        if settings.align != "seq":
            yield (
                "NOTE: tok asks nothing of the vector of the whole clip, so fine-tune with "
                "--pooling attention"
            )
        if settings.is_control:
            yield f"CONTROL: the text states are {settings.control}"

    def comparable(self, parts: Parts) -> dict[str, Any]:
        """A run shares its setup with its controls, and its teaching with them alone."""
        own = self.settings.identity()
        setup = {n: own[n] for n in ("learning_rate", "weight_decay", "held_out", "hold_out_by")}
        left_out = {"control", "seed", *setup}
        teaching = {
            n: v for n, v in own.items() if n not in left_out | self.settings.without_effect()
        }
        text = parts.data.caches[TEXT].identity
        return {
            "objective": f"splat-{self.settings.align}",
            "control": self.settings.control,
            "setup": {**setup, **self.identity()},
            "teaching": {**teaching, "teacher": text.text("teacher")},
        }

    def record(self, parts: Parts) -> dict[str, Any]:
        """The module's size, its front end, and the weights of tokens."""
        weights = _present(self.text).weights
        tokens = (
            {"documents": weights.documents, "even": weights.even, "sha256": weights.sha256()}
            if weights
            else None
        )
        speech = card.speech_record(_speech(parts), _present(self.front))
        return {"speech": speech, "token_weights": tokens}

    @torch.no_grad()
    def outcome(self, parts: Parts) -> dict[str, Any]:
        """How alike vectors of held-out clips are, in speech and in text (the paper's Table 4)."""
        module, corpus = _speech(parts).eval(), parts.data.corpus
        clip_K = corpus.held_out[:JUDGED_CLIPS]
        if len(clip_K) < 2:
            return {}
        make = self.maker(parts.data)
        batches = replace(parts.batches, processes=1, process=0)
        pieces = torch.split(clip_K, parts.batches.clips_per_batch)
        own = self._own_texts(parts.data)
        speech, text = [], []
        for place, clip_B in enumerate(pieces):
            batch = make(batches.make(clip_B, "judged", 0, place)).to(parts.device)
            speech.append(module(batch.speech.clips).vector_BD.float().cpu())
            text.append(self._text_vectors(own, clip_B))
        texts = [corpus.texts[clip] for clip in clip_K.tolist()]
        return {"geometry": geometry(torch.cat(speech), torch.cat(text), texts)}

    @staticmethod
    def _own_texts(data: Data) -> Sequences:
        """The states of each clip's own text, whatever a control gave it: they say what is near."""
        part = cast(Sequences, data.corpus.parts[TEXT])
        place_C = torch.tensor(part.reader.clips.places(data.corpus.keys), dtype=torch.int64)
        return replace(part, place_C=place_C, noise_seed=None)

    def _text_vectors(self, own: Sequences, clip_B: torch.Tensor) -> torch.Tensor:
        """The vectors of clips' texts as cached."""
        rows = own.of(clip_B)
        if self.settings.text_vector == "mean" or self.settings.align != "seq":
            return means(rows.values_NW, rows)
        return rows.values_NW[rows.starts_B]

    def save(self, parts: Parts) -> Mapping[str, Callable[[Path], None]]:
        """The speech module without its head."""
        front = _present(self.front)
        return {"speech": lambda folder: save_speech(_speech(parts), front, folder)}

    def card(self, record: Mapping[str, Any]) -> CardWords:
        """What its card says."""
        return card.splat_card(record)


@dataclass(frozen=True)
class TextSide:
    """What clips are aligned to.

    Attributes:
        vectors: of whole texts, for `seq`.
        part: states of tokens, for the others.
        weights: of tokens, for the others.
        text_C: number of the text that each clip is aligned to; equal texts have the same one.
        whole_C: whether that text was not cut.
    """

    vectors: TextVectors | None
    part: Sequences | None
    weights: TokenWeights | None
    text_C: Tensor
    whole_C: Tensor


def text_side(settings: SplatSettings, data: Data) -> TextSide:
    """Read what the alignment needs of the texts."""
    cache, corpus = data.caches[TEXT], data.corpus
    part = corpus.parts[TEXT]
    if not isinstance(part, Sequences):
        raise TypeError(f"{type(part).__name__} holds no states of texts")
    text_C = text_numbers([part.reader.clips.text[place] for place in part.place_C.tolist()])
    whole_C = ~cut_texts(cache)[part.place_C]
    if settings.align != "seq":
        weights = TokenWeights.of(part, corpus.train, settings.token_weights)
        return TextSide(None, part, weights, text_C, whole_C)
    vectors = text_vectors(
        cache,
        part,
        corpus.train,
        settings.text_vector,
        standardize=settings.text_side == "standardize",
        folder=settings.prepared,
    )
    return TextSide(vectors, None, None, text_C, whole_C)


def _speech(parts: Parts) -> Any:
    return parts.module.speech


def _present(part: T | None) -> T:
    """A part that `module` has made, which comes before all that asks for it."""
    if part is None:
        raise RuntimeError("the module is not made yet")
    return part
