"""A whole step, packed, against the usual padded one written out with Hugging Face alone."""

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForMaskedLM

from pipeline.corpus.batches import Batches
from pipeline.corpus.corpus import read_corpus
from pipeline.corpus.masking import Masking
from pipeline.corpus.tokenization import train_wordpiece
from pipeline.corpus.word_corpus import read_words
from pipeline.distillation.module import Distillation, View
from pipeline.distillation.objectives import OBJECTIVES, Context, Options
from pipeline.models.student import Student
from tests.helpers.caches import make_cache, make_sequence_cache, samples_of
from tests.pipeline.models.test_packing import CONFIGS


@pytest.fixture(scope="module")
def corpus_and_tokenizer(tmp_path_factory):
    cache = make_cache(tmp_path_factory.mktemp("step") / "cache", [60])
    texts = samples_of(cache).texts
    tokenizer = train_wordpiece(lambda: texts, 99, lowercase=True, max_tokens=16)
    corpus = read_corpus(cache, tokenizer, max_tokens=16, held_out_share=0.1, seed=0)
    return corpus, tokenizer


def make(corpus_and_tokenizer, kind, kd, view=None, gamma=3.0):
    corpus, tokenizer = corpus_and_tokenizer
    torch.manual_seed(0)
    config = deepcopy(CONFIGS[kind])
    student = Student(AutoModelForMaskedLM.from_config(config))
    context = Context(32, corpus.vectors.statistics, Options(nst_pattern="vector"))
    objectives = {name: OBJECTIVES[name](context) for name in kd}
    module = Distillation(student, objectives, dict.fromkeys(kd, gamma), view or View())
    masking = Masking.of(tokenizer, 0.15)
    return module.eval(), Batches(corpus, masking, 12, seed=1).epoch(0)(1)


def padded(packed, values_N, fill):
    values_BL = torch.full(packed.grid_BL.shape, fill, dtype=values_N.dtype)
    values_BL[packed.valid_BL] = values_N
    return values_BL


def the_usual_way(module, batch, corpus, pad_id):
    """Padded forward, labels of -100, the head on every position; nst by its cosine."""
    model = module.student.model
    model.set_attn_implementation("sdpa")
    labels_N = torch.full_like(batch.masked_N, -100)
    labels_N[batch.chosen_K] = batch.packed.ids_N[batch.chosen_K]
    mask_BL = batch.packed.valid_BL.long()
    out = model(
        input_ids=padded(batch.packed, batch.masked_N, pad_id),
        attention_mask=mask_BL,
        labels=padded(batch.packed, labels_N, -100),
        output_hidden_states=True,
    )
    hidden_BLD = out.hidden_states[-1]
    objective = module.objectives["nst"]
    projected_BLE = objective.projection(hidden_BLD)
    teacher_BE = corpus.vectors.of(batch.clip_B)
    cosine_BL = functional.cosine_similarity(projected_BLE, teacher_BE[:, None], dim=-1)
    kd = (2 * (1 - cosine_BL**2) * mask_BL).sum() / mask_BL.sum()
    return out.loss, kd


@pytest.mark.parametrize("kind", CONFIGS)
def test_losses_and_gradients_of_a_packed_step_are_those_of_the_padded_one(
    corpus_and_tokenizer, kind
):
    corpus, _ = corpus_and_tokenizer
    module, batch = make(corpus_and_tokenizer, kind, ["nst"])
    losses = module(batch)
    losses["loss"].backward()

    reference, _ = make(corpus_and_tokenizer, kind, ["nst"])
    mlm, kd = the_usual_way(reference, batch, corpus, reference.student.model.config.pad_token_id)
    (mlm + 3 * kd).backward()

    torch.testing.assert_close(losses["loss/mlm"], mlm, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses["loss/nst"], kd, atol=1e-5, rtol=1e-5)
    wanted = {n: p.grad for n, p in reference.named_parameters() if p.grad is not None}
    got = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    assert got.keys() == wanted.keys()
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kd", [[], ["nst"], ["crd"], ["infonce", "l1", "cosine"]])
def test_loss_is_mlm_plus_the_weighted_objectives(corpus_and_tokenizer, kd):
    module, batch = make(corpus_and_tokenizer, "bert", kd)
    losses = module(batch)
    assert set(losses) >= {"loss", "loss/mlm", *(f"loss/{name}" for name in kd)}
    wanted = losses["loss/mlm"] + 3 * sum(losses[f"loss/{name}"] for name in kd)
    torch.testing.assert_close(losses["loss"], wanted)
    if kd:
        torch.testing.assert_close(
            losses["loss/kd"], sum(losses[f"loss/{name}"] for name in kd), msg="raw"
        )


def kd_gradient(module, batch, corpus):
    """Gradient of the objective alone, at the student's word embeddings."""
    losses = module(batch)
    (gradient,) = torch.autograd.grad(
        losses["loss/kd"], [module.student.encoder.get_input_embeddings().weight]
    )
    return losses["loss/kd"], gradient


