"""Texts with their audio, as a WhisBERT model reads them: the model, its inputs, how it is loaded.

Source: Wolf et al. 2023, section 2.1, "Adapting to downstream tasks": a classifier reads the CLS
state of the audio encoder, of the text encoder, or of the fusion encoder.

Shapes: B examples of a batch, A audio states, N text states, D width of what is read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.finetuning.audio_text import SCRATCH, AudioTexts, FusionRecipe
from pipeline.finetuning.inputs import Loaded, TextInputs, WithTexts, device_of, mean_states
from pipeline.finetuning.patch_inputs import PatchClips, PatchInputs, open_hearing
from pipeline.finetuning.settings import Pooling
from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.models.encoders import describe, name_and_source, record_above, untrained_like
from pipeline.models.lengths import Movable
from pipeline.models.packing import (
    Packed,
    batches_by_length,
    encode_first_tokens,
    encode_packed,
)
from pipeline.models.student import load_encoder
from pipeline.models.whisbert.fusion import Fused, Fusion, Pairing
from pipeline.models.whisbert.loading import Hearing, load_fusion, load_hearing, whisbert_folder
from pipeline.models.whisbert.speech_encoder import SpeechEncoder

STUDENT = "student"
SCORED_PLACES = 8192
"""Tokens and patches that are scored at once."""


@dataclass(frozen=True)
class Pairs(Movable):
    """Some examples: their texts, their audio, or both.

    Attributes:
        text: None where audio alone is read.
        audio: None where text alone is read.
        pairing: where both sides' states stand in what is joined; None if nothing is.
    """

    text: Packed | None
    audio: PatchClips | None
    pairing: Pairing | None


class PairEncoder(nn.Module):
    """WhisBERT's encoders, as many as are read, and the vector of an example.

    | has                     | vector                                            |
    |-------------------------|---------------------------------------------------|
    | text, audio and fusion  | the fusion encoder's CLS                          |
    | text and audio          | the text's CLS beside the audio's                 |
    | text                    | the text's CLS                                    |
    | audio                   | the audio's CLS                                   |

    Args:
        text: the text encoder.
        speech: the audio encoder.
        fusion: the encoder of both.
        freeze: train none of them, and leave them without dropout.
        fresh: makes the same parts with other weights; draws them anew for each cell.
    """

    def __init__(
        self,
        text: PreTrainedModel | None,
        speech: SpeechEncoder | None,
        fusion: Fusion | None,
        *,
        freeze: bool,
        fresh: "Fresh | None" = None,
    ) -> None:
        super().__init__()
        self.text, self.speech, self.fusion = text, speech, fusion
        self.freeze, self.fresh = freeze, fresh
        if speech is not None:
            # nothing is hidden here, so nothing would train what stands for hidden patches
            speech.mask_D.requires_grad_(False)
        if freeze:
            self.requires_grad_(False)

    @property
    def width(self) -> int:
        """Width of an example's vector."""
        if self.fusion is not None:
            return self.fusion.width
        text = 0 if self.text is None else int(self.text.config.hidden_size)
        return text + (0 if self.speech is None else self.speech.width)

    def begin(self, generator: torch.Generator) -> None:
        """Draw all weights anew, if they are to be fresh."""
        if self.fresh is None:
            return
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            speech, fusion = self.fresh()
        if self.text is not None:
            self.text.load_state_dict(untrained_like(self.text, seed).state_dict())
        for mine, other in ((self.speech, speech), (self.fusion, fusion)):
            if mine is not None and other is not None:
                mine.load_state_dict(other.state_dict())

    def train(self, mode: bool = True) -> "PairEncoder":
        """Set training or evaluation; frozen encoders stay in evaluation."""
        super().train(mode and not self.freeze)
        self.training = mode
        return self

    def forward(self, pairs: Pairs) -> Tensor:
        """One vector per example `[B, D]`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            if self.fusion is not None:
                return self._fused(self.fusion, *self._states(pairs), pairs).cls_BD
            parts = []
            if self.text is not None and pairs.text is not None:
                parts.append(encode_first_tokens(self.text, pairs.text))
            if self.speech is not None and pairs.audio is not None:
                states_AD = self._heard(self.speech, pairs.audio)
                parts.append(states_AD.index_select(0, pairs.audio.places.outer.starts_B))
            return torch.cat(parts, dim=1)

    def means(self, pairs: Pairs) -> Tensor:
        """A vector of what is read before any training: the means of both sides, each as heavy.

        They are of fused states, or stand side by side.
        """
        text_ND, audio_AD = self._states(pairs)
        if self.fusion is not None:
            fused = self._fused(self.fusion, text_ND, audio_AD, pairs)
            text_ND, audio_AD = fused.text_ND, fused.audio_AD
        parts = []
        if text_ND is not None and pairs.text is not None:
            parts.append(mean_states(text_ND, pairs.text))
        if audio_AD is not None and pairs.audio is not None:
            patches_PD = audio_AD.index_select(0, pairs.audio.places.place_N)
            parts.append(mean_states(patches_PD, pairs.audio.places.inner))
        return torch.cat(parts, dim=1) if self.fusion is None else torch.stack(parts).mean(0)

    def _states(self, pairs: Pairs) -> tuple[Tensor | None, Tensor | None]:
        """States of the texts `[N, D]` and of the audio, CLS included, `[A, D]`."""
        text_ND = audio_AD = None
        if self.text is not None and pairs.text is not None:
            text_ND = encode_packed(self.text, pairs.text)
        if self.speech is not None and pairs.audio is not None:
            audio_AD = self._heard(self.speech, pairs.audio)
        return text_ND, audio_AD

    @staticmethod
    def _heard(speech: SpeechEncoder, audio: PatchClips) -> Tensor:
        states_AD: Tensor = speech(speech.patches(audio.frames), audio.places)
        return states_AD

    @staticmethod
    def _fused(
        fusion: Fusion, text_ND: Tensor | None, audio_AD: Tensor | None, pairs: Pairs
    ) -> Fused:
        if text_ND is None or audio_AD is None or pairs.text is None or pairs.audio is None:
            raise ValueError("only texts with their audio can be joined")
        sides = fusion.project(audio_AD, text_ND, pairs.audio.places.outer, pairs.text)
        fused: Fused = fusion(*sides, pairs.pairing)
        return fused


@dataclass(frozen=True)
class PairInputs(WithTexts):
    """Texts as token ids, with the frames of their clips.

    Attributes:
        texts: the tokens; None where audio alone is read.
        audio: the clips, whole; None where text alone is read.
        joined: whether the fusion encoder reads both.
    """

    audio: PatchInputs | None
    joined: bool

    def size(self, places: Sequence[int]) -> int:
        """Tokens and patches of some examples."""
        return sum(self._sizes(places))

    def _sizes(self, places: Sequence[int]) -> list[int]:
        tokens = [len(self.texts.ids[place]) if self.texts else 0 for place in places]
        patches = self.audio.lengths(places) if self.audio else [0] * len(places)
        return [one + other for one, other in zip(tokens, patches, strict=True)]

    def batches(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Group examples of like length, at most `SCORED_PLACES` tokens and patches per batch."""
        return batches_by_length(self._sizes(places), SCORED_PLACES)

    def pairs(self, places: Sequence[int]) -> Pairs:
        """Some examples as the encoder reads them, on the host."""
        text = audio = pairing = None
        if self.texts is not None:
            text = self.texts.packed(places)
        if self.audio is not None:
            audio = self.audio.clips(places)
        if self.joined and text is not None and audio is not None:
            pairing = Pairing.of(audio.places.outer, text)
        return Pairs(text, audio, pairing)

    def vectors(self, encoder: Any, places: Sequence[int], pooling: Pooling) -> Tensor:
        """One vector per example, by a `PairEncoder`, on its device."""
        pairs = self.pairs(places).to(device_of(encoder))
        vectors: Tensor = encoder.means(pairs) if pooling == "mean" else encoder(pairs)
        return vectors


