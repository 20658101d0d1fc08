"""What stage two makes of some texts once, for all its runs: their tokens, and a tokenizer of them.

It lies beside the cache or the table that the texts are in, or in the user's cache folder. Each
part is named by a digest of all that it is made of, so it is never out of date.

Shapes: C texts with a token, S texts in all, N tokens.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import transformers
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from pipeline.corpus.arrays import ArrayStore, ArrayWriter
from pipeline.corpus.sources import Source
from pipeline.corpus.tokenization import (
    BYTE_PAIRS_VERSION,
    WORDPIECE_VERSION,
    Encoding,
    train_byte_pairs,
    train_wordpiece,
)
from pipeline.foundation.atomic import made_once
from pipeline.foundation.hashing import json_sha256
from pipeline.foundation.progress import Meter, say
from pipeline.foundation.storage import user_cache
from pipeline.models.loading import load_tokenizer
from pipeline.models.unknown import UnknownCounter

NO_RECORDING = -1
TOKENS_VERSION = 3
"""Rises when prepared tokens get other arrays or facts; they are then made again."""


class PreparedTexts:
    """Tokens and tokenizers of the texts of one source.

    Args:
        source: of the texts; its content is part of every name.
        beside: the cache or table that it lies beside; None if that is no file of this machine.
        folder: the folder for all of it; None for the usual one.
        called: the source in messages.
    """

    def __init__(
        self,
        source: Source,
        beside: Path | None,
        folder: Path | None = None,
        called: str = "these texts",
    ) -> None:
        self.source, self.called = source, called
        self.digest = source.digest()
        self.folder = folder or _usual_folder(beside)

    def tokens(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> ArrayStore:
        """The tokens of every text that has any, in the order of the rows.

        Arrays: `ids` `[N]`, uint16 if the vocabulary allows, else int32; and `[C]` each `starts`,
        `lengths`, `rows` in the cache, `places` among `vectors`, and `recordings`, numbered in the
        order in which they appear, -1 if unknown. Facts: `truncated`, `dropped`, `unknown` (what
        the tokenizer does not know of the texts, `pipeline.models.unknown`).
        """
        encode = Encoding(tokenizer, max_tokens)
        return self.made(
            "tokens",
            [tokenizer_identity(tokenizer), max_tokens, TOKENS_VERSION],
            lambda writer: self._write_tokens(writer, encode),
        )

    def made(
        self, name: str, made_of: list[Any], fill: Callable[[ArrayWriter], None]
    ) -> ArrayStore:
        """Arrays that are computed from these texts once for all its runs.

        Args:
            name: begins the name of their folder.
            made_of: what they depend on beside them, as plain JSON values.
            fill: writes and closes them.
        """
        digest = json_sha256([self.digest, *made_of])[:32]
        return ArrayStore(
            made_once(
                self.folder / f"{name}-{digest}",
                lambda aside: fill(ArrayWriter(aside)),
                f"{name} of {self.called}",
            )
        )

    def wordpiece(self, vocabulary_size: int, *, lowercase: bool, max_tokens: int) -> Path:
        """A folder with a WordPiece tokenizer trained on these texts."""
        made_of = [vocabulary_size, lowercase, max_tokens, WORDPIECE_VERSION]
        return self._tokenizer(
            "wordpiece",
            "WordPiece",
            made_of,
            lambda texts: train_wordpiece(
                texts, vocabulary_size, lowercase=lowercase, max_tokens=max_tokens
            ),
        )

    def byte_pairs(self, vocabulary_size: int, *, lowercase: bool, max_tokens: int) -> Path:
        """A folder with a byte-level BPE tokenizer trained on these texts."""
        made_of = [vocabulary_size, lowercase, max_tokens, BYTE_PAIRS_VERSION]
        return self._tokenizer(
            "byte-pairs",
            "byte pairs",
            made_of,
            lambda texts: train_byte_pairs(
                texts, vocabulary_size, lowercase=lowercase, max_tokens=max_tokens
            ),
        )

    def _tokenizer(
        self,
        name: str,
        what: str,
        made_of: list[Any],
        train: Callable[[Callable[[], Iterator[str]]], PreTrainedTokenizerBase],
    ) -> Path:
        def texts() -> Iterator[str]:  # read again each time: ten million texts take gigabytes
            return (text for some in self._texts() for text in some)

        digest = json_sha256([self.digest, *made_of, tokenizers.__version__])[:32]
        return made_once(
            self.folder / f"{name}-{digest}",
            lambda aside: train(texts).save_pretrained(aside),
            f"{what} of {self.called}",
        )

    def _texts(self) -> Iterator[list[str]]:
        with Meter("reading texts for the tokenizer", self.source.written, "clips") as meter:
            for samples in self.source.pieces():
                yield [s["text"] for s in samples]
                meter.advance(len(samples))

    def _write_tokens(self, writer: ArrayWriter, encode: Encoding) -> None:
        dtype = np.uint16 if len(encode.tokenizer) <= 2**16 else np.int32
        around = len(encode.prefix) + len(encode.suffix)
        hashes: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        dropped: list[str] = []
        first_token = first_place = truncated = 0
        unknown = UnknownCounter(encode.tokenizer)
        with Meter("tokenising", self.source.written, "clips") as meter:
            # texts are read while the tokenizer's own threads work, which hold no lock
            for samples in self.source.pieces():
                texts = [s["text"] for s in samples]
                tokens = encode(texts)
                if texts:
                    unknown.add(texts, tokens.ids_N, tokens.lengths_B, around)
                full_S = tokens.lengths_B > around
                truncated += tokens.truncated
                dropped += [s["key"] for s, full in zip(samples, full_S, strict=True) if not full]
                rows_S = np.array([s["row"] for s in samples], np.int64)
                places_S = first_place + rows_S.argsort().argsort()
                lengths_C = tokens.lengths_B[full_S]
                writer.append(
                    "ids", tokens.ids_N[np.repeat(full_S, tokens.lengths_B)].astype(dtype)
                )
                writer.append("starts", first_token + lengths_C.cumsum() - lengths_C)
                writer.append("lengths", lengths_C)
                writer.append("rows", rows_S[full_S])
                writer.append("places", places_S[full_S])
                names = [s["recording"] for s, full in zip(samples, full_S, strict=True) if full]
                hashes.append(np.array([_hash(name) for name in names], np.int64))
                first_place += len(samples)
                first_token += int(lengths_C.sum())
                meter.advance(len(samples))
        writer.append("recordings", recording_numbers(np.concatenate(hashes)))
        facts = {"truncated": truncated, "dropped": dropped, "unknown": unknown.result().record()}
        writer.close(facts)


def new_wordpiece(
    prepared: PreparedTexts, vocabulary_size: int, *, lowercase: bool, max_tokens: int
) -> PreTrainedTokenizerBase:
    """A WordPiece of some texts, and a word to the user if it is smaller than asked for."""
    folder = prepared.wordpiece(vocabulary_size, lowercase=lowercase, max_tokens=max_tokens)
    tokenizer = load_tokenizer(str(folder))
    if len(tokenizer) < vocabulary_size:
        say(
            f"WordPiece finds {len(tokenizer):,} pieces in these texts, not {vocabulary_size:,}: "
            "the vocabulary is that small"
        )
    return tokenizer


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    """Everything that a text's ids depend on, wherever the tokenizer was loaded from."""
    kind = [type(tokenizer).__name__, tokenizer("a")["input_ids"]]
    if tokenizer.is_fast:
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        rules.update(truncation=None, padding=None)  # `Encoding` uses neither
        return [*kind, rules, tokenizers.__version__]
    settings = {name: str(value) for name, value in tokenizer.init_kwargs.items()}
    return [*kind, tokenizer.get_vocab(), settings, transformers.__version__]


def _hash(recording: str | None) -> int:
    """63 bits that stand for a recording's name; ten million names would take a gigabyte."""
    if recording is None:
        return NO_RECORDING
    whole = hashlib.blake2b(recording.encode(), digest_size=8).digest()
    return int.from_bytes(whole, "big") >> 1


def recording_numbers(names_C: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0 for hashed names, in the order of their first appearance; -1 stays -1."""
    names, first, member_C = np.unique(names_C, return_index=True, return_inverse=True)
    first[names == NO_RECORDING] = len(names_C)  # comes last and gets no number
    number = np.empty(len(names), np.int64)
    number[first.argsort()] = np.arange(len(names))
    number[names == NO_RECORDING] = NO_RECORDING
    return number[member_C]


def _usual_folder(what: Path | None) -> Path:
    """A folder beside a cache or a table, or the user's own where that cannot be written."""
    if what is not None:
        beside = what.with_name(f"{what.name}.prepared")
        if os.access(beside if beside.is_dir() else beside.parent, os.W_OK):
            return beside
    return user_cache() / "prepared"
