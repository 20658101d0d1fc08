"""What stage two makes of a cache once, for all its runs: tokens, vectors in one piece, WordPiece.

All of it is in the folder CACHE.prepared beside the cache, because a job array finds it there from
every node, and a person who deletes the cache sees it. If that folder cannot be written, or the
cache is in object storage, it is in the user's cache folder. Each part is named by a digest of all
that it is made of, so it is never out of date. It can be deleted; the next run makes it again.

Shapes: C clips with text, S clips in all, R rows of a shard, E width of the teacher, N tokens.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import transformers
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from pipeline.cache.samples import vectors_sha256
from pipeline.cache.store import TeacherCache
from pipeline.corpus.arrays import ArrayStore, ArrayWriter
from pipeline.corpus.token_table import write_tokens
from pipeline.corpus.tokenization import (
    BYTE_PAIRS_VERSION,
    WORDPIECE_VERSION,
    Encoding,
    train_byte_pairs,
    train_wordpiece,
)
from pipeline.corpus.word_table import WORDS_VERSION, write_words
from pipeline.foundation.atomic import made_once
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.hashing import json_sha256
from pipeline.foundation.progress import Meter, say
from pipeline.foundation.storage import user_cache
from pipeline.foundation.workers import ahead
from pipeline.models.loading import load_tokenizer
from pipeline.models.unknown import UnknownCounter

READ_AHEAD = 4
NO_RECORDING = -1
TOKENS_VERSION = 3
"""Rises when prepared tokens get other arrays or facts; they are then made again."""


class Prepared:
    """Tokens, vectors and WordPiece of one cache.

    Args:
        cache: the cache; its content is part of every name.
        folder: the folder for all of them; None for the usual one.

    Raises:
        NotThere: the cache is not finished.
    """

    def __init__(self, cache: TeacherCache, folder: Path | None = None) -> None:
        unfinished = cache.unfinished()
        if unfinished:
            raise NotThere(
                f"{cache.location}: {len(unfinished)} of {len(cache.manifest)} shards are not "
                f"finished (the first is {unfinished[0]}). Run `speechkd extract-teacher` again; "
                "it computes only what is missing."
            )
        self.cache, self.digest = cache, cache.digest()
        self.folder = folder or _usual_folder(cache)

    def tokens(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> ArrayStore:
        """The tokens of every clip that has any, in the order of the cache's rows.

        Arrays: `ids` `[N]`, uint16 if the vocabulary allows, else int32; and `[C]` each `starts`,
        `lengths`, `rows` in the cache, `places` among `vectors`, and `recordings`, numbered in the
        order in which they appear, -1 if unknown. Facts: `truncated`, `dropped`, `unknown` (what
        the tokenizer does not know of the texts, `pipeline.models.unknown`).
        """
        encode = Encoding(tokenizer, max_tokens)
        return self.made(
            "tokens",
            [_identity(tokenizer), max_tokens, TOKENS_VERSION],
            lambda writer: self._write_tokens(writer, encode),
        )

    def words(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> ArrayStore:
        """The words of this cache that can be taught, with their tokens; see `write_words`."""
        encode = Encoding(tokenizer, max_tokens)
        return self.made(
            "words",
            [_identity(tokenizer), max_tokens, WORDS_VERSION],
            lambda writer: write_words(writer, self.cache, encode),
        )

    def taught_tokens(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> ArrayStore:
        """The tokens of this cache's rows, as words of one token each; see `write_tokens`."""
        encode = Encoding(tokenizer, max_tokens)
        return self.made(
            "taught-tokens",
            [_identity(tokenizer), max_tokens, WORDS_VERSION],
            lambda writer: write_tokens(writer, self.cache, encode),
        )

    def made(
        self, name: str, made_of: list[Any], fill: Callable[[ArrayWriter], None]
    ) -> ArrayStore:
        """Arrays that are computed from this cache once for all its runs.

        Args:
            name: begins the name of their folder.
            made_of: what they depend on beside the cache, as plain JSON values.
            fill: writes and closes them.
        """
        digest = json_sha256([self.digest, *made_of])[:32]
        return ArrayStore(
            made_once(
                self.folder / f"{name}-{digest}",
                lambda aside: fill(ArrayWriter(aside)),
                f"{name} of this cache",
            )
        )

    def vectors(self) -> ArrayStore:
        """All vectors in one array `vectors` `[S, E]`, with `mean` and `std` `[E]`, float64."""
        return ArrayStore(
            made_once(
                self.folder / f"vectors-{self.digest[:32]}",
                lambda aside: self._write_vectors(ArrayWriter(aside), aside),
                "vectors of this cache",
            )
        )

    def wordpiece(self, vocabulary_size: int, *, lowercase: bool, max_tokens: int) -> Path:
        """A folder with a WordPiece tokenizer trained on the cache's texts."""
        made_of = [vocabulary_size, lowercase, max_tokens, WORDPIECE_VERSION]
        return self._tokenizer(
            "wordpiece",
            "WordPiece of this cache",
            made_of,
            lambda texts: train_wordpiece(
                texts, vocabulary_size, lowercase=lowercase, max_tokens=max_tokens
            ),
        )

    def byte_pairs(self, vocabulary_size: int, *, lowercase: bool, max_tokens: int) -> Path:
        """A folder with a byte-level BPE tokenizer trained on the cache's texts."""
        made_of = [vocabulary_size, lowercase, max_tokens, BYTE_PAIRS_VERSION]
        return self._tokenizer(
            "byte-pairs",
            "byte pairs of this cache",
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
            what,
        )

    def _texts(self) -> Iterator[list[str]]:
        receipts = self.cache.receipts()
        with Meter("reading texts for the tokenizer", self.cache.written, "clips") as meter:
            for samples in ahead(self.cache.shard_samples, receipts, READ_AHEAD):
                yield [s["text"] for s in samples]
                meter.advance(len(samples))

    def _write_tokens(self, writer: ArrayWriter, encode: Encoding) -> None:
        dtype = np.uint16 if len(encode.tokenizer) <= 2**16 else np.int32
        around = len(encode.prefix) + len(encode.suffix)
        hashes: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        dropped: list[str] = []
        first_token = first_place = truncated = 0
        unknown = UnknownCounter(encode.tokenizer)
        with Meter("tokenising", self.cache.written, "clips") as meter:
            # texts are read while the tokenizer's own threads work, which hold no lock
            for samples in ahead(self.cache.shard_samples, self.cache.receipts(), READ_AHEAD):
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

    def _write_vectors(self, writer: ArrayWriter, aside: Path) -> None:
        cache, receipts = self.cache, self.cache.receipts()
        needed = cache.written * cache.identity.row_bytes
        free = shutil.disk_usage(aside).free
        if free < needed:
            raise SpeechkdError(
                f"{self.folder}: the vectors in one piece take {needed / 1e6:,.1f} MB, but "
                f"{free / 1e6:,.1f} MB are free. Free some, or name another folder with --prepared."
            )

        def vectors_of(shard: int) -> NDArray[Any]:
            receipt, block_RE = receipts[shard], cache.block(shard)
            if vectors_sha256(block_RE) != receipt["vectors_sha256"]:
                raise Damaged(
                    f"{cache.location}: the vectors of shard {shard} are not those of its receipt. "
                    "`speechkd cache verify` lists all damage."
                )
            refused = {r["position"] for r in receipt["refused"]}
            return block_RE[[p for p in range(receipt["samples"]) if p not in refused]]

        with Meter("putting vectors in one piece", cache.written, "clips") as meter:
            for vectors_SE in ahead(vectors_of, receipts, READ_AHEAD):
                writer.append("vectors", vectors_SE)
                meter.advance(len(vectors_SE))
        statistics = cache.statistics()
        writer.append("mean", statistics.mean_E)
        writer.append("std", statistics.std_E)
        writer.close({})


def _usual_folder(cache: TeacherCache) -> Path:
    if cache.folder.path is not None:
        beside = cache.folder.path.with_name(f"{cache.folder.path.name}.prepared")
        if os.access(beside if beside.is_dir() else beside.parent, os.W_OK):
            return beside
    return user_cache() / "prepared"


def new_wordpiece(
    prepared: Prepared, vocabulary_size: int, *, lowercase: bool, max_tokens: int
) -> PreTrainedTokenizerBase:
    """A WordPiece of a cache's texts, and a word to the user if it is smaller than asked for."""
    folder = prepared.wordpiece(vocabulary_size, lowercase=lowercase, max_tokens=max_tokens)
    tokenizer = load_tokenizer(str(folder))
    if len(tokenizer) < vocabulary_size:
        say(
            f"WordPiece finds {len(tokenizer):,} pieces in these texts, not {vocabulary_size:,}: "
            "the vocabulary is that small"
        )
    return tokenizer


def _identity(tokenizer: PreTrainedTokenizerBase) -> list[Any]:
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
