"""The words of a cache that a student can be taught: their tokens, their rows, their types.

Shapes: P clips of the cache, N tokens of a clip, W words that can be taught.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.store import TeacherCache
from pipeline.corpus.arrays import ArrayWriter
from pipeline.corpus.tokenization import Encoding
from pipeline.corpus.word_spans import NOBODY, owners, spelled, word_of_tokens
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import Meter, counted
from pipeline.foundation.workers import ahead
from pipeline.models.texts import composed

READ_AHEAD = 4
WORDS_VERSION = 2
"""Part of a table's name; it rises when the same words get other tokens."""


@dataclass(frozen=True)
class WordCounts:
    """How many words can be taught, and why the others cannot.

    Attributes:
        words: in the cache.
        taught: words that a loss can use.
        untrusted: words without a trusted time.
        without_token: words of which the tokenizer makes no token, such as a dash.
        cut: words that the longest text cuts off.
        other_text: clips whose words spell another text than the clip's.
        tokens_of_no_word: tokens between words, such as commas; special tokens are not counted.
        types: different words among those that can be taught.
    """

    words: int
    taught: int
    untrusted: int
    without_token: int
    cut: int
    other_text: int
    tokens_of_no_word: int
    types: int

    def in_words(self) -> str:
        """The same in words."""
        left_out = {
            "without a trusted time": self.untrusted,
            "cut off": self.cut,
            "without a token": self.without_token,
        }
        parts = [f"{count:,} {why}" for why, count in left_out.items() if count]
        if self.other_text:
            parts.append(f"all words of {counted(self.other_text, 'clip')} that spell another text")
        return (
            f"{self.taught:,} of {counted(self.words, 'word')}, {self.types:,} different ones"
            + (f"; without a loss: {', '.join(parts)}" if parts else "")
            + f"; {counted(self.tokens_of_no_word, 'token')} belong to no word"
        )


def write_words(writer: ArrayWriter, cache: TeacherCache, encode: Encoding) -> None:
    """Write the table of a cache of kind `words`.

    Arrays: `counts` `[P]`, words of each clip that can be taught; and `[W]` each `firsts` and
    `tokens`, the first token of a word in its text (special tokens included) and how many it has,
    `rows`, its row in the cache, `types`, a number for what it is spelled with, and `seconds`, how
    long it is. Facts: the fields of `WordCounts`.

    Raises:
        SpeechkdError: the tokenizer does not say which characters its tokens cover, or over half of
            the clips have words that spell another text.
    """
    types: dict[str, int] = {}
    seen: Counter[str] = Counter()
    with Meter("finding the words of tokens", cache.written, "clips") as meter:
        for samples in ahead(cache.shard_samples, cache.receipts(), READ_AHEAD):
            spans = encode.spans([sample["text"] for sample in samples])
            tables = [
                _words_of(sample, span_N2, encode, types, seen)
                for sample, span_N2 in zip(samples, spans, strict=True)
            ]
            writer.append("counts", np.array([len(table_W4) for table_W4, _ in tables], np.int64))
            together_W4 = np.concatenate([np.empty((0, 4), np.int64), *(t for t, _ in tables)])
            for column, name in enumerate(("firsts", "tokens", "rows", "types")):
                writer.append(name, np.ascontiguousarray(together_W4[:, column]))
            empty = np.empty(0, np.float32)
            writer.append("seconds", np.concatenate([empty, *(seconds for _, seconds in tables)]))
            meter.advance(len(samples))
    if seen["other_text"] * 2 > seen["clips"]:
        raise SpeechkdError(
            f"{cache.location}: the words of {seen['other_text']:,} of {seen['clips']:,} clips "
            "spell another text than the clip's. Make the cache anew from shards whose times are "
            "those of their texts."
        )
    names = ("words", "untrusted", "without_token", "cut", "other_text", "tokens_of_no_word")
    facts = {name: seen[name] for name in names}
    writer.close({**facts, "taught": seen["taught"], "types": len(types)})


def _words_of(
    sample: Mapping[str, Any],
    span_N2: NDArray[np.int64],
    encode: Encoding,
    types: dict[str, int],
    seen: Counter[str],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First token, tokens, row and type `[W, 4]`, and seconds, of a clip's words to teach."""
    words: Sequence[Mapping[str, Any]] = sample["words"]
    seen.update(clips=1, words=len(words))
    owner_X = owners(composed(sample["text"]), [word["text"] for word in words])
    if owner_X is None:
        seen.update(other_text=1, tokens_of_no_word=min(len(span_N2), encode.room))
        return np.empty((0, 4), np.int64), np.empty(0, np.float32)
    word_N = word_of_tokens(owner_X, span_N2[:, 0], span_N2[:, 1])
    seen.update(tokens_of_no_word=int((word_N[: encode.room] == NOBODY).sum()))
    token_T = np.flatnonzero(word_N != NOBODY)
    number_W, first_W = np.unique(word_N[token_T], return_index=True)
    tokens_W = np.append(first_W[1:], len(token_T)) - first_W
    first_W, last_W = token_T[first_W], token_T[first_W + tokens_W - 1]
    trusted_W = np.array([words[number]["trusted"] for number in number_W.tolist()], bool)
    whole_W = last_W < encode.room
    spoken = sum(word["trusted"] for word in words)
    use_W = trusted_W & whole_W
    seen.update(
        untrusted=len(words) - spoken,
        without_token=spoken - int(trusted_W.sum()),
        cut=int((trusted_W & ~whole_W).sum()),
        taught=int(use_W.sum()),
    )
    use = [words[number] for number in number_W[use_W].tolist()]
    type_W = [types.setdefault(spelled(word["text"])[0], len(types)) for word in use]
    seconds_W = np.array([word["end_s"] - word["start_s"] for word in use], np.float32)
    seconds_W = np.nan_to_num(seconds_W, nan=0, posinf=0, neginf=0).clip(min=0)
    table_W4 = np.stack(
        [
            first_W[use_W] + len(encode.prefix),
            last_W[use_W] - first_W[use_W] + 1,
            sample["row"] + number_W[use_W],
            np.array(type_W, np.int64),
        ],
        axis=1,
    )
    return table_W4, seconds_W
