"""A spoken corpus with a planted signal: invented words whose hidden affect only the voice tells.

Every word is spoken in the same carrier sentences, so a text alone says nothing about a word's
affect. Pitch, range, rate and loudness do, with jitter so that the two affects overlap. A model
that reads text only, and still knows the affect of a word that no label named, has learnt it from
the audio.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.tasks.planted.speech import VOICES

CARRIERS = (
    "we found the {} near the old bridge",
    "she said the {} was on the table",
    "they talked about the {} for an hour",
    "the {} arrived late in the morning",
    "i saw a {} behind the green house",
    "nobody expected the {} to be here",
    "he keeps a {} in the kitchen",
    "there was a {} at the end of the street",
    "my brother brought the {} back home",
    "you can see the {} from the window",
    "all of them looked at the {} again",
    "it was the {} that we heard about",
    "the first {} came from the north",
    "do you remember the {} from last year",
    "a {} like this is not easy to find",
    "the boy with the {} lives next door",
    "put the {} into the second box",
    "we were told that the {} is on its way",
    "her letter was about a {} in the garden",
    "the man at the desk asked for the {}",
    "every {} in this town has a number",
    "it took two days to build the {}",
    "they carried the {} across the field",
    "on monday the {} will be moved again",
    "a picture of the {} hangs on the wall",
    "the road goes past the {} and the mill",
    "my sister drew a {} on the paper",
    "after lunch we looked for the {}",
    "the story begins with a {} and a key",
    "some people call it a {} and some do not",
)

ONSETS = ("b", "br", "d", "dr", "f", "fl", "g", "gl", "k", "kr", "m", "n", "pl", "s", "t", "v", "z")
VOWELS = ("a", "e", "i", "o", "u")
CODAS = ("l", "n", "r", "nt", "st", "lv", "rm", "sk")
ENDINGS = ("el", "en", "in", "ock", "om", "us")


@dataclass(frozen=True)
class Utterance:
    """One sentence and how it is spoken; pitch, range and volume are on eSpeak's own scales."""

    key: str
    text: str
    word: str
    affect: int
    """+1 or −1."""
    voice: str
    pitch: int
    range: int
    rate_wpm: int
    volume: int


def invent_words(count: int, seed: int) -> list[str]:
    """Invent `count` different words that can be pronounced and are not English."""
    rng = np.random.default_rng([seed, 1])
    words: list[str] = []
    while len(words) < count:
        parts = (ONSETS, VOWELS, CODAS, ENDINGS)
        word = "".join(part[rng.integers(len(part))] for part in parts)
        if word not in words:
            words.append(word)
    return words


def plant(
    words: int,
    carriers: Sequence[str],
    seed: int,
    *,
    voices: Sequence[str] = VOICES,
    strength: float = 1.0,
) -> list[Utterance]:
    """Draw a corpus: half of the words bright (+1), half of them flat (−1).

    The order of the sentences is drawn, too, so that vectors that slip by one row are as wrong as
    any other clip's.

    Args:
        words: how many words; an even number.
        carriers: the sentences that every word is spoken in, with `{}` in its place.
        seed: decides words, affects, who says what, and jitter.
        voices: eSpeak's voices that speak.
        strength: scales the effect of affect on the voice; the jitter stays.
    """
    rng = np.random.default_rng([seed, 2])
    affects = rng.permutation(np.repeat([1, -1], words // 2))
    utterances = []
    for word, affect in zip(invent_words(words, seed), affects.tolist(), strict=True):
        for number, carrier in enumerate(carriers):

            def around(middle: float, shift: float, jitter: float, affect: int = affect) -> int:
                return round(middle + affect * strength * shift + rng.normal(0, jitter))

            utterances.append(
                Utterance(
                    key=f"{word}-{number:02d}",
                    text=carrier.format(word),
                    word=word,
                    affect=affect,
                    voice=voices[int(rng.integers(len(voices)))],
                    pitch=min(max(around(50, 18, 14), 0), 99),
                    range=min(max(around(50, 15, 12), 0), 99),
                    rate_wpm=min(max(around(170, 22, 18), 80), 450),
                    volume=min(max(around(100, 25, 20), 20), 200),
                )
            )
    order = np.random.default_rng([seed, 4]).permutation(len(utterances))
    return [utterances[i] for i in order.tolist()]
