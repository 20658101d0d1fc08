"""A cell's scores follow from its seed alone, and learn what the texts tell and nothing else."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.finetuning.classifier import Classifier
from pipeline.finetuning.trainer import _Trainer, train_cell
from pipeline.foundation.errors import SpeechkdError
from tests.helpers import cells
from tests.helpers.cells import RECIPE, data_for


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return cells.encoder(tmp_path_factory.mktemp("encoder"))


def test_a_seed_decides_the_scores_bit_for_bit(encoder):
    model, tokenizer = encoder
    inputs, question = data_for(tokenizer)
    first = train_cell(model, inputs, question, RECIPE, 3)
    torch.rand(17)  # whatever ran before must not matter
    again = train_cell(model, inputs, question, RECIPE, 3)
    assert np.array_equal(first.test_scores_nO, again.test_scores_nO)
    assert first.curve == again.curve
    assert first.epochs == again.epochs
    other = train_cell(model, inputs, question, RECIPE, 4)
    assert not np.array_equal(first.test_scores_nO, other.test_scores_nO)


def test_neither_the_encoder_nor_the_global_seed_is_touched(encoder):
    model, tokenizer = encoder
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train_cell(model, *data_for(tokenizer, sizes=(32, 0, 8)), RECIPE, 0)
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
    inputs, question = data_for(tokenizer, task)
    outcome = train_cell(model, inputs, question, recipe, 0)
    metrics = question.task.score(question.labels["test"], outcome.test_scores_nO)
    if task == "sentiment":
        assert metrics["mae"] < 0.5 * metrics["constant_mae"]
        assert metrics["pearson"] > 0.85
    else:
        assert metrics["balanced_accuracy"] > 0.9
    assert outcome.epochs[-1]["train_loss"] < outcome.epochs[0]["train_loss"]
    assert outcome.trained_tokens == 6 * sum(len(inputs.ids[i]) for i in question.places["train"])


def test_where_values_lie_and_how_far_apart_changes_nothing(encoder):
    """A fresh head gives 0. Labels around 100 as they are leave it all training to get there."""
    model, tokenizer = encoder
    recipe = replace(RECIPE, epochs=6, value_scale="standard")
    inputs, question = data_for(tokenizer, "sentiment")
    moved = replace(question, labels={s: 7 * y + 100 for s, y in question.labels.items()})
    near = train_cell(model, inputs, question, recipe, 0)
    far = train_cell(model, inputs, moved, recipe, 0)
    np.testing.assert_allclose(far.test_scores_nO, 7 * near.test_scores_nO + 100, atol=0.2)
    for one, other in zip(near.epochs, far.epochs, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
        assert one["valid_loss"] == pytest.approx(other["valid_loss"], rel=1e-3)
    assert moved.score("test", far.test_scores_nO)["pearson"] > 0.85
    raw = train_cell(model, inputs, moved, replace(recipe, value_scale="raw"), 0)
    metrics = moved.score("test", raw.test_scores_nO)
    assert metrics["mae"] > 2 * metrics["constant_mae"]


@pytest.mark.parametrize("label", [0.0, 3.0, 1234567.9])
def test_values_that_are_all_alike_are_given_back(encoder, label):
    model, tokenizer = encoder
    recipe = replace(RECIPE, value_scale="standard")
    inputs, question = data_for(tokenizer, "sentiment", sizes=(32, 0, 8))
    alike = {s: np.full_like(y, label) for s, y in question.labels.items()}
    outcome = train_cell(model, inputs, replace(question, labels=alike), recipe, 0)
    assert np.abs(outcome.test_scores_nO - np.float32(label)).max() < 0.5


def test_labels_that_texts_do_not_tell_are_not_learnt(encoder):
    """The control: permuted labels leave the test at chance."""
    model, tokenizer = encoder
    inputs, question = data_for(tokenizer, sizes=(192, 0, 200))
    permuted = np.random.default_rng(0).permutation(question.labels["train"])
    question = replace(question, labels={**question.labels, "train": permuted})
    outcome = train_cell(model, inputs, question, RECIPE, 0)
    metrics = question.task.score(question.labels["test"], outcome.test_scores_nO)
    assert metrics["balanced_accuracy"] < 0.7


def test_best_valid_gives_the_scores_of_its_epoch(encoder):
    """With a rate that ruins the later epochs, the chosen epoch's scores differ from the last."""
    model, tokenizer = encoder
    inputs, question = data_for(tokenizer)
    recipe = replace(RECIPE, epochs=5, selection="best-valid")
    best = train_cell(model, inputs, question, recipe, 0)
    scores = [epoch["valid_score"] for epoch in best.epochs]
    assert best.chosen_epoch == 1 + scores.index(max(scores))
    metrics = question.task.score(question.labels["valid"], best.valid_scores_nO)
    assert metrics["accuracy"] == max(scores)
    last = train_cell(model, inputs, question, replace(recipe, selection="last"), 0)
    assert last.chosen_epoch == 5
    assert last.epochs == best.epochs
    same = np.array_equal(last.test_scores_nO, best.test_scores_nO)
    assert same == (best.chosen_epoch == 5)


def test_a_loss_that_is_no_number_is_reported(encoder):
    model, tokenizer = encoder
    inputs, question = data_for(tokenizer, "sentiment", sizes=(32, 0, 8))
    huge = {**question.labels, "train": np.full(32, 1e38, np.float32)}
    raw = replace(RECIPE, value_scale="raw")
    with pytest.raises(SpeechkdError, match=r"training loss is inf at step 1 of 4.*learning-rate"):
        train_cell(model, inputs, replace(question, labels=huge), raw, 0)


def test_scores_that_are_no_numbers_are_reported_although_every_loss_was_one(encoder):
    model, tokenizer = encoder
    inputs, question = data_for(tokenizer, sizes=(32, 0, 8))
    astray = replace(RECIPE, epochs=1, batch_size=32, learning_rate=1e38, warmup_fraction=0.0)
    with pytest.raises(SpeechkdError, match=r"step 1 of 1, 8 of 8 scores of split test are no"):
        train_cell(model, inputs, question, astray, 0)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_step_asks_the_device_for_nothing(encoder, pooling, monkeypatch):
    """No number is read back and no size depends on values: tensors of `meta` have none."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(  # the fused one, which does not wait either, has no form for `meta`
        "pipeline.finetuning.trainer.adamw", lambda module, *_: torch.optim.SGD(module.parameters())
    )
    model, tokenizer = encoder
    inputs, question = data_for(tokenizer)
    recipe, meta = replace(RECIPE, pooling=pooling), torch.device("meta")
    classifier = Classifier(copy.deepcopy(model), 2, recipe, torch.Generator()).to(meta)
    trainer = _Trainer(classifier, inputs, question, recipe, 0, lambda *_: None)
    loss = trainer._train_on(np.arange(8), meta)
    assert loss.device == meta
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(loss)
