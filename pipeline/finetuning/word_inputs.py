"""Texts whose words are asked of: packed like any texts, and pooled word by word.

Shapes: N tokens, W words that are asked of, K tokens of such words, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.finetuning.inputs import TextInputs, unknown_of
from pipeline.finetuning.settings import Pooling, Recipe
from pipeline.finetuning.text_form import in_form
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted, say
from pipeline.models.lengths import to_device
from pipeline.models.loading import panics_as_errors
from pipeline.models.packing import encode_packed, most_tokens
from pipeline.tasks.word_labels import MarkedText

NOBODY = -1


@dataclass(frozen=True)
class WordInputs(TextInputs):
    """Texts as token ids, and which tokens are of which word that is asked of.

    Attributes:
        owners: for each token of a text the number of its word, among those of the text that are
            asked of; `NOBODY` for all other tokens.
        counts: how many words of each text are asked of.
    """

    owners: tuple[Array, ...] = ()
    counts: tuple[int, ...] = ()

    @classmethod
    def of_words(
        cls,
        texts: Sequence[MarkedText],
        recipe: Recipe,
        encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> "WordInputs":
        """Texts as an encoder reads them: in the recipe's form, cut to its longest length or the
        encoder's own. Words that lose all their tokens by that are counted and said.

        Raises:
            SpeechkdError: a text gives no token, or the tokenizer does not say which characters
                its tokens cover.
        """
        if not tokenizer.is_fast:
            raise SpeechkdError(
                f"the tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} does not say "
                "which characters its tokens cover, so no token can be given to a word. Name an "
                "encoder whose tokenizer the tokenizers library runs (a tokenizer.json)."
            )
        formed = [[in_form(word, recipe.text_form) for word in text.words] for text in texts]
        most = min(recipe.max_tokens, most_tokens(encoder) or recipe.max_tokens)
        lines = [" ".join(words) for words in formed]
        with panics_as_errors("the texts"):
            encoded = tokenizer(
                lines, return_offsets_mapping=True, truncation=True, max_length=most
            )
            whole = tokenizer(lines, verbose=False)["input_ids"]
        ids = tuple(np.asarray(row, np.int32) for row in encoded["input_ids"])
        empty = next((i for i, row in enumerate(ids) if not len(row)), None)
        if empty is not None:
            raise SpeechkdError(
                f"the tokenizer makes no token of the text {lines[empty]!r}; leave the row out, "
                "or use a tokenizer that adds special tokens."
            )
        owners = tuple(
            _owners(words, np.asarray(text.places, np.int64), np.asarray(offsets, np.int64))
            for words, text, offsets in zip(formed, texts, encoded["offset_mapping"], strict=True)
        )
        counts = tuple(len(text.places) for text in texts)
        unread = [
            count - len(np.unique(owner[owner != NOBODY]))
            for count, owner in zip(counts, owners, strict=True)
        ]
        if any(unread):
            say(
                f"{counted(sum(unread), 'word')} of {counted(sum(map(bool, unread)), 'text')} "
                f"have no token within --max-tokens {most} in --text-form {recipe.text_form}; "
                "they are answered unread"
            )
        truncated = sum(len(row) > len(own) for row, own in zip(whole, ids, strict=True))
        return cls(ids, truncated, unknown_of(tokenizer, lines, ids), owners, counts)

    def vectors(self, encoder: PreTrainedModel, places: Sequence[int], pooling: Pooling) -> Tensor:
        """A vector per word that is asked of `[W, D]`, text after text, from the last layer.

        It is the state of the word's first token with `cls`, or with `mean` the mean over all its
        tokens. A word without a token has zeros, so that a head answers it by its biases.
        """
        packed = self.packed(places).to(encoder.device)
        token_K, word_K, words = self._tokens(places, pooling)
        tokens_W = np.maximum(np.bincount(word_K, minlength=words), 1)
        hidden_ND = encode_packed(encoder, packed)
        token, word, tokens = (
            to_device(torch.from_numpy(x), hidden_ND.device) for x in (token_K, word_K, tokens_W)
        )
        sums_WD = hidden_ND.new_zeros(words, hidden_ND.shape[1])
        return sums_WD.index_add(0, word, hidden_ND[token]) / tokens[:, None]

    def _tokens(self, places: Sequence[int], pooling: Pooling) -> tuple[Array, Array, int]:
        """The packed tokens that make a word's vector, the word of each, and how many words."""
        counts = np.array([self.counts[place] for place in places], np.int64)
        first = np.repeat(np.cumsum(counts) - counts, [len(self.owners[p]) for p in places])
        owner_N = np.concatenate([self.owners[place] for place in places])
        token_K = np.flatnonzero(owner_N != NOBODY)
        word_K = owner_N[token_K] + first[token_K]
        if pooling == "cls":
            word_K, firsts = np.unique(word_K, return_index=True)
            token_K = token_K[firsts]
        return token_K, word_K, int(counts.sum())


def _owners(words: Sequence[str], asked: Array, offsets_N2: Array) -> Array:
    """The word `[N]` of each token, among those that are asked of.

    A token is of the first word that it covers a character of; special tokens cover none.
    """
    lengths = np.array([len(word) for word in words], np.int64)
    begins = np.cumsum(lengths + 1) - (lengths + 1)
    ends = begins + lengths
    starts_N, stops_N = offsets_N2.reshape(-1, 2).T
    # words that their form left empty end where they begin, so that no token reaches into them
    filled = np.flatnonzero(lengths)
    number_N = np.searchsorted(ends[filled], starts_N, side="right")
    inside_N = number_N < len(filled)
    word_N = np.full(len(starts_N), NOBODY, np.int64)
    word_N[inside_N] = filled[number_N[inside_N]]
    covers_N = inside_N & (stops_N > starts_N)
    covers_N[inside_N] &= stops_N[inside_N] > begins[word_N[inside_N]]
    number_of = np.full(len(words) + 1, NOBODY, np.int64)
    number_of[asked] = np.arange(len(asked))
    return np.asarray(np.where(covers_N, number_of[word_N], NOBODY), np.int64)
