"""Texts become tokens and batches without loss; what is cut is counted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.finetuning.inputs import TextInputs, check_pooling, tokenize
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.packing import pack
from tests.helpers import cells
from tests.helpers.cells import RECIPE, data_for


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return cells.encoder(tmp_path_factory.mktemp("encoder"))


def test_vectors_equal_a_loop_over_texts(encoder):
    model, tokenizer = encoder
    inputs, _ = data_for(tokenizer)
    places = [7, 0, 3, 250, 11]
    model.eval()
    with torch.no_grad():
        hidden = [
            model(
                input_ids=torch.from_numpy(row).long()[None],
                packed=pack(torch.from_numpy(row), torch.tensor([len(row)])),
            ).last_hidden_state[0]
            for row in (inputs.ids[i] for i in places)
        ]
        for pooling, pooled in (
            ("cls", [h[0] for h in hidden]),
            ("mean", [h.mean(0) for h in hidden]),
        ):
            torch.testing.assert_close(
                inputs.vectors(model, places, pooling), torch.stack(pooled), atol=1e-5, rtol=1e-4
            )


def test_batches_hold_each_text_once_with_neighbours_in_length(encoder):
    _, tokenizer = encoder
    inputs, question = data_for(tokenizer)
    places = question.places["test"]
    batches = list(inputs.batches(places))
    order = [i for batch in batches for i in batch]
    assert sorted(order) == list(range(len(places)))
    lengths = [inputs.size([places[i]]) for i in order]
    assert lengths == sorted(lengths)


def test_an_encoders_own_limit_cuts_texts_too(encoder):
    model, tokenizer = encoder
    words = ["good " * 1000]
    limit = model.config.max_position_embeddings
    inputs = TextInputs.of(words, replace(RECIPE, max_tokens=100_000), model, tokenizer)
    assert len(inputs.ids[0]) == limit
    assert inputs.truncated == 1


def test_long_texts_are_cut_as_the_tokenizer_cuts_and_counted(encoder):
    _, tokenizer = encoder
    texts = ["good " * 50, "bad"]
    inputs = tokenize(tokenizer, texts, 10)
    assert inputs.truncated == 1
    wanted = tokenizer(texts, truncation=True, max_length=10)["input_ids"]
    assert [row.tolist() for row in inputs.ids] == wanted
    assert inputs.ids[0][-1] == tokenizer.sep_token_id


def test_a_word_is_not_taken_for_the_whole_text(encoder):
    _, tokenizer = encoder
    bare = TextInputs((np.array([tokenizer.convert_tokens_to_ids("g")], np.int32),), 0)
    with pytest.raises(SpeechkdError, match="--pooling mean"):
        check_pooling(bare, tokenizer, RECIPE)
    check_pooling(bare, tokenizer, replace(RECIPE, pooling="mean"))
    check_pooling(tokenize(tokenizer, ["good"], 10), tokenizer, RECIPE)
