"""What stage two makes of a cache once, for all its runs: tokens, vectors in one piece, WordPiece.

All of it is in the folder CACHE.prepared beside the cache, because a job array finds it there from
every node, and a person who deletes the cache sees it. If that folder cannot be written, or the
cache is in object storage, it is in the user's cache folder. Each part is named by a digest of all
that it is made of, so it is never out of date. It can be deleted; the next run makes it again.

Shapes: S clips, R rows of a shard, E width of the teacher.
"""

import shutil
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from pipeline.cache.samples import vectors_sha256
from pipeline.cache.store import TeacherCache
from pipeline.corpus.arrays import ArrayStore, ArrayWriter
from pipeline.corpus.prepared_texts import PreparedTexts, tokenizer_identity
from pipeline.corpus.sources import CacheTexts, TextTables, source_of
from pipeline.corpus.token_table import write_tokens
from pipeline.corpus.tokenization import Encoding
from pipeline.corpus.word_table import WORDS_VERSION, write_words
from pipeline.foundation.atomic import made_once
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.progress import Meter
from pipeline.foundation.workers import ahead

READ_AHEAD = 4


class Prepared(PreparedTexts):
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
                f"finished (the first is {unfinished[0]}). Run `{cache.maker}` again; "
                "it computes only what is missing."
            )
        self.cache = cache
        super().__init__(CacheTexts(cache), cache.folder.path, folder, "this cache")

    def words(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> ArrayStore:
        """The words of this cache that can be taught, with their tokens; see `write_words`."""
        encode = Encoding(tokenizer, max_tokens)
        return self.made(
            "words",
            [tokenizer_identity(tokenizer), max_tokens, WORDS_VERSION],
            lambda writer: write_words(writer, self.cache, encode),
        )

    def taught_tokens(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> ArrayStore:
        """The tokens of this cache's rows, as words of one token each; see `write_tokens`."""
        encode = Encoding(tokenizer, max_tokens)
        return self.made(
            "taught-tokens",
            [tokenizer_identity(tokenizer), max_tokens, WORDS_VERSION],
            lambda writer: write_tokens(writer, self.cache, encode),
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


def prepared_texts(
    cache: TeacherCache | None, texts: TextTables | None, folder: Path | None = None
) -> PreparedTexts:
    """What is made of the texts of a cache, of tables, or of both.

    Args:
        cache: a cache; its own is what its `Prepared` makes, if there are no tables.
        texts: tables of texts without speech.
        folder: the folder for all of it; None for the usual one, beside the cache or the table.

    Raises:
        NotThere: the cache is not finished.
    """
    if cache is None:
        beside = texts.paths[0] if texts else None
        return PreparedTexts(source_of(cache, texts), beside, folder)
    ready = Prepared(cache, folder)
    if texts is None:
        return ready
    return PreparedTexts(source_of(cache, texts), cache.folder.path, folder)
