"""The classifier: scores, head, losses, and inputs of another kind than text."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from pipeline.finetuning.classifier import Classifier, class_weights, loss_of, score
from pipeline.finetuning.trainer import train_cell
from pipeline.tasks.task import Question, Task
from tests.helpers import cells
from tests.helpers.cells import RECIPE, data_for


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return cells.encoder(tmp_path_factory.mktemp("encoder"))


def test_scores_do_not_depend_on_batch_mates(encoder):
    model, tokenizer = encoder
    classifier = Classifier(model, 2, RECIPE, torch.Generator().manual_seed(0))
    inputs, question = data_for(tokenizer)
    places = question.places["test"]
    together = score(classifier, inputs, places, RECIPE)
    assert together.shape == (64, 2)
    for i in (0, 17, 63):
        alone = score(classifier, inputs, [places[i]], RECIPE)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)
    assert score(classifier, inputs, [], RECIPE).shape == (0, 2)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_head_stands_on_the_pooled_vectors(encoder, pooling):
    model, tokenizer = encoder
    inputs, _ = data_for(tokenizer)
    recipe = replace(RECIPE, pooling=pooling)
    classifier = Classifier(model, 3, recipe, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        wanted = classifier.head(inputs.vectors(model, range(5), pooling))
        torch.testing.assert_close(classifier(inputs, range(5)), wanted)


class Numbers:
    """Another kind of input: each example is a row of numbers, which is its vector."""

    truncated = 0

    def __init__(self, rows):
        self.rows = rows

    def size(self, places):
        return len(places)

    def batches(self, places):
        yield list(range(len(places)))

    def vectors(self, _encoder, places, _pooling):
        return self.rows[list(places)]


def test_training_knows_of_inputs_what_the_interface_says_and_no_more(encoder):
    model, _ = encoder
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 96)
    rows = rng.normal(size=(96, model.config.hidden_size)) + 2 * labels[:, None] - 1
    places = {"train": range(64), "valid": range(64, 64), "test": range(64, 96)}
    task = Task("which", "classes", ("a", "b"), "which of two")
    question = Question(task, places, {s: labels[list(p)] for s, p in places.items()}, [""] * 32)
    inputs = Numbers(torch.tensor(rows, dtype=torch.float32))
    outcome = train_cell(model, inputs, question, replace(RECIPE, epochs=20), 0)
    assert task.score(question.labels["test"], outcome.test_scores_nO)["accuracy"] > 0.95
    assert outcome.trained_tokens == 20 * 64


def test_each_kind_of_task_has_its_loss():
    scores, flags = torch.randn(4, 6), torch.randint(0, 2, (4, 6))
    classes = torch.tensor([0, 5, 2, 2])
    torch.testing.assert_close(
        loss_of("classes", "mse", scores, classes),
        -torch.log_softmax(scores, 1)[range(4), classes].mean(),
    )
    p = torch.sigmoid(scores)
    torch.testing.assert_close(
        loss_of("flags", "mse", scores, flags),
        -(flags * p.log() + (1 - flags) * (1 - p).log()).mean(),
    )
    values = torch.randn(4)
    torch.testing.assert_close(
        loss_of("value", "mse", scores[:, :1], values), (scores[:, 0] - values).square().mean()
    )
    torch.testing.assert_close(
        loss_of("value", "l1", scores[:, :1], values), functional.l1_loss(scores[:, 0], values)
    )


def test_balanced_weights_are_scikit_learns():
    balanced = replace(RECIPE, class_weights="balanced")
    labels = np.array([0] * 30 + [1] * 5 + [3] * 15)
    weights = class_weights("classes", labels, 4, balanced)
    wanted = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(weights[[0, 1, 3]], wanted, rtol=1e-6)
    assert weights[2] == 0  # no label of training has it
    assert class_weights("classes", labels, 4, RECIPE) is None
    assert class_weights("value", labels, 1, balanced) is None
    flags = np.array([[1, 0, 0]] * 3 + [[0, 0, 1]] * 9)
    np.testing.assert_allclose(class_weights("flags", flags, 3, balanced), [3, 12, 1 / 3])


def test_weights_weigh_each_class_in_the_loss():
    scores, classes = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 2, 2])
    weights = torch.tensor([0.5, 2.0, 1.0])
    each = -torch.log_softmax(scores, 1)[range(6), classes]
    wanted = (weights[classes] * each).sum() / weights[classes].sum()
    torch.testing.assert_close(loss_of("classes", "mse", scores, classes, weights), wanted)
    flags = torch.randint(0, 2, (6, 3))
    p = torch.sigmoid(scores)
    each = -(weights * flags * p.log() + (1 - flags) * (1 - p).log())
    torch.testing.assert_close(loss_of("flags", "mse", scores, flags, weights), each.mean())


def test_balanced_weights_let_a_rare_class_be_answered(encoder):
    """One example in twenty is of the rare class, and its number tells a little."""
    model, _ = encoder
    rng = np.random.default_rng(0)
    labels = (np.arange(400) % 20 == 0).astype(np.int64)
    rows = rng.normal(size=(400, model.config.hidden_size))
    rows[:, 0] += labels
    places = {"train": range(200), "valid": range(200, 200), "test": range(200, 400)}
    task = Task("which", "classes", ("a", "b"), "which of two")
    question = Question(task, places, {s: labels[list(p)] for s, p in places.items()}, [""] * 200)
    inputs = Numbers(torch.tensor(rows, dtype=torch.float32))
    answered = []
    for weights in ("none", "balanced"):
        recipe = replace(RECIPE, epochs=4, class_weights=weights)
        scores = train_cell(model, inputs, question, recipe, 0).test_scores_nO
        answered.append(float(task.decide(scores).mean()))
    assert answered[1] > answered[0] + 0.1
