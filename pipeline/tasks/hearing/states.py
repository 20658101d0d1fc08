"""What an encoder makes of texts: one vector per clip, and one per word, from its last layer.

Shapes: C clips, W words that are asked of, N tokens of a batch, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.corpus.tokenization import Encoding
from pipeline.corpus.word_spans import NOBODY, word_of_tokens
from pipeline.foundation.arrays import Array
from pipeline.models.lengths import to_device
from pipeline.models.packing import batches_by_length, encode_packed, pack
from pipeline.tasks.hearing.words import Spoken, Words

TOKENS_PER_BATCH = 4096

Pooling = Literal["mean", "cls"]
WordTokens = Literal["first", "mean"]


@dataclass(frozen=True)
class TokensOfWord:
    """Which tokens of a text are a word: the first, special tokens counted, and how many."""

    first: int
    count: int


@dataclass(frozen=True)
class TokenizedTexts:
    """Texts as one encoder reads them.

    Attributes:
        ids_N: token ids of all texts, end to end.
        lengths_C: tokens of each text, special ones included.
        prefix: how many special tokens stand before a text.
        suffix: how many stand behind it.
        words_C: per text, the tokens of each of its words that are whole, by the word's number;
            empty where no words are asked of.
        truncated: how many texts were cut.
    """

    ids_N: Array
    lengths_C: Array
    prefix: int
    suffix: int
    words_C: list[dict[int, TokensOfWord]]
    truncated: int

    @property
    def silent_C(self) -> Array:
        """Whether a text has no token but special ones."""
        return np.asarray(self.lengths_C <= self.prefix + self.suffix)


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_tokens: int,
    spoken: Sequence[Spoken] | None = None,
) -> TokenizedTexts:
    """Texts as token ids, cut to the longest length allowed.

    Args:
        tokenizer: the encoder's.
        texts: the texts.
        max_tokens: of the longest, special tokens included.
        spoken: the words of each text; None if none are asked of.

    Raises:
        SpeechkdError: words are asked of, and the tokenizer does not say which characters its
            tokens cover.
    """
    encode = Encoding(tokenizer, max_tokens, masks=False)
    tokens = encode(texts)
    words_C: list[dict[int, TokensOfWord]] = [{} for _ in texts]
    if spoken is not None:
        words_C = [
            _words_of(one, span_N2, len(encode.prefix), encode.room)
            for one, span_N2 in zip(spoken, encode.spans(texts), strict=True)
        ]
    return TokenizedTexts(
        tokens.ids_N,
        tokens.lengths_B,
        len(encode.prefix),
        len(encode.suffix),
        words_C,
        tokens.truncated,
    )


def _words_of(spoken: Spoken, span_N2: Array, prefix: int, room: int) -> dict[int, TokensOfWord]:
    if spoken.owner_X is None:
        return {}
    word_N = word_of_tokens(spoken.owner_X, span_N2[:, 0], span_N2[:, 1])
    token_T = np.flatnonzero(word_N != NOBODY)
    number_V, first_V, count_V = np.unique(word_N[token_T], return_index=True, return_counts=True)
    last_V = token_T[first_V + count_V - 1]
    return {
        number: TokensOfWord(int(token_T[first]) + prefix, last - int(token_T[first]) + 1)
        for number, first, last in zip(
            number_V.tolist(), first_V.tolist(), last_V.tolist(), strict=True
        )
        if last < room
    }


@torch.inference_mode()
def encode(
    encoder: PreTrainedModel,
    texts: TokenizedTexts,
    words: Words | None,
    pooling: Pooling,
    word_tokens: WordTokens,
    advance: Callable[[int], None] = lambda _texts: None,
) -> tuple[Array, Array]:
    """Vectors of clips `[C, D]` and of words `[W, D]`, float32, by the encoder as it is.

    Args:
        encoder: on the device to run on.
        texts: as it reads them.
        words: those that are asked of; None for none.
        pooling: a clip's vector is the mean over its tokens that are not special, or the state of
            the first token of all.
        word_tokens: a word's vector is the state of its first token, or the mean over its tokens.
        advance: called with the number of texts that each batch finishes, for progress.
    """
    encoder.eval()
    width = int(encoder.config.hidden_size)
    clips_CD = np.zeros((len(texts.lengths_C), width), np.float32)
    words_WD = np.zeros((len(words) if words else 0, width), np.float32)
    start_C = np.cumsum(texts.lengths_C) - texts.lengths_C
    words_of_C = _places(words, len(texts.lengths_C))
    for batch in batches_by_length(texts.lengths_C.tolist(), TOKENS_PER_BATCH):
        rows = [
            texts.ids_N[start_C[c] : start_C[c] + texts.lengths_C[c]].astype(np.int64)
            for c in batch
        ]
        lengths_B = torch.tensor([len(row) for row in rows])
        packed = pack(torch.from_numpy(np.concatenate(rows)), lengths_B).to(encoder.device)
        hidden_ND = encode_packed(encoder, packed).float()
        first_B = (lengths_B.cumsum(0) - lengths_B).numpy()
        if pooling == "cls":
            clips_CD[batch] = hidden_ND[packed.starts_B].cpu().numpy()
        else:
            around = texts.prefix + texts.suffix
            inner = [
                (first + texts.prefix, length - around)
                for first, length in zip(first_B.tolist(), lengths_B.tolist(), strict=True)
            ]
            clips_CD[batch] = _means(hidden_ND, inner)
        asked = [
            (word, first)
            for clip, first in zip(batch, first_B.tolist(), strict=True)
            for word in words_of_C[clip]
        ]
        if asked and words:
            spans = []
            for word, first in asked:
                own = texts.words_C[int(words.clip_W[word])][int(words.number_W[word])]
                spans.append((first + own.first, 1 if word_tokens == "first" else own.count))
            words_WD[[word for word, _ in asked]] = _means(hidden_ND, spans)
        advance(len(batch))
    return clips_CD, words_WD


def _places(words: Words | None, clips: int) -> list[list[int]]:
    places: list[list[int]] = [[] for _ in range(clips)]
    for place, clip in enumerate(words.clip_W.tolist() if words else []):
        places[clip].append(place)
    return places


def _means(hidden_ND: Tensor, spans: Sequence[tuple[int, int]]) -> Array:
    """Means `[n, D]` over stretches of tokens, each told by its first token and its length."""
    first_n, count_n = (torch.tensor(column) for column in zip(*spans, strict=True))
    owner_K = torch.arange(len(spans)).repeat_interleave(count_n)
    within_K = torch.arange(len(owner_K)) - (count_n.cumsum(0) - count_n)[owner_K]
    token_K = to_device(first_n[owner_K] + within_K, hidden_ND.device)
    sums_nD = hidden_ND.new_zeros(len(spans), hidden_ND.shape[1])
    sums_nD.index_add_(0, to_device(owner_K, hidden_ND.device), hidden_ND[token_K])
    return np.asarray((sums_nD.cpu() / count_n[:, None].clamp(min=1)).numpy())
