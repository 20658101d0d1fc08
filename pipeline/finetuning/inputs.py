"""What a classifier reads: examples, each of which an encoder turns into one vector or several.

`Inputs` is all that training and scoring know of them, so that another kind of example needs
another class and no other change: texts as wholes are here, their words in `word_inputs`, clips of
speech in `audio_inputs`.

Shapes: N tokens, B examples of a batch, D width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.finetuning.settings import Pooling, Recipe
from pipeline.finetuning.text_form import in_form
from pipeline.foundation.arrays import Array
from pipeline.foundation.devices import one_thread
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.encoders import load_pretrained
from pipeline.models.lengths import Lengths
from pipeline.models.loading import panics_as_errors
from pipeline.models.packing import (
    Packed,
    batches_by_length,
    encode_first_tokens,
    encode_packed,
    most_tokens,
    pack,
)
from pipeline.models.pretrained import Pretrained
from pipeline.models.texts import composed
from pipeline.models.unknown import Unknown, UnknownCounter

SCORED_TOKENS_PER_BATCH = 4096


class Inputs(Protocol):
    """Examples as one encoder reads them; a place is the number of an example, from 0."""

    @property
    def truncated(self) -> int:
        """How many examples lost their end to the longest length allowed."""

    @property
    def unknown(self) -> Unknown | None:
        """What the tokenizer does not know of the examples' texts; None if they have none."""

    def size(self, places: Sequence[int]) -> int:
        """How much some examples give the encoder to read, in tokens."""

    def batches(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Group examples of like size, as many as can be scored at once.

        Yields:
            Indices into `places`, one list per batch.
        """

    def vectors(self, encoder: Any, places: Sequence[int], pooling: Pooling) -> Tensor:
        """One vector per answer `[B, D]`, example after example, on the encoder's device; of texts
        that are asked of as wholes, one per text.
        """


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that is to be fine-tuned.

    Attributes:
        checkpoint: what is known about it.
        encoder: its module, which each cell copies. It has a `width`, or Hugging Face's
            configuration.
        inputs: makes the examples ready for it.
    """

    checkpoint: Pretrained
    encoder: nn.Module
    inputs: Callable[[], Inputs]


def width_of(encoder: Any) -> int:
    """Width of the vectors that an encoder gives."""
    return int(encoder.width if hasattr(encoder, "width") else encoder.config.hidden_size)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights are."""
    return next(module.parameters()).device


@dataclass(frozen=True)
class TextInputs:
    """Texts as token ids, packed end to end for the encoder and pooled one by one.

    Attributes:
        ids: int32 token ids of each text, special tokens included.
        truncated: how many texts lost tokens to the longest length allowed.
        unknown: what the tokenizer does not know of the texts.
    """

    ids: tuple[Array, ...]
    truncated: int
    unknown: Unknown | None = None

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        recipe: Recipe,
        encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> "TextInputs":
        """Texts as an encoder reads them: composed, in the recipe's form, cut to its longest
        length or the encoder's own.

        Raises:
            SpeechkdError: a text gives no token, or its first token cannot stand for it.
        """
        most = most_tokens(encoder) or recipe.max_tokens
        formed = [in_form(composed(text), recipe.text_form) for text in texts]
        inputs = tokenize(tokenizer, formed, min(recipe.max_tokens, most))
        check_pooling(inputs, tokenizer, recipe)
        return inputs

    def size(self, places: Sequence[int]) -> int:
        """How many tokens some texts have."""
        return sum(len(self.ids[place]) for place in places)

    def batches(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Group texts of like length, at most `SCORED_TOKENS_PER_BATCH` tokens per batch."""
        lengths = [len(self.ids[place]) for place in places]
        return batches_by_length(lengths, SCORED_TOKENS_PER_BATCH)

    @one_thread()
    def packed(self, places: Sequence[int]) -> Packed:
        """The tokens of some texts end to end, on the host."""
        rows = [self.ids[place] for place in places]
        lengths_B = torch.tensor([len(row) for row in rows])
        return pack(torch.from_numpy(np.concatenate(rows)), lengths_B)

    def vectors(self, encoder: PreTrainedModel, places: Sequence[int], pooling: Pooling) -> Tensor:
        """Each text's first hidden state, or the mean of all, from the last layer: `[B, D]`."""
        packed = self.packed(places).to(encoder.device)
        if pooling == "cls":
            return encode_first_tokens(encoder, packed)
        if pooling != "mean":
            raise ValueError(f"texts have no pooling {pooling}")
        return mean_states(encode_packed(encoder, packed), packed)


@dataclass(frozen=True)
class WithTexts:
    """What inputs tell whose texts stand beside audio.

    Attributes:
        texts: the tokens; None where audio alone is read.
    """

    texts: TextInputs | None

    @property
    def truncated(self) -> int:
        """How many examples lost the end of their text to the longest length allowed."""
        return self.texts.truncated if self.texts else 0

    @property
    def unknown(self) -> Unknown | None:
        """What the tokenizer does not know of the texts; None where they are not read."""
        return self.texts.unknown if self.texts else None


def load_text(
    inputs_for: Callable[[PreTrainedModel, PreTrainedTokenizerBase], Inputs], checkpoint: str
) -> Loaded:
    """A text encoder, and texts as it reads them.

    Args:
        inputs_for: makes the texts ready for an encoder and its tokenizer.
        checkpoint: as a user wrote it.

    Raises:
        SpeechkdError: it cannot be loaded.
    """
    known, encoder, tokenizer = load_pretrained(checkpoint)
    return Loaded(known, encoder, lambda: inputs_for(encoder, tokenizer))


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
) -> TextInputs:
    """Token ids of each text with the tokenizer's own special tokens, at most `max_tokens` each.

    Raises:
        SpeechkdError: a text gives no token at all.
    """
    with panics_as_errors("the texts"):
        ids: list[list[int]] = tokenizer(list(texts), verbose=False)["input_ids"]
    long = [i for i, row in enumerate(ids) if len(row) > max_tokens]
    if long:
        cut = tokenizer([texts[i] for i in long], truncation=True, max_length=max_tokens)
        for i, row in zip(long, cut["input_ids"], strict=True):
            ids[i] = row
    empty = next((i for i, row in enumerate(ids) if not row), None)
    if empty is not None:
        raise SpeechkdError(
            f"the tokenizer makes no token of the text {texts[empty]!r}; leave the clip out, or "
            "use a tokenizer that adds special tokens."
        )
    rows = tuple(np.asarray(row, np.int32) for row in ids)
    return TextInputs(rows, len(long), unknown_of(tokenizer, texts, rows))


