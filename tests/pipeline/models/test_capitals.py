"""Texts in capitals under tokenizers that know them, drop case, or spell them."""

import pytest

from pipeline.corpus.tokenization import train_byte_pairs
from pipeline.models.capitals import capitals_doubt

SMALL = ["the cat sat on the mat", "a cat and another cat"] * 20
CAPITALS = [text.upper() for text in SMALL]


def tokenizer(texts, lowercase):
    return train_byte_pairs(lambda: texts, 400, lowercase=lowercase, max_tokens=64)


@pytest.mark.parametrize(
    ("learnt", "lowercase", "texts", "warns"),
    [
        (SMALL, False, CAPITALS, True),
        (SMALL, True, CAPITALS, False),
        (CAPITALS, False, CAPITALS, False),
        (SMALL, False, SMALL, False),
        (SMALL, False, [*SMALL, CAPITALS[0]], False),
        (SMALL, False, ["123"], False),
        (SMALL, False, [], False),
    ],
)
def test_words_that_are_spelled_are_warned_of(learnt, lowercase, texts, warns):
    told = capitals_doubt(tokenizer(learnt, lowercase), texts)
    assert bool(told) == warns
    if warns:
        assert told.startswith("WARNING: texts in capitals take ")
