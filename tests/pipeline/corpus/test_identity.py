"""Digests of texts and tokenizers change with what a student reads, and with nothing else."""

from dataclasses import replace

import pytest
import torch

from pipeline.corpus.corpus import read_corpus
from pipeline.corpus.identity import texts_sha256, tokenizer_sha256
from pipeline.corpus.tokenization import train_wordpiece
from pipeline.models.loading import load_tokenizer
from tests.helpers.caches import make_cache

TEXTS = ["one two three", "four five six"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(lambda: TEXTS, 100, lowercase=True, max_tokens=32)


def corpus_of(cache, tokenizer, **changes):
    options = {"max_tokens": 32, "held_out_share": 0.1, "seed": 0, "with_vectors": False}
    return read_corpus(cache, tokenizer, **{**options, **changes})


def test_texts_are_the_same_whatever_is_drawn_and_whatever_the_vectors_are(tmp_path, tokenizer):
    cache = make_cache(tmp_path / "c", [12, 8])
    one = texts_sha256(corpus_of(cache, tokenizer))
    assert texts_sha256(corpus_of(cache, tokenizer, seed=1, with_vectors=True)) == one
    assert texts_sha256(corpus_of(cache, tokenizer, max_tokens=5)) != one
    assert texts_sha256(corpus_of(make_cache(tmp_path / "d", [12]), tokenizer)) != one


def test_every_part_counts(tmp_path, tokenizer):
    corpus = corpus_of(make_cache(tmp_path / "c", [12]), tokenizer)
    one = texts_sha256(corpus)
    for name in ("ids_N", "lengths_C", "recording_C"):
        changed = getattr(corpus, name).clone()
        changed[0] += 1
        assert texts_sha256(replace(corpus, **{name: changed})) != one
    wide = replace(corpus, ids_N=corpus.ids_N.to(torch.int32))
    assert texts_sha256(wide) != one  # told apart rather than taken for the same


def test_a_tokenizer_is_the_same_wherever_it_lies(tmp_path, tokenizer):
    for name in "ab":
        tokenizer.save_pretrained(tmp_path / name)
    digests = {tokenizer_sha256(load_tokenizer(str(tmp_path / name))) for name in "ab"}
    assert digests == {tokenizer_sha256(tokenizer)}
    cased = train_wordpiece(lambda: TEXTS, 100, lowercase=False, max_tokens=32)
    assert tokenizer_sha256(cased) not in digests
