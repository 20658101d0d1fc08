"""Vectors of clips and words against plain transformers, text by text."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from pipeline.corpus.word_spans import owners
from pipeline.models.student import load_encoder
from pipeline.tasks.hearing.states import encode, tokenize
from pipeline.tasks.hearing.words import Spoken, asked_words
from tests.helpers.encoders import save_encoder

TEXTS = ["Unbelievable, he said!", "no", "the unbelievable cat, said he, is an unbelievable cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_encoder(
        tmp_path_factory.mktemp("encoder"), ["the cat is no said he an", "un believ"]
    )


def spoken(text):
    words, times = text.split(), np.arange(len(text.split()), dtype=float)
    return Spoken(words, times, times + 1, np.ones(len(words), bool), 0, owners(text, words))


def by_hand(folder, pooling, word_tokens, longest=64):
    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    clips, words = [], []
    for text in TEXTS:
        read = tokenizer(
            text, return_tensors="pt", return_offsets_mapping=True, truncation=True,
            max_length=longest,
        )  # fmt: skip
        offsets = read.pop("offset_mapping")[0].tolist()
        with torch.inference_mode():
            states = encoder.eval()(**read).last_hidden_state[0]
        clips.append(states[0] if pooling == "cls" else states[1:-1].mean(0))
        end = 0
        for word in text.split():
            start = text.index(word, end)
            end = start + len(word)
            letters = range(start, start + len(word.strip(",!")))
            mine = [i for i, (a, b) in enumerate(offsets) if a in letters and b > a]
            words.append(states[mine[0]] if word_tokens == "first" else states[mine].mean(0))
    return torch.stack(clips).numpy(), torch.stack(words).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("word_tokens", ["first", "mean"])
def test_vectors_are_those_of_plain_transformers(folder, pooling, word_tokens):
    encoder, tokenizer = load_encoder(str(folder))
    said = [spoken(text) for text in TEXTS]
    texts = tokenize(tokenizer, TEXTS, 64, said)
    words = asked_words(said, [[set(one) for one in texts.words_C]], "CACHE")
    got = encode(encoder, texts, words, pooling, word_tokens)
    wanted = by_hand(folder, pooling, word_tokens)
    assert any(own.count > 1 for one in texts.words_C for own in one.values())
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_words_that_the_end_cuts_off_are_none(folder):
    _, tokenizer = load_encoder(str(folder))
    said = [spoken(text) for text in TEXTS]
    whole, cut = tokenize(tokenizer, TEXTS, 64, said), tokenize(tokenizer, TEXTS, 12, said)
    assert cut.truncated > 0
    assert set(cut.words_C[2]) < set(whole.words_C[2])
    last = max(own.first + own.count for own in cut.words_C[2].values())
    assert last <= 11  # the last of the twelve is special


def test_a_text_without_a_letter_is_silent_and_has_zeros(folder):
    encoder, tokenizer = load_encoder(str(folder))
    texts = tokenize(tokenizer, ["", "no"], 64)
    assert texts.silent_C.tolist() == [True, False]
    clips, _ = encode(encoder, texts, None, "mean", "first")
    assert not clips[0].any()
    assert clips[1].any()
