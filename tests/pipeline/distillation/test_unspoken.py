"""Texts without speech: they are learnt as texts, and no objective sees them."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForMaskedLM, BertConfig

from pipeline.corpus.batches import Batches
from pipeline.corpus.corpus import read_corpus, split_by_recording, split_parts
from pipeline.corpus.masking import Masking
from pipeline.corpus.sources import TextTables
from pipeline.corpus.word_corpus import read_words
from pipeline.distillation.assembly import make_workload
from pipeline.distillation.module import Distillation, View
from pipeline.distillation.objectives import OBJECTIVES, Context, Options
from pipeline.models.student import Student
from pipeline.training.checkpoint import Progress
from pipeline.training.loop import validate
from tests.helpers.caches import make_cache, make_sequence_cache, wordpiece

TEXTS = [f"the {w} cat sang{' far' * (i % 5)} on a dog" for i in range(20) for w in ("red", "blue")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unspoken")
    cache = make_cache(folder / "cache", [60, 20])
    words = make_sequence_cache(folder / "words", [60, 20], "words", teacher="made-up")
    (folder / "t.txt").write_text("\n".join(TEXTS))
    return cache, words, TextTables((folder / "t.txt",)), wordpiece(cache)


def corpus_of(cache, tables, tokenizer, **changes):
    options = {"max_tokens": 32, "held_out_share": 0.1, "seed": 0, **changes}
    return read_corpus(cache, tokenizer, tables=tables, **options)


def student(tokenizer):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return Student(AutoModelForMaskedLM.from_config(config))


def distillation(tokenizer, statistics, names, view, level="clip"):
    context = Context(32, statistics, Options(crd_symmetric=True), level)
    prefix = "word_" if level == "word" else ""
    objectives = {prefix + name: OBJECTIVES[name](context) for name in names}
    return Distillation(student(tokenizer), objectives, dict.fromkeys(objectives, 2.0), view).eval()


@pytest.mark.parametrize(
    "view",
    [View(sees="clean"), View(sees="clean", special=False), View("cls", "clean"),
     View("mean", "clean")],
    ids=["all", "no-special", "cls", "mean"],
)  # fmt: skip
def test_objectives_of_a_mixed_batch_are_those_of_its_clips_with_speech(made, view):
    cache, _, tables, tokenizer = made
    alone, mixed = (corpus_of(cache, t, tokenizer) for t in (None, tables))
    module = distillation(tokenizer, alone.vectors.statistics, ("crd", "nst", "l1"), view)
    make = [
        Batches(corpus, Masking.of(tokenizer, 0.15), 12, seed=1, extra_negatives=9)
        for corpus in (alone, mixed)
    ]
    clip_B = torch.tensor([3, 85, 41, 90, 119, 7, 70, 100])
    spoken = make[0].make(clip_B[clip_B < 80], "train", 0, 0)
    whole = make[1].make(clip_B, "train", 0, 0)
    wanted, got = module(spoken), module(whole)
    for name in ("loss/crd", "loss/nst", "loss/l1", "loss/kd"):
        torch.testing.assert_close(got[name], wanted[name], atol=1e-5, rtol=1e-5, msg=name)
    assert whole.whole.corpus_clips == len(alone.train)
    gradient = torch.autograd.grad(
        got["loss/kd"], module.student.encoder.get_input_embeddings().weight
    )[0]
    mine = torch.autograd.grad(
        wanted["loss/kd"], module.student.encoder.get_input_embeddings().weight
    )[0]
    torch.testing.assert_close(gradient, mine, atol=1e-5, rtol=1e-4)


def test_words_of_a_mixed_batch_are_those_of_its_clips_with_speech(made):
    _, words, tables, tokenizer = made
    losses = []
    for tables_or_none, clips in ((None, [3, 41, 7]), (tables, [3, 90, 41, 119, 7])):
        corpus = corpus_of(words, tables_or_none, tokenizer, with_vectors=False)
        taught = read_words(words, corpus, words, tokenizer, max_tokens=32, seed=0).words
        batches = Batches(
            corpus, Masking.of(tokenizer, 0.15), 12, seed=1, words=taught, extra_words=5
        )
        module = distillation(tokenizer, taught.statistics, ("crd",), View(sees="clean"), "word")
        losses.append(module(batches.make(torch.tensor(clips), "train", 0, 0))["loss/kd"])
    torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=1e-5)


def test_masked_lm_of_texts_alone_is_that_of_hugging_face(made):
    _, _, tables, tokenizer = made
    corpus = corpus_of(None, tables, tokenizer)
    assert corpus.spoken == 0
    batches = Batches(corpus, Masking.of(tokenizer, 0.15), 8, seed=1)
    batch = batches.epoch(0)(1)
    module = Distillation(student(tokenizer), {}, {}, View()).eval()
    own = tokenizer([TEXTS[clip] for clip in batch.clip_B], padding=True, return_tensors="pt")
    valid = own["attention_mask"].bool()
    assert torch.equal(own["input_ids"][valid], batch.packed.ids_N.long())
    masked, labels = own["input_ids"].clone(), torch.full_like(own["input_ids"], -100)
    masked[valid] = batch.masked_N.long()
    chosen = torch.zeros(len(batch.masked_N), dtype=torch.bool)
    chosen[batch.chosen_K] = True
    labels[valid] = torch.where(chosen, batch.packed.ids_N.long(), -100)
    losses = module(batch)
    module.student.model.set_attn_implementation("sdpa")
    wanted = module.student.model(
        input_ids=masked, attention_mask=own["attention_mask"], labels=labels
    ).loss
    torch.testing.assert_close(losses["loss/mlm"], wanted, atol=1e-5, rtol=1e-5)
    assert losses.keys() == {"loss", "loss/mlm"}


def test_a_batch_without_speech_teaches_nothing_and_still_has_every_gradient(made):
    cache, _, tables, tokenizer = made
    corpus = corpus_of(cache, tables, tokenizer)
    module = distillation(tokenizer, corpus.vectors.statistics, ("crd", "nst"), View())
    batches = Batches(corpus, Masking.of(tokenizer, 0.15), 4, seed=1, extra_negatives=9)
    losses = module(batches.make(torch.tensor([81, 99, 110, 100]), "train", 0, 0), measure=True)
    torch.testing.assert_close(losses["loss"], losses["loss/mlm"])
    losses["loss"].backward()
    for name, parameter in module.objectives.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


def test_held_out_losses_of_objectives_are_those_without_texts(made):
    """Batches without speech, of which there are more here, must not count as ones of no loss."""
    cache, _, tables, tokenizer = made
    alone, mixed = (corpus_of(cache, t, tokenizer, held_out_share=0.4) for t in (None, tables))
    module = distillation(tokenizer, alone.vectors.statistics, ("crd", "l1"), View(sees="clean"))
    clips = len(alone.held_out) // 2
    results = []
    for corpus in (alone, mixed):
        batches = Batches(corpus, Masking.of(tokenizer, 0.15), clips, seed=1, extra_negatives=9)
        progress, log = Progress(), SimpleNamespace(validation=lambda *_: None)
        validate(make_workload(module, batches, None), log, progress, 0, nullcontext())
        results += progress.validation
    assert len(mixed.held_out) >= 3 * clips
    for name in ("loss/crd", "loss/l1", "loss/kd", "loss/kd_weighted", "cosine/l1"):
        assert results[1][name] == pytest.approx(results[0][name], rel=1e-5), name
    assert results[1]["loss/mlm"] != results[0]["loss/mlm"]


@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_a_control_draws_as_if_there_were_no_texts(made, control):
    cache, _, tables, tokenizer = made
    alone, mixed = (corpus_of(cache, t, tokenizer, control=control) for t in (None, tables))
    every = torch.arange(80)
    assert torch.equal(alone.vectors.of(every), mixed.vectors.of(every))
    assert torch.equal(alone.held_out, mixed.spoken_held_out)


@pytest.mark.parametrize("view", [View(), View("mean", special=False), View("cls")])
def test_shares_of_processes_add_up_to_the_whole(made, view):
    cache, _, tables, tokenizer = made
    corpus = corpus_of(cache, tables, tokenizer)
    module = distillation(tokenizer, corpus.vectors.statistics, ("l1",), view)
    batches = Batches(corpus, Masking.of(tokenizer, 0.15), 7, seed=1)
    clip_B = torch.tensor([3, 85, 41, 90, 119, 7, 70])
    whole = batches.make(clip_B, "train", 0, 0)
    one = module.pairs(torch.randn(len(whole.masked_N), 32), whole)
    seen, total = [], 0.0
    for process in range(3):
        part = replace(batches, process=process, processes=3).make(clip_B, "train", 0, 0)
        assert part.spoken is not None
        pairs = module.pairs(torch.randn(len(part.masked_N), 32), part)
        seen += list(zip(pairs.clip_N.tolist(), pairs.place_N.tolist(), strict=True))
        total += float(pairs.weight_N.sum())
    assert sorted(seen) == sorted(zip(one.clip_N.tolist(), one.place_N.tolist(), strict=True))
    assert total == float(one.weight_N.sum()) == float(one.total)


@pytest.mark.parametrize("pattern", ["vector", "batch", "token", "sequence"])
@pytest.mark.parametrize("view", [View(), View("mean", special=False)], ids=["all", "mean"])
def test_a_process_without_speech_of_its_own_adds_nothing_and_has_gradients(made, view, pattern):
    cache, _, tables, tokenizer = made
    corpus = corpus_of(cache, tables, tokenizer)
    module = distillation(tokenizer, corpus.vectors.statistics, tuple(OBJECTIVES), view)
    module.objectives["nst"].pattern = pattern
    batches = Batches(corpus, Masking.of(tokenizer, 0.15), 6, seed=1, extra_negatives=9)
    clip_B = torch.tensor([3, 85, 41, 90, 7, 119])  # the second of two has texts alone
    part = replace(batches, process=1, processes=2).make(clip_B, "train", 0, 0)
    losses = module(part, measure=True)
    assert float(losses["loss/l1"].detach()) == float(losses["loss/cosine"].detach()) == 0
    losses["loss"].backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_texts_are_held_out_apart_and_with_the_recordings_they_are_of():
    recording_C = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, -1, -1, *[4] * 5, *[5] * 5, 0, 1, 2, 3])
    for seed in range(5):
        train, out = split_parts(recording_C, 10, 0.3, seed)
        wanted = split_by_recording(recording_C[:10], 0.3, seed)
        assert torch.equal(train[train < 10], wanted[0])
        assert torch.equal(out[out < 10], wanted[1])
        assert sorted([*train.tolist(), *out.tolist()]) == list(range(24))
        of = [set(recording_C[part][recording_C[part] >= 0].tolist()) for part in (train, out)]
        assert not of[0] & of[1]
        assert (out >= 10).any()