def test_clean_pass_shows_the_objectives_no_mask(corpus_and_tokenizer):
    corpus, tokenizer = corpus_and_tokenizer
    for sees, expected in (("masked", True), ("clean", False)):
        module, batch = make(corpus_and_tokenizer, "bert", ["nst"], View(sees=sees))
        _, gradient = kd_gradient(module, batch, corpus)
        assert bool(gradient[tokenizer.mask_token_id].any()) == expected


@pytest.mark.parametrize("tokens", ["all", "mean"])
def test_special_tokens_count_only_if_asked(corpus_and_tokenizer, tokens):
    for special in (True, False):
        module, batch = make(
            corpus_and_tokenizer, "bert", ["cosine"], View(tokens, special=special)
        )
        hidden_ND = torch.randn(len(batch.clip_N), 32)
        plain = module.objectives["cosine"](module.pairs(hidden_ND, batch))
        noisy_ND = torch.where(batch.special_N[:, None], 9 * torch.randn_like(hidden_ND), hidden_ND)
        noisy = module.objectives["cosine"](module.pairs(noisy_ND, batch))
        assert torch.equal(plain, noisy) != special


def test_cls_and_mean_give_one_vector_a_clip(corpus_and_tokenizer):
    module, batch = make(corpus_and_tokenizer, "bert", ["cosine"])
    hidden_ND = torch.randn(len(batch.clip_N), 32)
    packed = batch.packed
    for tokens in ("cls", "mean"):
        module.view = View(tokens)
        pairs = module.pairs(hidden_ND, batch)
        assert pairs.clip_N.tolist() == list(range(12))
        for clip in range(12):
            mine_LD = hidden_ND[packed.sequence_N == clip]
            wanted_D = mine_LD[0] if tokens == "cls" else mine_LD.mean(0)
            torch.testing.assert_close(pairs.states_ND[clip], wanted_D)


def test_measured_ratio_is_that_of_gradients_at_the_hidden_states(corpus_and_tokenizer):
    module, batch = make(corpus_and_tokenizer, "bert", ["l1"])
    plain, measured = module(batch), module(batch, measure=True)
    torch.testing.assert_close(plain["loss"], measured["loss"])
    hidden_ND = module.student(batch.packed.with_ids(batch.masked_N)).detach().requires_grad_()
    logits = module.student.masked_lm_logits(hidden_ND[batch.chosen_K])
    mlm = functional.cross_entropy(logits, batch.packed.ids_N[batch.chosen_K])
    kd = 3 * module.objectives["l1"](module.pairs(hidden_ND, batch))
    for name, loss in (("mlm", mlm), ("kd", kd)):
        (gradient,) = torch.autograd.grad(loss, hidden_ND)
        torch.testing.assert_close(measured[f"gradient/{name}"], gradient.norm())
    assert "gradient/mlm" not in plain


def test_measured_cosine_and_its_baseline(corpus_and_tokenizer):
    """A student at its teacher scores 1; the mean vector's score does not depend on the student."""
    corpus, _ = corpus_and_tokenizer
    module, batch = make(corpus_and_tokenizer, "bert", ["cosine"])
    objective = module.objectives["cosine"]
    objective.projection = torch.nn.Identity()
    teacher_BE = objective.teacher(corpus.vectors.of(batch.clip_B))
    pairs = module.pairs(teacher_BE[batch.clip_N], batch)
    from pipeline.distillation.module import nearness

    got = nearness("cosine", objective, pairs)
    assert float(got["cosine/cosine"]) == pytest.approx(1, abs=1e-5)
    assert float(got["cosine/cosine_mean_vector"]) < 0.6
    collapsed = replace(pairs, states_ND=torch.ones_like(pairs.states_ND))
    flat = nearness("cosine", objective, collapsed)
    assert float(flat["spread/cosine"]) == pytest.approx(0, abs=1e-5)
    assert float(got["spread/cosine"]) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(got["cosine/cosine_mean_vector"], flat["cosine/cosine_mean_vector"])


