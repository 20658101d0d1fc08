"""Likelihoods of minimal pairs, against one padded forward pass per masked token."""

from copy import deepcopy

import pytest
import torch
from transformers import AutoModelForMaskedLM

from pipeline.foundation.errors import SpeechkdError
from pipeline.models.encoders import load_masked_lm
from pipeline.tasks import minimal_pairs
from pipeline.tasks.minimal_pairs import log_likelihoods, word_ends
from tests.helpers.encoders import save_encoder

TEXTS = ["the cat sat on the mat", "a dog ran", "mat the on sat cat the", "cats", "the dog sat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("lm"), TEXTS)


def test_likelihoods_equal_one_padded_forward_a_masked_token(folder):
    """The definition, literally, through Hugging Face's own masked-LM forward."""
    _, student, tokenizer = load_masked_lm(str(folder))
    found = log_likelihoods(student, tokenizer, TEXTS)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    for text, value in zip(TEXTS, found, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        total = 0.0
        for place in range(1, ids.shape[1] - 1):
            masked = deepcopy(ids)
            masked[0, place] = tokenizer.mask_token_id
            with torch.no_grad():
                logits = model(input_ids=masked).logits
            total += float(logits[0, place].log_softmax(0)[ids[0, place]])
        assert value == pytest.approx(total, abs=1e-4)


WORDS = [*TEXTS, "unbelievably matted cats", "dogged sitting, catlike"]


def test_word_by_word_likelihoods_equal_one_padded_forward_a_token(folder):
    """Kauf & Ivanova's definition, literally: a token is masked with the later ones of its word."""
    _, student, tokenizer = load_masked_lm(str(folder))
    found = log_likelihoods(student, tokenizer, WORDS, masking="word-l2r")
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    longest = 0
    for text, value in zip(WORDS, found, strict=True):
        ids = tokenizer(text, return_tensors="pt")
        words = ids.word_ids()
        total = 0.0
        for place in range(1, len(words) - 1):
            hidden = [j for j in range(place, len(words)) if words[j] == words[place]]
            longest = max(longest, len(hidden))
            masked = deepcopy(ids["input_ids"])
            masked[0, hidden] = tokenizer.mask_token_id
            with torch.no_grad():
                logits = model(input_ids=masked).logits
            total += float(logits[0, place].log_softmax(0)[ids["input_ids"][0, place]])
        assert value == pytest.approx(total, abs=1e-4)
    assert longest > 2


def test_words_of_one_token_are_the_same_either_way(folder):
    _, student, tokenizer = load_masked_lm(str(folder))
    whole = [text for text in TEXTS if len(tokenizer(text)["input_ids"]) == len(text.split()) + 2]
    assert whole
    assert log_likelihoods(student, tokenizer, whole, masking="word-l2r") == pytest.approx(
        log_likelihoods(student, tokenizer, whole), abs=1e-5
    )


def test_where_words_end():
    assert word_ends([None, 0, 0, 0, 1, 2, 2, None], "x y z").tolist() == [1, 4, 4, 4, 5, 7, 7, 8]
    assert word_ends([None, 0, 0, None], "word").tolist() == [1, 3, 3, 4]


@pytest.mark.parametrize("words", [[], [None, 0, 0, 0, None], [None, None]])
def test_a_tokenizer_that_knows_no_words_is_refused(words):
    with pytest.raises(SpeechkdError, match="use --masking token"):
        word_ends(words, "two words")


def test_batches_do_not_matter(folder, monkeypatch):
    _, student, tokenizer = load_masked_lm(str(folder))
    together = log_likelihoods(student, tokenizer, TEXTS)
    monkeypatch.setattr("pipeline.tasks.minimal_pairs.TOKENS_PER_BATCH", 1)
    assert log_likelihoods(student, tokenizer, TEXTS) == pytest.approx(together, abs=1e-4)
    by_word = log_likelihoods(student, tokenizer, WORDS, masking="word-l2r")
    monkeypatch.undo()
    assert log_likelihoods(student, tokenizer, WORDS, masking="word-l2r") == pytest.approx(
        by_word, abs=1e-4
    )


def test_texts_that_cannot_be_scored_are_told(folder):
    _, student, tokenizer = load_masked_lm(str(folder))
    for text in ("", "the cat " * 40):
        with pytest.raises(SpeechkdError, match="must be 1 to 64"):
            log_likelihoods(student, tokenizer, [text])


def test_the_first_batches_are_like_the_rest_so_that_the_time_left_can_be_told(folder, monkeypatch):
    """Shortest first, a quarter of the batches had two thirds of the texts."""
    _, student, tokenizer = load_masked_lm(str(folder))
    monkeypatch.setattr(minimal_pairs, "TOKENS_PER_BATCH", 80)
    texts = [" ".join(["the cat"] * (1 + number % 4)) for number in range(120)]
    advanced = []
    log_likelihoods(student, tokenizer, texts, advanced.append)
    assert sum(advanced) == len(texts)
    quarter = sum(advanced[: len(advanced) // 4])
    assert 0.15 < quarter / len(texts) < 0.35
    shortest_first = sorted(advanced, reverse=True)
    assert sum(shortest_first[: len(advanced) // 4]) / len(texts) > 0.45
