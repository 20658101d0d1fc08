"""CTAL's losses by brute force, and which part of the model each of them trains."""

from dataclasses import replace

import pytest
import torch
from transformers import RobertaConfig, RobertaForMaskedLM

from pipeline.corpus.frame_features import FrameFeatures, front_end
from pipeline.corpus.masking import Masking
from pipeline.corpus.row_batches import RowBatches
from pipeline.corpus.row_corpus import read_rows
from pipeline.models.student import Student
from pipeline.models.text_referred import AudioConfig, AudioStack
from pipeline.pretraining.ctal.batches import CtalMaker
from pipeline.pretraining.ctal.masking import FrameMasking
from pipeline.pretraining.ctal.module import CtalPretraining
from tests.helpers.caches import make_sequence_cache, wordpiece

CHANNELS = 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_sequence_cache(
        tmp_path_factory.mktemp("ctal") / "mels", [9, 12], "ctal-mel", width=CHANNELS, most_rows=90
    )


@pytest.fixture(scope="module")
def corpus(cache):
    return read_rows(
        {"frames": cache}, held_out_share=0.2, seed=0, tokenizer=wordpiece(cache), max_tokens=16
    )


@pytest.fixture(scope="module")
def make(cache, corpus):
    def of(process=0, processes=1, stack=1, deltas="clean"):
        features = FrameFeatures(front_end(cache.identity), "clip", deltas, stack, 1000)
        frames = FrameMasking(share=0.4, shortest=18, longest=30, stack=stack)
        maker = CtalMaker(corpus, Masking.of(wordpiece(cache), 0.15), frames, features)
        return maker(RowBatches(corpus, 8, 3, process=process, processes=processes).epoch(0)(0))

    return of


def model(stack=1, cross=True, dropout=0.0, **weights) -> CtalPretraining:
    torch.manual_seed(0)
    text = RobertaConfig(
        vocab_size=200,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=1,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
    )
    config = AudioConfig(
        columns=2 * CHANNELS * stack,
        width=16,
        text_width=16,
        layers=2,
        heads=2,
        inner_width=32,
        positions=90,
        cross=cross,
        dropout=dropout,
        spread=0.2,
    )
    columns = 2 * CHANNELS * stack
    return CtalPretraining(
        Student(RobertaForMaskedLM(text)), AudioStack(config), columns, **weights
    )


@pytest.mark.parametrize("stack", [1, 3])
def test_losses_are_those_of_the_definition(make, stack):
    batch, module = make(stack=stack), model(stack).eval()
    with torch.no_grad():
        losses = module(batch)
        # clip by clip, with Hugging Face's own model for the text
        plain = RobertaConfig(
            **{**module.text.model.config.to_dict(), "attn_implementation": "eager"}
        )
        text = RobertaForMaskedLM(plain).eval()
        text.load_state_dict(module.text.model.state_dict())
        predicted, text_states = [], []
        nats, chosen = 0.0, 0
        tokens = batch.packed.lengths_B.tolist()
        masked = batch.masked_N.split(tokens)
        clean = batch.packed.ids_N.split(tokens)
        asked = torch.zeros(len(batch.masked_N)).index_fill(0, batch.chosen_K, 1).split(tokens)
        for ids, truth, is_asked in zip(masked, clean, asked, strict=True):
            out = text(ids[None], output_hidden_states=True)
            text_states.append(out.hidden_states[-1][0])
            logs = out.logits[0].double().log_softmax(-1)
            for place in is_asked.nonzero()[:, 0].tolist():
                nats -= float(logs[place, truth[place]])
                chosen += 1
        audio_PD = module.audio(batch.read_PC, batch.audio, torch.cat(text_states), batch.packed)
        predicted = module.head(audio_PD[batch.chosen_J]).double()
    assert float(losses["loss/mlm"]) == pytest.approx(nats / chosen, abs=1e-4)
    total, middle, frames, deep = 0.0, 0.0, 0, 0
    for place in range(len(batch.chosen_J)):
        for slot in range(stack):
            if not batch.real_JS[place, slot]:
                continue
            width = 2 * CHANNELS
            guess = predicted[place, slot * width : (slot + 1) * width]
            error = float((guess - batch.target_JSM[place, slot].double()).abs().mean())
            total, frames = total + error, frames + 1
            if batch.middle_JS[place, slot]:
                middle, deep = middle + error, deep + 1
    assert frames == batch.frames_total
    assert deep == batch.middle_total > 0
    assert float(losses["loss/mcam"]) == pytest.approx(total / frames, abs=1e-5)
    assert float(losses["loss/mcam_middle"]) == pytest.approx(middle / deep, abs=1e-5)
    halves = losses["loss/mcam_mel"] + losses["loss/mcam_delta"]
    assert float(losses["loss/mcam"]) == pytest.approx(float(halves) / 2, abs=1e-6)
    assert float(losses["loss"]) == pytest.approx(nats / chosen + total / frames, abs=1e-4)


