"""WordPiece or byte pairs for a new encoder, and texts → flat token ids for any."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pipeline.foundation.errors import SpeechkdError
from pipeline.models.loading import panics_as_errors
from pipeline.models.texts import all_composed, composed

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDPIECE_VERSION = 3
"""Rises when the same texts and settings give another WordPiece."""
BYTE_SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""RoBERTa's, in the order of their ids."""
BYTE_PAIRS_VERSION = 2
"""Rises when the same texts and settings give other byte pairs."""


def train_wordpiece(
    texts: Callable[[], Iterable[str]], vocabulary_size: int, *, lowercase: bool, max_tokens: int
) -> PreTrainedTokenizerBase:
    """Train BERT's tokenizer on texts; a small corpus gives fewer pieces than `vocabulary_size`.

    Args:
        texts: returns the corpus; called twice, so that no text stays in memory.
        vocabulary_size: the most pieces, special tokens included.
        lowercase: whether to drop case. Accents, vowel signs and dakuten stay, which
            `bert-base-uncased` drops with it: in many languages they are half of the letters.
        max_tokens: tokens of the longest sequence, recorded in the tokenizer.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def read() -> Iterator[str]:
        return map(composed, texts())

    letters, inner = _alphabet(tokenizer, read(), vocabulary_size - len(SPECIAL_TOKENS))
    # The trainer numbers pieces in the order of a hash table and breaks ties by number, so its
    # result changes from run to run. With all single letters numbered beforehand it does not.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in inner)],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(read(), trainer)
    return BertTokenizer(
        vocab=tokenizer.get_vocab(),
        do_lower_case=lowercase,
        strip_accents=False,
        model_max_length=max_tokens,
    )


def train_byte_pairs(
    texts: Callable[[], Iterable[str]], vocabulary_size: int, *, lowercase: bool, max_tokens: int
) -> PreTrainedTokenizerBase:
    """Train RoBERTa's byte-level BPE on texts; a small corpus gives fewer pieces.

    Letters are composed, case is dropped and blanks are squeezed by the tokenizer itself, so that
    whoever loads it need not know: a tokenizer of lower-case texts spells words in capitals letter
    by letter, and two blanks are two tokens.

    Args:
        texts: returns the corpus; called once.
        vocabulary_size: the most pieces, 256 bytes and 5 special tokens included.
        lowercase: whether to drop case.
        max_tokens: tokens of the longest sequence, recorded in the tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    squeezed = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    lower = [normalizers.Lowercase()] if lowercase else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *lower, *squeezed])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(BYTE_SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    begin, pad, end, unknown, mask = BYTE_SPECIAL_TOKENS
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (begin, end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        cls_token=begin,
        eos_token=end,
        sep_token=end,
        pad_token=pad,
        unk_token=unknown,
        mask_token=mask,
        model_max_length=max_tokens,
    )


def _alphabet(
    tokenizer: Tokenizer, texts: Iterable[str], pieces: int
) -> tuple[list[str], list[str]]:
    """The letters of the texts, and those of them that occur inside words.

    Every letter gets a piece, and another one if it occurs inside words. If they are more than
    `pieces`, the rarest get none.
    """
    words: set[str] = set()
    for text in texts:
        words.update(tokenizer.normalizer.normalize_str(text).split())
    everywhere: Counter[str] = Counter()
    inside: set[str] = set()
    for word in words:
        for part, _ in tokenizer.pre_tokenizer.pre_tokenize_str(word):
            everywhere.update(part)
            inside.update(part[1:])
    commonest = sorted(everywhere, key=lambda c: (-everywhere[c], c))
    taken = accumulate(1 + (letter in inside) for letter in commonest)
    fitting = [letter for letter, total in zip(commonest, taken, strict=True) if total <= pieces]
    return sorted(fitting), sorted(inside.intersection(fitting))


@dataclass(frozen=True)
class Tokenized:
    """Token ids of several texts, end to end.

    Attributes:
        ids_N: token ids, special tokens included.
        lengths_B: tokens of each text.
        truncated: how many texts were longer than allowed.
    """

    ids_N: NDArray[np.int32]
    lengths_B: NDArray[np.int64]
    truncated: int


class Encoding:
    """Turns texts into ids, with special tokens around each text; long texts are cut at the end.

    Args:
        tokenizer: any Hugging Face tokenizer; with a mask token, if tokens will be masked.
        max_tokens: tokens of the longest sequence, special tokens included.
        masks: whether tokens will be masked.

    Raises:
        SpeechkdError: the tokenizer lacks what masked-LM training needs, or there is no room for
            text.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_tokens: int, *, masks: bool = True
    ) -> None:
        if masks and tokenizer.mask_token_id is None:
            raise SpeechkdError(
                f"the tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no mask "
                "token, so no masked-LM student can be trained with it. Name another."
            )
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        whole = list(tokenizer("a")["input_ids"])
        start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), len(whole))
        self.prefix, self.suffix = whole[:start], whole[start + len(bare) :]
        self.room = max_tokens - len(self.prefix) - len(self.suffix)
        if self.room < 1:
            raise SpeechkdError(f"--max-tokens {max_tokens} leaves no room for text.")

    def __call__(self, texts: Sequence[str]) -> Tokenized:
        """Encode texts, composed; one without any token has only its special tokens."""
        if not texts:
            return Tokenized(np.empty(0, np.int32), np.empty(0, np.int64), 0)
        encoded = self._bare(list(texts))
        truncated = sum(len(ids) > self.room for ids in encoded)
        parts = (part for ids in encoded for part in (self.prefix, ids[: self.room], self.suffix))
        ids_N = np.fromiter(chain.from_iterable(parts), np.int32)
        around = len(self.prefix) + len(self.suffix)
        lengths_B = np.array([min(len(ids), self.room) + around for ids in encoded], np.int64)
        return Tokenized(ids_N, lengths_B, truncated)

    def spans(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """First character and one after the last, `[n, 2]`, of each token of each text.

        They are the tokens of `__call__`, before long texts are cut and without special tokens.
        Characters are those of the composed text (`pipeline.models.texts`).

        Raises:
            SpeechkdError: the tokenizer does not say which characters its tokens cover.
        """
        if not self.tokenizer.is_fast:
            raise SpeechkdError(
                f"the tokenizer {self.tokenizer.name_or_path or type(self.tokenizer).__name__} "
                "does not say which characters its tokens cover, so no token can be given to a "
                "word. Name one that the tokenizers library runs (a tokenizer.json)."
            )
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        with panics_as_errors(self.tokenizer.name_or_path or "the tokenizer"):
            encoded = backend.encode_batch(all_composed(texts), add_special_tokens=False)
        return [np.array(e.offsets, np.int64).reshape(-1, 2) for e in encoded]

    def _bare(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts, uncut and without special tokens, straight from the library's Rust part."""
        texts = all_composed(texts)
        if not self.tokenizer.is_fast:
            slow: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            return slow
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        with panics_as_errors(self.tokenizer.name_or_path or "the tokenizer"):
            return [e.ids for e in backend.encode_batch_fast(texts, add_special_tokens=False)]
