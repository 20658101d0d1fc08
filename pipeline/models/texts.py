"""The form in which every tokenizer gets its texts: composed."""

import unicodedata
from collections.abc import Sequence


def composed(text: str) -> str:
    """A text with each letter and its marks as one character where Unicode has one (NFC).

    macOS and some corpora write `é` as `e` and an accent after it. They are the same letter to a
    reader and two other tokens, or an unknown one, to most tokenizers, which learnt from composed
    texts.
    """
    return unicodedata.normalize("NFC", text)


def all_composed(texts: Sequence[str]) -> list[str]:
    """Several texts, each as `composed` gives it."""
    return [composed(text) for text in texts]