def test_a_batch_shared_by_two_processes_has_the_same_losses(make):
    module = model().eval()
    with torch.no_grad():
        whole = module(make(), measure=True)
        shares = [module(make(process, 2), measure=True) for process in range(2)]
    for name, value in whole.items():
        if name != "loss/mcam_other_text":  # which text is another one's depends on the share
            mean = torch.stack([share[name] for share in shares]).mean()
            torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-5, msg=name)


def gradients(module, batch) -> dict[str, float]:
    module.train()
    losses = module(batch, measure=True)
    losses["loss"].backward()

    def norm(part):
        values = [p.grad.norm() for p in part.parameters() if p.grad is not None]
        return float(torch.stack(values).norm()) if values else None

    return {
        "text": norm(module.text.encoder),
        "audio": norm(module.audio),
        "head": norm(module.head),
        **{n: float(v) for n, v in losses.items() if n.startswith("gradient")},
    }


def test_masked_frames_train_the_text_stack_too(make):
    found = gradients(model(mlm_weight=0.0), make())
    assert found["text"] > 1e-4
    assert found["audio"] > 1e-4
    assert set(found) == {"text", "audio", "head", "gradient/mcam"}


def test_without_masked_frames_the_audio_stack_is_not_trained(make):
    found = gradients(model(mcam_weight=0.0), make())
    assert found["text"] > 1e-4
    assert found["audio"] is None
    assert found["head"] is None
    assert set(found) == {"text", "audio", "head", "gradient/mlm"}


def test_frames_that_do_not_look_leave_the_text_to_its_own_loss(make):
    with_both, alone = (
        gradients(model(cross=False), make()),
        gradients(model(cross=False, mcam_weight=0.0), make()),
    )
    assert with_both["text"] == pytest.approx(alone["text"], rel=1e-5)


def test_both_gradients_are_measured_at_the_texts_states(make):
    module, batch = model(), make()
    found = gradients(module, batch)
    text_NK = module.text(batch.packed.with_ids(batch.masked_N))
    mlm = module.text.masked_lm_loss(text_NK, batch.packed.ids_N, batch.chosen_K)
    (expected,) = torch.autograd.grad(mlm / batch.chosen_total, text_NK)
    assert found["gradient/mlm"] == pytest.approx(float(expected.norm()), rel=1e-4)
    assert found["gradient/mcam"] > 0


def test_what_is_held_out_is_also_tried_with_another_clips_text(make):
    module, batch = model().eval(), make()
    with torch.no_grad():
        losses = module(batch, measure=True)
        text_NK = module.text(batch.packed.with_ids(batch.masked_N))
        tokens = text_NK.split(batch.packed.lengths_B.tolist())
        order = [len(tokens) - 1, *range(len(tokens) - 1)]
        from pipeline.models.lengths import Lengths

        moved = Lengths.of(batch.packed.lengths_B[order])
        states = module.audio(
            batch.read_PC, batch.audio, torch.cat([tokens[i] for i in order]), moved
        )
        predicted = module.head(states[batch.chosen_J]).view(batch.target_JSM.shape)
    expected = (predicted - batch.target_JSM).abs().mean()
    assert float(losses["loss/mcam_other_text"]) == pytest.approx(float(expected), abs=1e-5)
    assert float(losses["loss/mcam_other_text"]) != float(losses["loss/mcam"])
    assert float(losses["line/zero"]) == pytest.approx(
        float(batch.target_JSM.abs().mean()), rel=1e-4
    )
    assert {n for n in losses if n.startswith("line/")} == {
        f"line/{name}{part}"
        for name in ("zero", "interpolation", "held")
        for part in ("", "_middle")
    }


def test_dropout_depends_on_clip_place_and_step_alone(make):
    module = model(dropout=0.3).train()
    with torch.no_grad():
        one = module(make())["loss"]
        again = module(make())["loss"]
        shares = [module(make(process, 2))["loss"] for process in range(2)]
    assert float(one) == float(again)
    assert float(torch.stack(shares).mean()) == pytest.approx(float(one), rel=1e-5)
    module.eval()
    with torch.no_grad():
        assert float(module(make())["loss"]) != float(one)


def test_a_batch_of_clips_of_one_segment_still_trains_the_text(make):
    batch = make()
    nothing = replace(
        batch,
        chosen_J=batch.chosen_J[:0],
        target_JSM=batch.target_JSM[:0],
        real_JS=batch.real_JS[:0],
        middle_JS=batch.middle_JS[:0],
        frames_total=0,
        middle_total=0,
    )
    module = model()
    losses = module(nothing)
    assert float(losses["loss/mcam"]) == 0
    losses["loss"].backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in module.parameters())
    assert all(p.grad is not None for p in module.head.parameters())
