"""The tokens of a cache of token vectors, as words of one token each, for a student to be taught.

Shapes: P clips of the cache, N tokens of a clip, W tokens that can be taught.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.corpus.arrays import ArrayWriter
from pipeline.corpus.tokenization import Encoding
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import Meter
from pipeline.foundation.workers import ahead

READ_AHEAD = 4


def write_tokens(writer: ArrayWriter, cache: TeacherCache, encode: Encoding) -> None:
    """Write the table of a cache of kind `text`, in the form of `word_table.write_words`.

    Special tokens are taught nothing. `seconds` is 1 for each token, because none is known.

    Raises:
        SpeechkdError: the tokens of a clip are not those that the student's tokenizer makes.
    """
    reader = SequenceReader(cache, with_words=False)
    types: set[int] = set()
    seen: Counter[str] = Counter()
    first = 0
    with Meter("finding the rows of tokens", cache.written, "clips") as meter:
        for samples in ahead(cache.shard_samples, cache.receipts(), READ_AHEAD):
            texts = [sample["text"] for sample in samples]
            tokens = encode(texts)
            rows_B = reader.clips.rows[first : first + len(samples)]
            row_B = reader.clips.row[first : first + len(samples)]
            stored = np.split(reader.ids(row_B, rows_B).numpy(), np.cumsum(rows_B)[:-1])
            own = np.split(tokens.ids_N, np.cumsum(tokens.lengths_B)[:-1]) if texts else []
            tables = [
                _tokens_of(cache, encode, text, int(row), stored_N, own_N, seen)
                for text, row, stored_N, own_N in zip(texts, row_B, stored, own, strict=True)
            ]
            together_W4 = np.concatenate([np.empty((0, 4), np.int64), *tables])
            writer.append("counts", np.array([len(table) for table in tables], np.int64))
            for column, name in enumerate(("firsts", "tokens", "rows", "types")):
                writer.append(name, np.ascontiguousarray(together_W4[:, column]))
            writer.append("seconds", np.ones(len(together_W4), np.float32))
            types.update(together_W4[:, 3].tolist())
            first += len(samples)
            meter.advance(len(samples))
    writer.close(
        {
            "words": seen["tokens"],
            "taught": seen["taught"],
            "cut": seen["tokens"] - seen["taught"],
            "types": len(types),
            **dict.fromkeys(("untrusted", "without_token", "other_text", "tokens_of_no_word"), 0),
        }
    )


def _tokens_of(
    cache: TeacherCache,
    encode: Encoding,
    text: str,
    row: int,
    stored_N: NDArray[np.int32],
    own_N: NDArray[np.int32],
    seen: Counter[str],
) -> NDArray[np.int64]:
    """First token, number of tokens (1), row and type `[W, 4]` of a clip's tokens to teach."""
    before, behind = len(encode.prefix), len(encode.suffix)
    theirs_N = stored_N[before : len(stored_N) - behind]
    mine_N = own_N[before : len(own_N) - behind]
    both = min(len(theirs_N), len(mine_N))
    if not np.array_equal(theirs_N[:both], mine_N[:both]):
        raise SpeechkdError(
            f"{cache.location}: the tokens of {text[:60]!r} there are not those of the student's "
            "tokenizer. Take the tokenizer that the cache was made with (--tokenizer, or --init): "
            f"that of {cache.identity.text('teacher')}."
        )
    seen.update(tokens=len(theirs_N), taught=both)
    place_W = np.arange(both, dtype=np.int64)
    return np.stack(
        [
            before + place_W,
            np.ones_like(place_W),
            row + before + place_W,
            mine_N[:both].astype(np.int64),
        ],
        axis=1,
    )
