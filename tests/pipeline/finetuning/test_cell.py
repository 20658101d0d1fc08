from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.finetuning.cell import Tokens, check_pooling, tokenize, train_cell
from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.mosei.questions import TASKS
from tests.helpers import cells
from tests.helpers.cells import RECIPE, data_for


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return cells.encoder(tmp_path_factory.mktemp("encoder"))


def test_a_seed_decides_the_scores_bit_for_bit(encoder):
    model, tokenizer = encoder
    data, task = data_for(tokenizer), TASKS["sentiment2-with-neutral"]
    first = train_cell(model, task, data, RECIPE, 3)
    torch.rand(17)  # whatever ran before must not matter
    again = train_cell(model, task, data, RECIPE, 3)
    assert np.array_equal(first.test_scores_nO, again.test_scores_nO)
    assert first.curve == again.curve
    assert first.epochs == again.epochs
    other = train_cell(model, task, data, RECIPE, 4)
    assert not np.array_equal(first.test_scores_nO, other.test_scores_nO)


def test_neither_the_encoder_nor_the_global_seed_is_touched(encoder):
    model, tokenizer = encoder
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train_cell(model, TASKS["sentiment2"], data_for(tokenizer, sizes=(32, 0, 8)), RECIPE, 0)
    assert torch.equal(torch.rand(3), wanted)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("task", "pooling"),
    [("sentiment2-with-neutral", "mean"), ("sentiment", "cls"), ("emotions", "mean")],
)
def test_it_learns_what_words_tell(encoder, task, pooling):
    model, tokenizer = encoder
    recipe = replace(RECIPE, epochs=6, pooling=pooling)
    data = data_for(tokenizer, task)
    outcome = train_cell(model, TASKS[task], data, recipe, 0)
    judged = TASKS[task].score(data["test"].labels, outcome.test_scores_nO)
    if task == "sentiment":
        assert judged["mae"] < 0.5 * judged["constant_mae"]
        assert judged["pearson"] > 0.85
    else:
        assert judged["balanced_accuracy"] > 0.9
    assert outcome.epochs[-1]["train_loss"] < outcome.epochs[0]["train_loss"]
    assert outcome.trained_tokens == 6 * sum(map(len, data["train"].ids))


def test_labels_that_texts_do_not_tell_are_not_learnt(encoder):
    """The control: permuted labels leave the test at chance."""
    model, tokenizer = encoder
    data = data_for(tokenizer, sizes=(192, 0, 200))
    rng = np.random.default_rng(0)
    data["train"] = replace(data["train"], labels=rng.permutation(data["train"].labels))
    outcome = train_cell(model, TASKS["sentiment2-with-neutral"], data, RECIPE, 0)
    judged = TASKS["sentiment2-with-neutral"].score(data["test"].labels, outcome.test_scores_nO)
    assert judged["balanced_accuracy"] < 0.7


def test_best_valid_gives_the_scores_of_its_epoch(encoder):
    """With a rate that ruins the later epochs, the chosen epoch's scores differ from the last."""
    model, tokenizer = encoder
    data, task = data_for(tokenizer), TASKS["sentiment2-with-neutral"]
    recipe = replace(RECIPE, epochs=5, selection="best-valid")
    best = train_cell(model, task, data, recipe, 0)
    scores = [epoch["valid_score"] for epoch in best.epochs]
    assert best.chosen_epoch == 1 + scores.index(max(scores))
    accuracy = task.score(data["valid"].labels, best.valid_scores_nO)["accuracy"]
    assert accuracy == max(scores)
    last = train_cell(model, task, data, replace(recipe, selection="last"), 0)
    assert last.chosen_epoch == 5
    assert last.epochs == best.epochs
    same = np.array_equal(last.test_scores_nO, best.test_scores_nO)
    assert same == (best.chosen_epoch == 5)


def test_long_texts_are_cut_as_the_tokenizer_cuts_and_counted(encoder):
    _, tokenizer = encoder
    texts = ["good " * 50, "bad"]
    tokens = tokenize(tokenizer, texts, 10)
    assert tokens.truncated == 1
    wanted = tokenizer(texts, truncation=True, max_length=10)["input_ids"]
    assert [row.tolist() for row in tokens.ids] == wanted
    assert tokens.ids[0][-1] == tokenizer.sep_token_id


def test_a_word_is_not_taken_for_the_whole_text(encoder):
    _, tokenizer = encoder
    bare = Tokens((np.array([tokenizer.convert_tokens_to_ids("g")], np.int32),), 0)
    with pytest.raises(SpeechkdError, match="--pooling mean"):
        check_pooling(bare, tokenizer, RECIPE)
    check_pooling(bare, tokenizer, replace(RECIPE, pooling="mean"))
    check_pooling(tokenize(tokenizer, ["good"], 10), tokenizer, RECIPE)


def test_a_loss_that_is_no_number_is_reported(encoder):
    model, tokenizer = encoder
    data = data_for(tokenizer, "sentiment", sizes=(32, 0, 8))
    data["train"] = replace(data["train"], labels=np.full(32, 1e38, np.float32))
    with pytest.raises(SpeechkdError, match=r"training loss is inf at step 1 of 4.*learning-rate"):
        train_cell(model, TASKS["sentiment"], data, RECIPE, 0)
