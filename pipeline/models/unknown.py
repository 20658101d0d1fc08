"""How much of some texts a tokenizer does not know: the tokens that stand for anything.

A token such as [UNK] is the same for every word, sign or letter that the vocabulary lacks, so what
it stood for is lost to the encoder.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from pipeline.models.texts import all_composed

TOO_MANY = 0.01
"""Share of unknown tokens, or of a script's letters, above which there is a warning."""
NAMED = 5
LOOKED_AT = 10_000
"""Texts in which what is unknown is looked up, to name it."""
WORDPIECE_LETTERS = 100
"""Letters of the longest word that WordPiece cuts into pieces (`max_input_chars_per_word`)."""
SHOWN_LETTERS = 40
LETTERS_AT_LEAST = 20
"""A script with fewer letters is not judged."""
DAKUTEN = "\u3099\u309a"
"""Signs of kana, whose names in Unicode are those of accents."""


@dataclass(frozen=True)
class Unknown:
    """What a tokenizer does not know of some texts.

    Attributes:
        tokens: tokens of all texts, special ones left out.
        unknown: how many of them are the unknown token.
        texts: how many texts there are.
        texts_with: how many of them have an unknown token.
        commonest: what is unknown most often, as it stands in the texts.
        scripts: for each script of which more than `TOO_MANY` of the letters are unknown, their
            share, by Unicode's name of the script.
        lost_signs: share of the vowel signs, and of other signs without which a word is another
            word, that the tokenizer drops before it looks a word up. Accents do not count.
        too_long: how many unknown tokens stand for a word of more letters than WordPiece reads.
            Thai, Lao and Khmer have no blanks between words, so there such a word is a sentence.
    """

    tokens: int
    unknown: int
    texts: int
    texts_with: int
    commonest: tuple[str, ...] = ()
    scripts: Mapping[str, float] = field(default_factory=dict)
    lost_signs: float = 0.0
    too_long: int = 0

    @property
    def share(self) -> float:
        """Share of the tokens that are unknown."""
        return self.unknown / self.tokens if self.tokens else 0.0

    @property
    def percentage(self) -> str:
        """The share in per cent."""
        return percent(self.share)

    @property
    def too_many(self) -> bool:
        """Whether there are so many that a reader must be warned."""
        return max(self.share, self.lost_signs) > TOO_MANY or bool(self.scripts)

    def __str__(self) -> str:
        """All of it in a sentence, without a full stop."""
        words = "no token is unknown"
        if self.unknown:
            words = (
                f"{percent(self.share)} of the tokens ({self.unknown:,} of {self.tokens:,}) are "
                f"unknown, in {percent(self.texts_with / self.texts)} of the texts"
            )
        if self.commonest:
            words += f"; most often {', '.join(map(_shown, self.commonest))}"
        for script, share in self.scripts.items():
            words += f"; of the letters of {script} {percent(share)}"
        if self.lost_signs:
            words += f"; {percent(self.lost_signs)} of the vowel signs are dropped unread"
        if self.too_long:
            words += (
                f"; {self.too_long:,} of the unknown have over {WORDPIECE_LETTERS} letters without "
                "a blank, which WordPiece does not cut: put blanks between the words, or take an "
                "encoder and tokenizer without WordPiece"
            )
        return words

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {**asdict(self), "commonest": list(self.commonest), "scripts": dict(self.scripts)}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Unknown":
        """Read what `record` gave."""
        return cls(**{**record, "commonest": tuple(record["commonest"])})


def _shown(piece: str) -> str:
    return repr(piece if len(piece) <= SHOWN_LETTERS else f"{piece[:SHOWN_LETTERS]}…")


def percent(share: float) -> str:
    """A share in per cent, with a digit more where it is small."""
    return f"{100 * share:.2f} %" if share < TOO_MANY else f"{100 * share:.1f} %"