@dataclass(frozen=True)
class Fresh:
    """Makes audio and fusion encoder anew, from torch's generator.

    Attributes:
        folder: `RUN/whisbert`, whose sizes they have.
        hears: whether there is an audio encoder.
        text_width: of the texts' states, if there is a fusion encoder.
    """

    folder: Path
    hears: bool
    text_width: int | None

    def __call__(self) -> tuple[SpeechEncoder | None, Fusion | None]:
        """Both encoders."""
        speech = load_hearing(self.folder, fresh=True).encoder if self.hears else None
        width = self.text_width
        return speech, None if width is None else load_fusion(self.folder, width, fresh=True)


def is_whisbert(argument: str) -> bool:
    """Whether a checkpoint, as a user wrote it, is a run of `pretrain whisbert`."""
    return _folder_of(argument) is not None


def _folder_of(argument: str) -> Path | None:
    return whisbert_folder(name_and_source(argument)[1].removeprefix(SCRATCH))


def load_audio_text(examples: AudioTexts, argument: str) -> Loaded:
    """Load a checkpoint that a user named, of CTAL or of WhisBERT, for `Grid.load`.

    Args:
        examples: what it is asked about.
        argument: a run of `pretrain ctal` or `pretrain whisbert`; `scratch:` before it draws all
            weights anew for each cell.

    Raises:
        SpeechkdError: it is no such model, has not what is to be read, or reads frames of another
            front end.
    """
    folder = _folder_of(argument)
    return examples.load(argument) if folder is None else _load_pairs(examples, argument, folder)


