"""Tokens find their words by letters, whatever cuts the text: spaces, punctuation or pieces."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pipeline.corpus.tokenization import train_wordpiece
from pipeline.corpus.word_spans import NOBODY, owners, spelled, word_of_tokens

SPOKEN = [
    ("We found the brelvock, didn't we?", ["We", "found", "the", "brelvock,", "didn't", "we?"]),
    ("We found the brelvock, didn't we?", ["we", "found", "the", "brelvock", "didnt", "we"]),
    ("twenty-one o'clock", ["twenty", "one", "o'", "clock"]),
    ("  Hm — yes…  ", ["Hm", "—", "yes"]),
    ("Straße und ΟΔΟΣ ﬁne", ["strasse", "und", "οδος", "fine"]),
    ("cafe\u0301 נקודה שלום", ["caf\u00e9", "נקודה", "שלום"]),
    ("今天天气好", ["今天", "天气", "好"]),
    ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
    ("", []),
]


def by_brute_force(text, words):
    """Take letters off the text one by one, and give each to the word that is next."""
    owner = [NOBODY] * len(text)
    wanted = [
        (number, letter)
        for number, word in enumerate(words)
        for character in word
        for letter in unicodedata.normalize("NFKD", character).casefold()
        if unicodedata.category(letter)[0] in "LMN"
    ]
    for place, character in enumerate(text):
        for letter in unicodedata.normalize("NFKD", character).casefold():
            if unicodedata.category(letter)[0] in "LMN":
                number, expected = wanted.pop(0)
                assert letter == expected
                owner[place] = number if owner[place] == NOBODY else owner[place]
    for number in set(owner) - {NOBODY}:
        mine = [i for i, o in enumerate(owner) if o == number]
        owner[mine[0] : mine[-1] + 1] = [number] * (mine[-1] - mine[0] + 1)
    assert not wanted
    return owner


@pytest.mark.parametrize(("text", "words"), SPOKEN)
def test_characters_belong_to_the_word_that_they_spell(text, words):
    owner_X = owners(text, words)
    assert owner_X is not None
    assert owner_X.tolist() == by_brute_force(text, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a cat sat", ["a", "cat"]), ("a cat", ["a", "cat", "sat"]), ("a cat", ["a", "dog"]),
     ("", ["a"]), ("a", [])],
)  # fmt: skip
def test_words_that_spell_another_text_have_no_characters(text, words):
    assert owners(text, words) is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
@example("ÀÉ İ ß ŉ ǅ")
def test_ascii_is_no_other_case(text):
    """The quick way for ASCII gives what the other one gives."""
    letters, place_L = spelled(text)
    assert len(letters) == len(place_L)
    padded, places = spelled(text + " é")
    assert padded == letters + "e\u0301"
    assert places[: len(place_L)].tolist() == place_L.tolist()


def bytes_tokenizer(texts):
    """Byte-level pieces, which may be half a character and may begin with a space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="<mask>")  # noqa: S106


@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
def test_tokens_of_real_tokenizers_find_their_words(kind):
    texts = [text for text, _ in SPOKEN if text] * 3
    tokenizer = (
        train_wordpiece(lambda: texts, 150, lowercase=True, max_tokens=64)
        if kind == "wordpiece"
        else bytes_tokenizer(texts)
    )
    for text, words in SPOKEN:
        encoded = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        spans = np.array(encoded.offsets, np.int64).reshape(-1, 2)
        owner_X = owners(text, words)
        word_N = word_of_tokens(owner_X, spans[:, 0], spans[:, 1])
        for (start, end), word in zip(spans.tolist(), word_N.tolist(), strict=True):
            letters = [o for o in owner_X[start:end].tolist() if o != NOBODY]
            assert word == (letters[0] if letters else NOBODY)
        spoken = {number for number, word in enumerate(words) if spelled(word)[0]}
        assert set(word_N.tolist()) - {NOBODY} == spoken, "each word has a token"


def test_punctuation_belongs_to_nobody_and_an_apostrophe_to_its_word():
    text, words = SPOKEN[0]
    owner_X = owners(text, words)
    assert owner_X[text.index(",")] == NOBODY
    assert owner_X[text.index("?")] == NOBODY
    assert owner_X[text.index("'")] == 4
    comma = text.index(",")
    token = word_of_tokens(owner_X, np.array([comma, 9, 33]), np.array([comma + 1, 9, 34]))
    assert token.tolist() == [NOBODY, NOBODY, NOBODY], "a comma, no character, beyond the end"