class UnknownCounter:
    """Counts unknown tokens over texts that come in pieces.

    Args:
        tokenizer: the tokenizer that made the tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        others = {id_ for id_ in _other_special_ids(tokenizer) if id_ is not None}
        unknown = tokenizer.unk_token_id
        self._id = -1 if unknown is None or unknown in others else int(unknown)
        self._tokens = self._unknown = self._texts = self._texts_with = self._seen = 0
        self._pieces: Counter[str] = Counter()
        self._letters: Counter[str] = Counter()
        self._unknown_letters: Counter[str] = Counter()
        self._signs = self._signs_left = self._too_long = 0

    def add(
        self, texts: Sequence[str], ids_N: NDArray[Any], lengths_B: NDArray[Any], special: int
    ) -> None:
        """Count the tokens of some texts.

        Args:
            texts: the texts.
            ids_N: their tokens, end to end.
            lengths_B: tokens of each text.
            special: how many tokens of each text are the tokenizer's own.
        """
        ends_B = np.cumsum(lengths_B)
        unknown_N = np.concatenate([[0], np.cumsum(ids_N == self._id)])
        unknown_B = unknown_N[ends_B] - unknown_N[ends_B - lengths_B]
        self._tokens += int(np.maximum(lengths_B - special, 0).sum())
        self._unknown += int(unknown_B.sum())
        self._texts += len(texts)
        self._texts_with += int((unknown_B > 0).sum())
        room = LOOKED_AT - self._seen
        if room > 0:
            self._look(texts[:room], unknown_B[:room] > 0)

    def result(self) -> Unknown:
        """What was counted."""
        letters: Counter[str] = Counter()
        unknown: Counter[str] = Counter()
        for count, into in ((self._letters, letters), (self._unknown_letters, unknown)):
            for letter, times in count.items():
                into[script_of(letter)] += times
        shares = {
            script: unknown[script] / times
            for script, times in letters.most_common()
            if script and times >= LETTERS_AT_LEAST and unknown[script] > TOO_MANY * times
        }
        commonest = sorted(self._pieces, key=lambda piece: (-self._pieces[piece], piece))[:NAMED]
        return Unknown(
            tokens=self._tokens,
            unknown=self._unknown,
            texts=self._texts,
            texts_with=self._texts_with,
            commonest=tuple(commonest),
            scripts=shares,
            lost_signs=1 - min(self._signs_left / self._signs, 1) if self._signs else 0.0,
            too_long=self._too_long,
        )

    def _look(self, texts: Sequence[str], has_B: NDArray[np.bool_]) -> None:
        """Look up what is unknown in some texts."""
        texts = all_composed(texts)
        self._seen += len(texts)
        backend = self._tokenizer.backend_tokenizer if self._tokenizer.is_fast else None
        normalizer = backend.normalizer if backend else None
        for text in texts:
            self._letters.update(text)
            if normalizer and not text.isascii() and (signs := _signs(text)):
                self._signs += signs
                self._signs_left += _signs(normalizer.normalize_str(text))
        chosen = [text for text, has in zip(texts, has_B, strict=True) if has]
        if not chosen or backend is None:
            return
        backend.no_truncation()
        backend.no_padding()
        encodings = backend.encode_batch(chosen, add_special_tokens=False)
        for text, encoding in zip(chosen, encodings, strict=True):
            for id_, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                if id_ == self._id and end > start:
                    self._pieces[text[start:end]] += 1
                    self._too_long += end - start > WORDPIECE_LETTERS
                    self._unknown_letters.update(text[start:end])


def measure_unknown(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Unknown:
    """What a tokenizer does not know of some texts, uncut."""
    counter = UnknownCounter(tokenizer)
    if texts:
        texts = all_composed(texts)
        ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        lengths_B = np.array([len(row) for row in ids], np.int64)
        flat = np.fromiter((id_ for row in ids for id_ in row), np.int64, int(lengths_B.sum()))
        counter.add(texts, flat, lengths_B, 0)
    return counter.result()


def _other_special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int | None]:
    names = ("bos", "eos", "sep", "cls", "pad", "mask")
    return [getattr(tokenizer, f"{name}_token_id", None) for name in names]


def _signs(text: str) -> int:
    """How many signs of a text belong to letters before them, accents left out."""
    return sum(_is_sign(letter) for letter in unicodedata.normalize("NFD", text))


@cache
def _is_sign(letter: str) -> bool:
    if letter in DAKUTEN:
        return True
    is_mark = unicodedata.category(letter) in ("Mn", "Mc")
    return is_mark and not unicodedata.name(letter, "COMBINING").startswith("COMBINING")


@cache
def script_of(letter: str) -> str:
    """A letter's script by the first word of its name in Unicode; "" for what is no letter."""
    if unicodedata.category(letter)[0] not in "LM":
        return ""
    return unicodedata.name(letter, "").partition(" ")[0]