def _load_pairs(examples: AudioTexts, argument: str, folder: Path) -> Loaded:
    recipe, reader = examples.recipe, examples.reader
    _check_recipe(recipe, argument)
    fresh = name_and_source(argument)[1].startswith(SCRATCH)
    text = tokenizer = hearing = fusion = None
    if recipe.streams != "audio":
        text, tokenizer = _load_text(folder, argument)
    if recipe.streams != "text" and reader is not None:
        hearing = open_hearing(folder, reader.identity, reader.cache.location, fresh=False)
    joined = recipe.streams == "both" and recipe.joining == "cls"
    width = int(text.config.hidden_size) if joined and text is not None else None
    if width is not None:
        fusion = load_fusion(folder, width)
    encoder = PairEncoder(
        text,
        None if hearing is None else hearing.encoder,
        fusion,
        freeze=recipe.freeze,
        fresh=Fresh(folder, hearing is not None, width) if fresh else None,
    )
    known = describe(argument, {} if fresh else record_above(folder), encoder)
    return Loaded(
        known.under(SCRATCH) if fresh else known,
        encoder,
        partial(_inputs, examples, text, tokenizer, hearing, joined=joined),
    )


def _check_recipe(recipe: FusionRecipe, argument: str) -> None:
    """Refuse what only CTAL's fusion has.

    Raises:
        SpeechkdError: something of the kind is asked.
    """
    if recipe.streams == "both" and recipe.joining == "sum":
        raise SpeechkdError(
            f"--fusion sum is CTAL's, and {argument} is a WhisBERT model; use --fusion cls (its "
            "fusion encoder) or concat (both CLS states side by side)."
        )
    if recipe.fusion_head != "paper":
        raise SpeechkdError(
            f"--fusion-head {recipe.fusion_head} is CTAL's, and {argument} is a WhisBERT model; "
            "leave it out."
        )


def _load_text(folder: Path, argument: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The text encoder of the run that a folder `whisbert/` is of."""
    student = folder.parent / STUDENT
    if not student.is_dir():
        raise NotThere(
            f"--checkpoint {argument}: there is no {student}, which holds the text encoder. Name "
            "the run's folder as `speechkd pretrain whisbert` left it, or use --streams audio."
        )
    return load_encoder(str(student))


def _inputs(
    examples: AudioTexts,
    text: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    hearing: Hearing | None,
    *,
    joined: bool,
) -> PairInputs:
    texts = audio = None
    if text is not None and tokenizer is not None:
        texts = TextInputs.of(
            examples.texts, replace(examples.recipe, pooling="cls"), text, tokenizer
        )
    if hearing is not None and examples.reader is not None:
        place_n = torch.tensor(examples.reader.clips.places(examples.keys), dtype=torch.int64)
        audio = PatchInputs(examples.reader, place_n, hearing.per_patch, "cls")
    return PairInputs(texts, audio, joined)
