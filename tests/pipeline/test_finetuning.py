from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch.nn import functional

from pipeline.errors import SpeechkdError
from pipeline.finetuning import (
    Examples,
    Judge,
    Recipe,
    Tokens,
    batches_by_length,
    check_pooling,
    loss_of,
    plane,
    score,
    tokenize,
    train_cell,
    vectors,
)
from pipeline.mosei.tasks import TASKS
from pipeline.packing import encode_packed, pack
from pipeline.pretrained import load_pretrained
from tests.encoders import save_encoder
from tests.pipeline.mosei.made import sentences

RECIPE = Recipe(
    epochs=2,
    learning_rate=3e-3,
    batch_size=16,
    warmup_fraction=0.1,
    weight_decay=0.01,
    dropout=0.1,
    clip_norm=1.0,
    pooling="cls",
    head="tanh",
    selection="last",
    regression_loss="mse",
    max_tokens=40,
    precision="fp32",
)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small lose time to a second thread, and other work may hold the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, [text for text, _ in sentences(200)])
    return load_pretrained(str(folder))[1:]


def data_for(tokenizer, task="sentiment2-with-neutral", sizes=(192, 32, 64)):
    made = sentences(sum(sizes))
    ids = tokenize(tokenizer, [text for text, _ in made], 40).ids
    values = np.array([value for _, value in made])
    labels = values.astype(np.float32) if task == "sentiment" else (values > 0).astype(np.int64)
    if task == "emotions":
        labels = np.stack([labels, 1 - labels] * 3, 1)
    ends = np.cumsum([0, *sizes])
    return {
        split: Examples(ids[a:b], labels[a:b])
        for split, a, b in zip(("train", "valid", "test"), ends, ends[1:], strict=False)
    }


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
    judged = TASKS[task].judge(data["test"].labels, outcome.test_scores_nO)
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
    judged = TASKS["sentiment2-with-neutral"].judge(data["test"].labels, outcome.test_scores_nO)
    assert judged["balanced_accuracy"] < 0.7


def test_best_valid_gives_the_scores_of_its_epoch(encoder):
    """With a rate that ruins the later epochs, the chosen epoch's scores differ from the last."""
    model, tokenizer = encoder
    data, task = data_for(tokenizer), TASKS["sentiment2-with-neutral"]
    recipe = replace(RECIPE, epochs=5, selection="best-valid")
    best = train_cell(model, task, data, recipe, 0)
    scores = [epoch["valid_score"] for epoch in best.epochs]
    assert best.chosen_epoch == 1 + scores.index(max(scores))
    accuracy = task.judge(data["valid"].labels, best.valid_scores_nO)["accuracy"]
    assert accuracy == max(scores)
    last = train_cell(model, task, data, replace(recipe, selection="last"), 0)
    assert last.chosen_epoch == 5
    assert last.epochs == best.epochs
    same = np.array_equal(last.test_scores_nO, best.test_scores_nO)
    assert same == (best.chosen_epoch == 5)


def test_scores_do_not_depend_on_batch_mates(encoder):
    model, tokenizer = encoder
    judge = Judge(model, 2, RECIPE, torch.Generator().manual_seed(0))
    ids = data_for(tokenizer)["test"].ids
    together = score(judge, ids, CPU, RECIPE)
    for i in (0, 17, 63):
        np.testing.assert_allclose(
            score(judge, ids[i : i + 1], CPU, RECIPE)[0], together[i], atol=1e-5
        )


def test_pooling_equals_a_loop_over_sequences(encoder):
    model, tokenizer = encoder
    ids = data_for(tokenizer)["test"].ids[:5]
    packed = pack(torch.from_numpy(np.concatenate(ids)), torch.tensor([len(row) for row in ids]))
    for pooling in ("cls", "mean"):
        judge = Judge(
            model, 3, replace(RECIPE, pooling=pooling), torch.Generator().manual_seed(0)
        ).eval()
        with torch.no_grad():
            hidden = [
                model.eval()(
                    input_ids=torch.from_numpy(row).long()[None],
                    packed=pack(torch.from_numpy(row), torch.tensor([len(row)])),
                ).last_hidden_state[0]
                for row in ids
            ]
            pooled = [h[0] if pooling == "cls" else h.mean(0) for h in hidden]
            torch.testing.assert_close(
                judge(packed), judge.head(torch.stack(pooled)), atol=1e-5, rtol=1e-4
            )


def test_vectors_are_means_of_hidden_states(encoder):
    model, tokenizer = encoder
    ids = data_for(tokenizer)["test"].ids[:6]
    found = vectors(model, ids)
    for row, vector in zip(ids, found, strict=True):
        packed = pack(torch.from_numpy(row), torch.tensor([len(row)]))
        with torch.no_grad():
            np.testing.assert_allclose(
                vector, encode_packed(model.eval(), packed).mean(0), atol=1e-5
            )


def test_the_plane_is_scikit_learns_first_two_components():
    vectors_nD = np.random.default_rng(0).normal(size=(200, 7)) @ np.diag([5, 3, 2, 1, 1, 1, 1])
    points_n2, share = plane(vectors_nD)
    reference = PCA(2).fit(vectors_nD)
    np.testing.assert_allclose(np.abs(points_n2), np.abs(reference.transform(vectors_nD)))
    assert share == pytest.approx(reference.explained_variance_ratio_.sum())
    assert plane(np.ones((4, 3)))[1] == 0


def test_losses():
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


@settings(deadline=None)
@given(st.lists(st.integers(1, 128), max_size=80), st.integers(1, 300))
def test_batches_by_length_hold_each_text_once(lengths, tokens):
    batches = list(batches_by_length(lengths, tokens))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[i] for i in batch) <= tokens
