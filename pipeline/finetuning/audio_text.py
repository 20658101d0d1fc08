"""Texts with their audio, as a CTAL model reads them: the model, its inputs, and how it is loaded.

Shapes: B examples of a batch, T tokens, P positions of audio, D width of both stacks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.cache.sequences import SequenceReader
from pipeline.corpus.ctal_model import CtalModel, load_ctal
from pipeline.corpus.frame_features import FrameFeatures
from pipeline.finetuning.fusion import Fusion, FusionHead, Joining, Streams
from pipeline.finetuning.inputs import Loaded, TextInputs, WithTexts, device_of, mean_states
from pipeline.finetuning.settings import Pooling, Recipe
from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.foundation.progress import say
from pipeline.models.encoders import describe, name_and_source, run_record
from pipeline.models.lengths import Lengths
from pipeline.models.packing import Packed, batches_by_length, encode_packed
from pipeline.models.text_referred import AudioStack

SCRATCH = "scratch:"
"""Before the name of a run: its model with all weights drawn anew, cell by cell."""
SCORED_PLACES = 8192
"""Tokens and positions that are scored at once."""


@dataclass(frozen=True, kw_only=True)
class FusionRecipe(Recipe):
    """A recipe, and how both streams become one vector."""

    streams: Streams
    joining: Joining
    fusion_head: FusionHead
    orthogonal: float
    freeze: bool


class AudioTextEncoder(nn.Module):
    """CTAL's two stacks, and the fusion of what they give.

    Args:
        text: the text encoder.
        audio: the audio stack; None where text alone is read.
        fusion: the pooling; drawn for each cell.
        orthogonal: λ, weight of the penalty.
        freeze: leave both stacks as they are, without dropout.
        fresh: draw both stacks for each cell, too.

    Attributes:
        penalty: what the latest batch adds to the loss; None for nothing.
    """

    penalty: Tensor | None = None

    def __init__(
        self,
        text: PreTrainedModel,
        audio: AudioStack | None,
        fusion: Fusion,
        *,
        orthogonal: float,
        freeze: bool,
        fresh: bool,
    ) -> None:
        super().__init__()
        self.text, self.audio, self.fusion = text, audio, fusion
        self.orthogonal, self.freeze, self.fresh = orthogonal, freeze, fresh
        if freeze:
            for stack in (text, audio):
                if stack is not None:
                    stack.requires_grad_(False)

    @property
    def width(self) -> int:
        """Twice the width of the stacks."""
        return 2 * self.fusion.width

    def begin(self, generator: torch.Generator) -> None:
        """Draw the fusion, and the stacks if they are to be fresh."""
        if self.fresh:
            for stack in (self.text, self.audio):
                if stack is not None:
                    draw_anew(stack, generator)
        self.fusion.begin(generator)

    def train(self, mode: bool = True) -> "AudioTextEncoder":
        """Set training or evaluation; frozen stacks stay in evaluation."""
        super().train(mode)
        if self.freeze:
            self.text.eval()
            if self.audio is not None:
                self.audio.eval()
        return self

    def states(self, batch: "AudioTextBatch") -> tuple[Tensor, Tensor | None]:
        """Final states of the tokens `[T, D]` and of the positions of audio `[P, D]`."""
        text = batch.text
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            text_TD = encode_packed(self.text, text)
            if self.audio is None or batch.audio is None or batch.values_PC is None:
                return text_TD, None
            return text_TD, self.audio(batch.values_PC, batch.audio, text_TD, text)

    def forward(self, batch: "AudioTextBatch") -> Tensor:
        """One vector per example `[B, 2 D]`; `penalty` is set."""
        text_TD, audio_PD = self.states(batch)
        vectors_BD: Tensor
        vectors_BD, orthogonality = self.fusion(text_TD, batch.text, audio_PD, batch.audio)
        self.penalty = self.orthogonal * orthogonality if self.orthogonal else None
        return vectors_BD

    def means(self, batch: "AudioTextBatch") -> Tensor:
        """Means of the states that are pooled, side by side, before any training."""
        text_TD, audio_PD = self.states(batch)
        parts = [mean_states(text_TD, batch.text)] if self.fusion.streams != "audio" else []
        if audio_PD is not None and batch.audio is not None and self.fusion.streams != "text":
            parts.append(mean_states(audio_PD, batch.audio))
        # one stream stands twice, so that the width is that of any vector
        return torch.cat(parts if len(parts) == 2 else parts * 2, dim=1)


def draw_anew(stack: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights of a stack: N(0, 0.02); biases 0, and layer norms as they begin."""
    for module in stack.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()


@dataclass(frozen=True)
class AudioTextBatch:
    """Some examples.

    Attributes:
        text: their tokens.
        values_PC: what is read of their audio; None where text alone is read.
        audio: positions of each clip.
    """

    text: Packed
    values_PC: Tensor | None
    audio: Lengths | None


