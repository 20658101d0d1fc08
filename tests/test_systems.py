"""The tables of the four systems: computed by `bench/systems.py`, and the pages say the same."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM, BertModel

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