def unknown_of(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], rows: Sequence[Array]
) -> Unknown:
    """What a tokenizer does not know of texts, given their token ids."""
    counter = UnknownCounter(tokenizer)
    if rows:
        special = tokenizer.num_special_tokens_to_add()
        lengths_B = np.array([len(row) for row in rows], np.int64)
        counter.add(texts, np.concatenate(rows), lengths_B, special)
    return counter.result()


def check_pooling(inputs: TextInputs, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> None:
    """Refuse to take the first token for the whole text if it is a word of the text.

    Raises:
        SpeechkdError: pooling is `cls` and the tokenizer puts no token of its own in front.
    """
    if recipe.pooling == "cls" and any(
        row[0] not in tokenizer.all_special_ids for row in inputs.ids
    ):
        raise SpeechkdError(
            "--pooling cls takes the vector of the first token, but this tokenizer puts no "
            "special token in front of a text; use --pooling mean."
        )


def mean_states(hidden_ND: Tensor, packed: Lengths) -> Tensor:
    """Mean `[B, D]` of the hidden states of each sequence."""
    sums_BD = hidden_ND.new_zeros(len(packed.lengths_B), hidden_ND.shape[1])
    return sums_BD.index_add(0, packed.sequence_N, hidden_ND) / packed.lengths_B[:, None]
