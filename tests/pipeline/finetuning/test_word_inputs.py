"""Words of texts as vectors: against Hugging Face on single texts, and what cannot be read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from pipeline.finetuning.classifier import Classifier, score
from pipeline.finetuning.word_inputs import WordInputs
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.encoders import load_pretrained
from pipeline.tasks.word_labels import MarkedText
from tests.helpers.cells import RECIPE
from tests.helpers.encoders import save_encoder

LINES = [
    ("You DID-it, unbelievable!", (0, 1, 1)),
    ("no", (1,)),
    ("well -- nobody knows that", (-1, -1, 1, 0, 0)),
    ("unbelievable unbelievable unbelievable so", (0, -1, 1, 0)),
]
TEXTS = [MarkedText(tuple(text.split()), marks) for text, marks in LINES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    texts = [text for text, _ in LINES[:3]] * 3
    return save_encoder(tmp_path_factory.mktemp("encoder") / "e", texts)


@pytest.fixture(scope="module")
def encoder(folder):
    return load_pretrained(str(folder))[1:]


def by_hand(folder, text, word, pooling):
    """The vector of a word by Hugging Face alone: its tokens by their characters."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    encoded = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    offsets = encoded.pop("offset_mapping")[0].tolist()
    begin = len(" ".join(text.split()[:word])) + (word > 0)
    end = begin + len(text.split()[word])
    mine = [i for i, (a, b) in enumerate(offsets) if b > a and a >= begin and b <= end]
    with torch.no_grad():
        hidden = model.eval()(**encoded).last_hidden_state[0]
    return hidden[mine[0]] if pooling == "cls" else hidden[mine].mean(0)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_vector_of_a_word_is_that_of_its_tokens(folder, encoder, pooling):
    model, tokenizer = encoder
    inputs = WordInputs.of_words(TEXTS, RECIPE, model, tokenizer)
    places = [2, 0, 3]
    with torch.no_grad():
        vectors = inputs.vectors(model.eval(), places, pooling)
    wanted = [
        by_hand(folder, LINES[place][0], word, pooling)
        for place in places
        for word in TEXTS[place].places
    ]
    torch.testing.assert_close(vectors, torch.stack(wanted), atol=1e-5, rtol=1e-4)
    assert inputs.truncated == 0
    assert inputs.unknown is not None


def test_scores_stand_in_the_order_of_words_whatever_the_batches(encoder, monkeypatch):
    model, tokenizer = encoder
    inputs = WordInputs.of_words(TEXTS, RECIPE, model, tokenizer)
    classifier = Classifier(model, 2, RECIPE, torch.Generator().manual_seed(0))
    answers = [len(text.places) for text in TEXTS]
    together = score(classifier, inputs, range(4), RECIPE, answers=answers)
    monkeypatch.setattr("pipeline.finetuning.inputs.SCORED_TOKENS_PER_BATCH", 12)
    apart = score(classifier, inputs, range(4), RECIPE, answers=answers)
    alone = [score(classifier, inputs, [i], RECIPE, answers=[n]) for i, n in enumerate(answers)]
    np.testing.assert_allclose(apart, together, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)
    assert len(list(inputs.batches(range(4)))) > 1


def test_what_a_form_or_the_limit_takes_away_is_answered_unread_and_said(encoder, capsys):
    model, tokenizer = encoder
    texts = [MarkedText(("so", "...", "no"), (0, 1, 0)), MarkedText(("no",) * 30, (0, 1) * 15)]
    recipe = replace(RECIPE, text_form="no-punctuation", max_tokens=12)
    inputs = WordInputs.of_words(texts, recipe, model, tokenizer)
    vectors = inputs.vectors(model, [0, 1], "cls")
    assert len(vectors) == 33
    assert vectors[1].abs().sum() == 0
    assert vectors[0].abs().sum() > 0
    assert vectors[2].abs().sum() > 0
    unread = int((vectors.abs().sum(1) == 0).sum())
    assert unread == 1 + 30 - 10 // len(tokenizer("no", add_special_tokens=False)["input_ids"])
    assert f"{unread} words of 2 texts have no token" in capsys.readouterr().err
    assert inputs.truncated == 1


def test_the_form_is_read_word_by_word(encoder):
    model, tokenizer = encoder
    recipe = replace(RECIPE, text_form="no-punctuation")
    inputs = WordInputs.of_words(TEXTS, recipe, model, tokenizer)
    whole = tokenizer("you did it unbelievable")["input_ids"]
    assert inputs.ids[0].tolist() == whole
    assert (inputs.owners[0] == 1).sum() == len(tokenizer.tokenize("did it"))


def test_a_tokenizer_that_does_not_tell_characters_is_refused(encoder, monkeypatch):
    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", property(lambda _: False))
    with pytest.raises(SpeechkdError, match="which characters its tokens cover"):
        WordInputs.of_words(TEXTS, RECIPE, *encoder)
