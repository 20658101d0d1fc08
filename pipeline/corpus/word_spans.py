"""Which tokens of a text belong to which of its words, by the letters that both are spelled with.

The words are those of the cache, which whoever told their times has cut. The tokens are those of
any tokenizer that says which characters each of them covers. Neither needs to cut at spaces.

Shapes: X characters of a text, N tokens, W words.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NOBODY = -1
_ASCII_LETTERS = np.array([chr(code).isalnum() for code in range(128)])


def spelled(text: str) -> tuple[str, NDArray[np.int64]]:
    """Letters, marks and digits of a text without case, and the character that each comes from."""
    if text.isascii():
        codes_X = np.frombuffer(text.lower().encode(), np.uint8)
        place_L = np.flatnonzero(_ASCII_LETTERS[codes_X])
        return codes_X[place_L].tobytes().decode(), place_L
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        # one character at a time, because each letter has to lead back to its character
        for letter in unicodedata.normalize("NFKD", character).casefold():
            if unicodedata.category(letter)[0] in "LMN":
                letters.append(letter)
                places.append(place)
    return "".join(letters), np.array(places, np.int64)


def owners(text: str, words: Sequence[str]) -> NDArray[np.int64] | None:
    """The word `[X]` that each character of a text belongs to, `NOBODY` between words.

    A word reaches from its first letter to its last one, so that an apostrophe inside belongs to
    it, and a comma after it does not. A word without a letter has no character.

    Returns:
        None if the words together spell something else than the text.
    """
    letters, place_L = spelled(text)
    spellings = [spelled(word)[0] for word in words]
    if "".join(spellings) != letters:
        return None
    owner_X = np.full(len(text), NOBODY, np.int64)
    start = 0
    for number, spelling in enumerate(spellings):
        if spelling:
            end = start + len(spelling)
            owner_X[place_L[start] : place_L[end - 1] + 1] = number
            start = end
    return owner_X


def word_of_tokens(
    owner_X: NDArray[np.int64], starts_N: NDArray[np.int64], ends_N: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The word `[N]` of each token: that of its first character which belongs to one.

    Args:
        owner_X: from `owners`.
        starts_N: first character that each token covers.
        ends_N: one after the last character that it covers.
    """
    characters = len(owner_X)
    owned_X = np.where(owner_X != NOBODY, np.arange(characters), characters)
    next_X = np.minimum.accumulate(owned_X[::-1])[::-1]
    next_N = np.append(next_X, characters)[np.minimum(starts_N, characters)]
    return np.where(next_N < ends_N, np.append(owner_X, NOBODY)[next_N], NOBODY)