META = torch.device("meta")
VIEWS = [View(), View("cls"), View("mean", special=False), View(sees="clean", special=False)]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.tokens}-{view.sees}")
@pytest.mark.parametrize("measure", [False, True])
def test_a_step_asks_the_device_for_nothing(corpus_and_tokenizer, view, measure, monkeypatch):
    """No number is read back and no size depends on values: tensors of `meta` have none."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    module, _ = make(corpus_and_tokenizer, "bert", OBJECTIVES, view)
    corpus, tokenizer = corpus_and_tokenizer
    batches = Batches(corpus, Masking.of(tokenizer, 0.15), 12, seed=1, extra_negatives=7)
    for pattern in ("vector", "batch", "token", "sequence"):
        module.objectives["nst"].pattern = pattern
        batch = replace(batches, device=META).epoch(0)(0)
        losses = module.to(META).train()(batch, measure=measure)
        losses["loss"].backward()
        assert {value.device for value in losses.values()} == {META}
        assert measure == ("gradient/kd" in losses)
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(losses["loss"] > 0)


def test_gradients_are_measured_outside_autocast(corpus_and_tokenizer, monkeypatch):
    """As those are that train: under autocast a backward pass may round once more."""
    module, batch = make(corpus_and_tokenizer, "bert", ["l1"])
    inside, real = [], torch.autograd.grad

    def grad(*args, **options):
        inside.append(torch.is_autocast_enabled("cpu"))
        return real(*args, **options)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    with torch.autocast("cpu", torch.bfloat16):
        module(batch, measure=True)
        assert torch.is_autocast_enabled("cpu")
    assert inside == [False, False]


@pytest.fixture(scope="module")
def batches_of_words(tmp_path_factory):
    cache = make_sequence_cache(
        tmp_path_factory.mktemp("words") / "cache", [60], "words", most_rows=40
    )
    texts = samples_of(cache).texts
    tokenizer = train_wordpiece(lambda: texts, 46, lowercase=True, max_tokens=64)
    corpus = read_corpus(
        cache, tokenizer, max_tokens=64, held_out_share=0.1, seed=0, with_vectors=False
    )
    words = read_words(cache, corpus, cache, tokenizer, max_tokens=64, seed=0).words
    return Batches(corpus, Masking.of(tokenizer, 0.15), 12, seed=1, words=words, extra_words=5)


def make_by_word(batches, kd, tokens="first", **options):
    torch.manual_seed(0)
    student = Student(AutoModelForMaskedLM.from_config(deepcopy(CONFIGS["bert"])))
    context = Context(32, batches.words.statistics, Options(**options), "word")
    objectives = {f"word_{name}": OBJECTIVES[name](context) for name in kd}
    view = View(word_tokens=tokens)
    return Distillation(student, objectives, dict.fromkeys(objectives, 2.0), view).eval()


@pytest.mark.parametrize("tokens", ["first", "mean"])
def test_a_words_student_vector_is_that_of_its_tokens(batches_of_words, tokens):
    batch = batches_of_words.epoch(0)(1)
    module = make_by_word(batches_of_words, ["l1"], tokens)
    hidden_ND = torch.randn(len(batch.clip_N), 32)
    pairs = module.pairs(hidden_ND, batch, "word")
    table = batches_of_words.words.table
    assert int(table.tokens_V.max()) > 1, "some words have several tokens"
    word_W, place_W = batches_of_words.words.of(batch.clip_B)
    for number, (word, place) in enumerate(zip(word_W, place_W, strict=True)):
        first = batch.packed.starts_B[place] + table.first_V[word]
        mine_TD = hidden_ND[first : first + table.tokens_V[word]]
        wanted_D = mine_TD[0] if tokens == "first" else mine_TD.mean(0)
        torch.testing.assert_close(pairs.states_ND[number], wanted_D)
    assert pairs.clip_N.tolist() == list(range(len(word_W)))
    objective = module.objectives["word_l1"]
    teacher_WE = objective.teacher(batches_of_words.words.vectors(word_W))
    wanted = (objective.student(pairs.states_ND) - teacher_WE).abs().mean()
    torch.testing.assert_close(objective(pairs), wanted)
    losses = module(batch)
    torch.testing.assert_close(losses["loss"], losses["loss/mlm"] + 2 * losses["loss/word_l1"])


@pytest.mark.parametrize("kd", OBJECTIVES)
def test_a_batch_without_words_costs_nothing_and_gives_every_part_a_gradient(batches_of_words, kd):
    nobody = replace(
        batches_of_words,
        words=replace(
            batches_of_words.words,
            place_C=torch.full_like(batches_of_words.words.place_C, -1),
        ),
        extra_words=0,
    )
    batch = replace(nobody, processes=1).make(nobody.order(0)[:12], "train", 0, 0)
    module = make_by_word(batches_of_words, [kd], nst_pattern="batch")
    losses = module(batch, measure=True)
    assert losses.keys() == {"loss", "loss/mlm"}, "a loss of zero would count in means"
    assert torch.equal(losses["loss"], losses["loss/mlm"])
    losses["loss"].backward()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize("tokens", ["first", "mean"])
@pytest.mark.parametrize("measure", [False, True])
def test_a_step_by_words_asks_the_device_for_nothing(
    batches_of_words, tokens, measure, monkeypatch
):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    module = make_by_word(batches_of_words, OBJECTIVES, tokens, nst_pattern="sequence")
    for pattern in ("vector", "batch", "sequence"):
        module.objectives["word_nst"].pattern = pattern
        batch = replace(batches_of_words, device=META).epoch(0)(0)
        losses = module.to(META).train()(batch, measure=measure)
        losses["loss"].backward()
        assert {value.device for value in losses.values()} == {META}
