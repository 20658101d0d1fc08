"""The arithmetic of each pass, against torch's own counter and the figures of the specification."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM

from pipeline.corpus.row_corpus import TOKENS
from pipeline.models.student import Student
from pipeline.models.whisbert.layers import LayerSizes
from pipeline.models.whisbert.patches import lay_out
from pipeline.models.whisbert.speech_encoder import SpeechEncoder, WithFirst
from pipeline.pretraining.whisbert.batches import FRAMES
from pipeline.pretraining.whisbert.costs import Clip, clip_flops, pass_flops, step_bytes
from pipeline.pretraining.whisbert.module import JointTextHead, Shape
from tests.helpers.whisbert import mel_cache, parts_of

ALL = dict.fromkeys(["mlm", "mam", "mmc", "mmm", "atm"], 1.0)


def student(layers, width, vocabulary, heads=2):
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=4 * width,
    )  # fmt: skip
    return Student(BertForMaskedLM(config))


def shape(layers, width, fusion=None, heads=2):
    sizes = LayerSizes(layers, width, heads, 4 * width)
    fused = LayerSizes(layers if fusion is None else fusion, width, heads, 4 * width)
    return Shape(frame_width=80, per_patch=10, audio=sizes, fusion=fused)


def counted(function) -> int:
    """What torch counts; it knows attention by its plain products only."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_stem_and_layers_cost_what_torch_counts():
    """One clip of 400 frames, whose attention torch counts without padding."""
    form = shape(2, 32)
    speech = SpeechEncoder(80, form.audio, 10)
    frames = lay_out(torch.randn(400, 80), torch.tensor([400]), 10)
    flops = pass_flops(student(1, 32, 100), form, Clip(400, 10), 0.15)
    with torch.no_grad():
        patches = speech.patches(frames)
        # the row is longer than the clip by a patch of nothing on each side
        assert counted(lambda: speech.patches(frames)) == pytest.approx(
            flops["stem"] * 42 / 40, rel=1e-3
        )
        states = counted(lambda: speech(patches, WithFirst.of(frames.patches)))
    assert states == pytest.approx(flops["audio"], rel=1e-3)


def test_text_and_heads_cost_what_torch_counts():
    form, text = shape(1, 32), student(2, 32, 100)
    ids = torch.randint(5, 100, (1, 24))
    flops = pass_flops(text, form, Clip(100, 24), 0.25)
    with torch.no_grad():
        text.encoder.set_attn_implementation("sdpa")
        assert counted(lambda: text.encoder(input_ids=ids)) == pytest.approx(
            flops["text"], rel=1e-3
        )
        states = torch.randn(6, 32)
        assert counted(lambda: text.masked_lm_logits(states)) == pytest.approx(flops["text head"])
        head = JointTextHead(32, 32, 100)
        embedding = torch.randn(100, 32)
        assert counted(lambda: head(states, embedding)) == pytest.approx(flops["fusion head"])


@pytest.fixture(scope="module")
def paper():
    """Sizes of the specification: 14.1 s, 52 tokens, 768 wide."""
    with torch.device("meta"):
        text = student(12, 768, 30522, heads=12)
    return pass_flops(text, shape(6, 768, heads=12), Clip(1410, 52), 0.15), text


def test_passes_cost_what_the_specification_says(paper):
    wanted = {"text": 8.9, "text head": 0.4, "stem": 5.4, "audio": 12.4, "fusion": 17.3}
    for name, figure in wanted.items():
        assert paper[0][name] / 1e9 == pytest.approx(figure, abs=0.06), name


@pytest.mark.parametrize(
    ("losses", "gflop", "times"),
    [
        ("mlm", 9.3, 1.0), ("mlm,mam", 27.2, 2.9), ("mlm,mam,mmc", 48.5, 5.2),
        ("mlm,mam,mmm", 44.8, 4.8), ("mlm,mam,mmc,mmm,atm", 83.4, 9.0),
    ],
)  # fmt: skip
def test_steps_cost_what_the_specification_says(paper, losses, gflop, times):
    whole = clip_flops(paper[0], dict.fromkeys(losses.split(","), 1.0))
    assert whole / 1e9 == pytest.approx(gflop, abs=0.1)
    assert whole / clip_flops(paper[0], {"mlm": 1.0}) == pytest.approx(times, abs=0.06)


def test_twelve_fusion_layers_cost_two_fifths_more(paper):
    flops = pass_flops(paper[1], shape(6, 768, fusion=12, heads=12), Clip(1410, 52), 0.15)
    assert clip_flops(flops, ALL) / clip_flops(paper[0], ALL) == pytest.approx(1.41, abs=0.01)


def test_memory_is_announced_for_the_largest_batch_that_will_come(tmp_path):
    mel_cache(tmp_path / "mel")
    method, parts = parts_of(tmp_path / "mel", tmp_path / "run")
    parts.ahead.close()
    batches, model, share = parts.batches, parts.module, method.settings.mask_share
    steps = [divmod(step, batches.per_epoch) for step in range(parts.schedule.total_steps)]
    totals = [batches.epoch(epoch)(place).totals for epoch, place in steps]
    clips = batches.clips_per_batch
    largest = Clip(*(max(each[name] for each in totals) / clips for name in (FRAMES, TOKENS)))
    wanted, of_means = (
        step_bytes(
            model.student, model.shape, model.weights, clip, clips,
            math.ceil(share * clip.tokens * clips),
        )
        for clip in (largest, method.clip(parts))
    )  # fmt: skip
    assert method.step_bytes(parts) == wanted > of_means