@dataclass(frozen=True)
class Audio:
    """Where the audio of examples is.

    Attributes:
        reader: reads rows of a cache.
        clip_n: which clip of the reader each example is.
        features: how a model reads them.
    """

    reader: SequenceReader
    clip_n: Sequence[int]
    features: FrameFeatures

    def positions(self, place: int) -> int:
        """Positions of an example, as the model reads it."""
        frames = min(int(self.reader.clips.rows[self.clip_n[place]]), self.features.longest)
        return -(-frames // self.features.stack)

    @property
    def cut(self) -> int:
        """How many clips lose their end to the longest that the model was trained on."""
        rows = self.reader.clips.rows[np.asarray(self.clip_n, np.int64)]
        return int((rows > self.features.longest).sum())

    def read(self, places: Sequence[int]) -> tuple[Tensor, Lengths]:
        """What is read of some examples, in this machine's memory."""
        clips = [self.clip_n[place] for place in places]
        counts_B = torch.from_numpy(self.reader.clips.rows[clips]).long()
        return self.features.packed(self.reader.values(clips).float(), counts_B)


@dataclass(frozen=True)
class AudioTextInputs(WithTexts):
    """Texts as token ids, with the frames of their clips.

    Attributes:
        texts: the tokens.
        audio: the frames; None where text alone is read. What is cut of them is said when they are
            loaded.
    """

    texts: TextInputs
    audio: Audio | None

    def size(self, places: Sequence[int]) -> int:
        """Tokens and positions of some examples."""
        return sum(self._sizes(places))

    def _sizes(self, places: Sequence[int]) -> list[int]:
        audio = self.audio.positions if self.audio else lambda _: 0
        return [len(self.texts.ids[place]) + audio(place) for place in places]

    def batches(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Group examples of like length, at most `SCORED_PLACES` tokens and positions per batch."""
        return batches_by_length(self._sizes(places), SCORED_PLACES)

    def vectors(self, encoder: AudioTextEncoder, places: Sequence[int], pooling: Pooling) -> Tensor:
        """One vector per example, on the encoder's device."""
        device = device_of(encoder)
        text = self.texts.packed(places).to(device)
        values_PC, audio = None, None
        if self.audio is not None:
            values_PC, audio = self.audio.read(places)
            values_PC, audio = values_PC.to(device), audio.to(device)
        batch = AudioTextBatch(text, values_PC, audio)
        vectors: Tensor = encoder.means(batch) if pooling == "mean" else encoder(batch)
        return vectors


@dataclass(frozen=True)
class AudioTexts:
    """Examples that CTAL models are asked about.

    Attributes:
        texts: of the examples.
        keys: of their clips in the cache.
        reader: of the cache; None where text alone is read.
        recipe: decides streams, fusion, and the form of texts and their longest length.
    """

    texts: Sequence[str]
    keys: Sequence[str]
    reader: SequenceReader | None
    recipe: FusionRecipe

    def load(self, argument: str) -> Loaded:
        """Load a checkpoint that a user named, for `Grid.load`.

        Args:
            argument: a run of `pretrain ctal` or its `model/`; `scratch:` before it draws all
                weights anew for each cell (the paper's "without pre-training").

        Raises:
            SpeechkdError: it is no such model, or reads frames of another front end.
        """
        source = name_and_source(argument)[1]
        fresh, recipe = source.startswith(SCRATCH), self.recipe
        if recipe.streams == "both" and recipe.joining == "cls":
            raise SpeechkdError(
                f"--fusion cls is WhisBERT's, and {argument} is no run of `speechkd pretrain "
                "whisbert`; use --fusion sum or concat. Beside runs of whisbert auto is cls too, "
                "and concat is what both have."
            )
        folder = Path(source.removeprefix(SCRATCH))
        run: Mapping[str, Any] = {}
        if (folder / "run.json").is_file():
            run = run_record(folder / "run.json")
            folder = folder / "model"
        elif not folder.exists():
            raise NotThere(f"--checkpoint {argument}: there is no folder {folder}.")
        model = load_ctal(folder)
        if self.reader is not None:
            model.features.check(self.reader.identity, self.reader.cache.location)
        stacks = nn.ModuleDict({"text": model.text, "audio": model.audio})
        known = replace(
            describe(argument, {} if fresh else run, stacks), weights_sha256=model.sha256
        )
        encoder = AudioTextEncoder(
            model.text,
            model.audio if recipe.streams != "text" else None,
            Fusion(model.audio.config.width, recipe.streams, recipe.joining, recipe.fusion_head),
            orthogonal=recipe.orthogonal if recipe.streams == "both" else 0.0,
            freeze=recipe.freeze,
            fresh=fresh,
        )
        return Loaded(
            known.under(SCRATCH) if fresh else known, encoder, partial(self._inputs, model)
        )

    def _inputs(self, model: CtalModel) -> AudioTextInputs:
        # neither the first token nor the mean stands for a text here
        plain = replace(self.recipe, pooling="mean")
        inputs = TextInputs.of(self.texts, plain, model.text, model.tokenizer)
        if self.reader is None or self.recipe.streams == "text":
            return AudioTextInputs(inputs, None)
        clips = self.reader.clips.places(self.keys)
        audio = Audio(self.reader, clips, model.features)
        if audio.cut:
            say(
                f"WARNING: {audio.cut:,} of {len(clips):,} clips are longer than any the model "
                f"was trained on and are cut to {model.features.longest:,} frames"
            )
        return AudioTextInputs(inputs, audio)
