"""The tables of the four systems: computed by `bench/systems.py`, and the pages say the same."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM, BertModel, RobertaConfig, RobertaForMaskedLM

from bench import systems
from pipeline.models.student import PRESETS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "which-method.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def needs():
    names = ("clip", "word", "splat", "ctal", "whisbert")
    return dict(zip(names, systems.all_needs(), strict=True))


def test_the_pages_have_the_tables_that_the_bench_prints():
    assert systems.table() in PAGE
    assert systems.short() in README


def test_parameters_are_those_of_the_models_themselves(needs):
    """Those of a Hugging Face model with numbers, of the same sizes."""
    text = needs["clip"]
    bert = BertForMaskedLM(BertConfig(**PRESETS["bert-base"]))
    assert text.trained == sum(p.numel() for p in bert.parameters())
    assert text.parameters == sum(p.numel() for p in bert.bert.parameters())
    speech = needs["splat"]
    layers = BertModel(
        BertConfig(vocab_size=1, num_hidden_layers=3, max_position_embeddings=1501,
                   type_vocab_size=1), add_pooling_layer=False,
    )  # fmt: skip
    own = sum(p.numel() for p in layers.parameters())
    assert speech.parameters == own + 80 * 768 + 768 + 768  # what reads frames, and the first place


def test_operations_of_a_text_are_those_that_torch_counts(needs):
    """A matrix product of [a, b] and [b, c] is 2 a b c; attention's two are counted apart."""
    tokens = systems.TOKENS_PER_CLIP
    with torch.device("meta"):
        bert = BertModel(BertConfig(**PRESETS["bert-base"]), add_pooling_layer=False)
        counted = FlopCounterMode(display=False)
        with counted, torch.no_grad():
            bert(torch.zeros(1, tokens, dtype=torch.long))
    assert needs["clip"].inference == pytest.approx(counted.get_total_flops(), rel=0.01)


def test_ctal_is_what_torch_counts_of_its_stacks_in_hugging_faces_classes(needs):
    """1,201 frames of 160 values and a text; heads see 15 % of both, as the paper's recipe says."""
    frames, tokens, width, ctal = 1201, systems.TOKENS_PER_CLIP, 768, needs["ctal"]
    plain = {"layer_norm_eps": 1e-12, "num_hidden_layers": 3}
    with torch.device("meta"):
        text = RobertaForMaskedLM(
            RobertaConfig(
                vocab_size=30_000, type_vocab_size=2, max_position_embeddings=512, pad_token_id=1,
                **plain,
            )
        )  # fmt: skip
        audio = BertModel(
            BertConfig(
                vocab_size=1, type_vocab_size=1, max_position_embeddings=frames, is_decoder=True,
                add_cross_attention=True, use_cache=False, **plain,
            ),
            add_pooling_layer=False,
        )  # fmt: skip
        reads = torch.nn.Linear(160, width)
        norm = torch.nn.LayerNorm(width)
        head = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.Linear(width, 160))
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            text_states = text.roberta(torch.zeros(1, tokens, dtype=torch.long))[0]
            audio(
                inputs_embeds=reads(torch.zeros(1, frames, 160)),
                attention_mask=torch.ones(1, 1, frames, frames),  # of two dimensions it is causal
                encoder_hidden_states=text_states,
            )
            forward = counted.get_total_flops()
            text.lm_head(torch.zeros(round(0.15 * tokens), width))
            head(torch.zeros(round(0.15 * frames), width))
            with_heads = counted.get_total_flops()
    assert ctal.inference == pytest.approx(forward, rel=0.002)
    assert ctal.stage_two == pytest.approx(3 * with_heads, rel=0.002)

    def size(module):
        return sum(p.numel() for p in module.parameters())

    of_audio = size(audio) - 2 * width + size(reads)  # frames have neither words nor kinds
    assert ctal.parameters == size(text.roberta) + of_audio
    assert ctal.trained == size(text) + of_audio + size(head) + size(norm)


def counted_flops(function):
    """What torch counts of a function without numbers; it knows attention as plain products."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        function()
    return counter.get_total_flops()


def test_operations_of_whisbert_are_those_that_torch_counts(needs):
    """By BERT's layers, which have the matrices of Whisper's, and the paper's two convolutions."""
    patches, tokens, width, masked = 150, systems.TOKENS_PER_CLIP, 768, 0.15

    def layers(places, count):
        config = BertConfig(
            **{**PRESETS["bert-base"], "num_hidden_layers": count}, vocab_size=1,
            attn_implementation="eager",
        )  # fmt: skip
        model = BertModel(config, add_pooling_layer=False)
        return counted_flops(lambda: model(inputs_embeds=torch.zeros(1, places, width)))

    def stem():
        states = torch.nn.Conv1d(80, width, 16)(torch.zeros(1, 80, 1500 + 15))
        torch.nn.Conv1d(width, width, 16, stride=10)(torch.zeros(1, width, 1500 + 6))
        assert states.shape[2] == 1500

    def head():
        torch.zeros(1, width) @ torch.zeros(width, width) @ torch.zeros(width, 30522)

    with torch.device("meta"):
        text, audio = layers(tokens, 12), layers(patches + 1, 6)
        fused = layers(2 + patches + tokens, 6)
    heads = 2 * masked * tokens * counted_flops(head)
    forward = 2 * text + 2 * audio + 2 * fused + counted_flops(stem) + heads
    assert needs["whisbert"].inference == pytest.approx(text, rel=1e-3)
    assert needs["whisbert"].stage_two == pytest.approx(3 * forward, rel=1e-3)


def test_bytes_of_a_clip_are_those_of_its_rows(needs):
    assert needs["clip"].cache_bytes == 768 * 2
    assert needs["whisbert"].cache_bytes == 1500 * 80 * 2
    assert needs["ctal"].cache_bytes == (1 + 240_000 // 200) * 80 * 2


def test_what_the_page_says_was_shown_stands_on_the_page_that_it_names():
    """Every figure of a cell with a link is on the page behind the link."""
    told = PAGE.partition("## What each has shown")[2].partition("\n## ")[0]
    cells = [c for line in told.splitlines() if line.startswith("|") for c in line.split(" | ")]
    checked = 0
    for cell in cells:
        for text, name in re.findall(r"(.*)\[page\]\((\w[\w-]*\.md)\)", cell):
            evidence = (ROOT / "docs" / name).read_text(encoding="utf-8")
            for figure in re.findall(r"[+-]?\d+(?:\.\d+)?", text):
                assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", evidence), (figure, name)
                checked += 1
    assert checked > 20


def test_hours_of_speech_stand_on_the_pages_that_they_are_from():
    told = PAGE.partition("| hours here, planted apart |")[2].partition("\n## ")[0]
    pairs = re.findall(r"(\d+(?:\.\d+)?) \(\[[\w.-]+\]\((\w[\w-]*\.md)\)\)", told)
    assert len(pairs) >= 7
    for hours, name in pairs:
        evidence = (ROOT / "docs" / name).read_text(encoding="utf-8")
        one = "|one hour" if hours == "1.0" else ""
        assert re.search(rf"(?<![\d.]){re.escape(hours)} (?:h\b|hours){one}", evidence), (
            hours,
            name,
        )
