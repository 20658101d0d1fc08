"""The operations that are reckoned are those that torch counts."""

from copy import deepcopy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, BertConfig, ModernBertConfig

from pipeline.distillation.costs import flops_per_token, peak_flops
from pipeline.models.student import Student

SIZES = {"vocab_size": 3000, "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2}


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(intermediate_size=512, **SIZES),
        ModernBertConfig(
            intermediate_size=192, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            cls_token_id=1, sep_token_id=2, **SIZES,
        ),
    ],
    ids=["bert", "modernbert"],
)  # fmt: skip
def test_operations_are_those_that_torch_counts(config):
    model = AutoModelForMaskedLM.from_config(deepcopy(config), attn_implementation="eager")
    student = Student(AutoModelForMaskedLM.from_config(config))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.randint(9, 3000, (8, 40))).logits.sum().backward()
    counted = counter.get_total_flops() / (8 * 40)
    assert flops_per_token(student, 40, 1.0) == pytest.approx(counted, rel=0.03)


def test_a_pass_over_clean_tokens_counts():
    student = Student(AutoModelForMaskedLM.from_config(BertConfig(intermediate_size=512, **SIZES)))
    head = 6 * 128 * (128 + 3000) * 0.15
    once = flops_per_token(student, 40, 0.15) - head
    assert flops_per_token(student, 40, 0.15, passes=2) == pytest.approx(2 * once + head)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        # the driver's own names for the cards
        ("NVIDIA A10", 125),
        ("NVIDIA A30", 165),
        ("NVIDIA A40", 149.7),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("A100-SXM4-40GB", 312),
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", 181.05),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA GeForce RTX 3090", 71),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA RTX A6000", 154.8),
        # others, whose names begin or go on like those
        ("NVIDIA RTX A1000", None),
        ("NVIDIA A10G", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
        ("NVIDIA H200 MIG 1g.18gb", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Quadro RTX A6000 Max-Q", None),
        ("Tesla V100-SXM2-16GB", None),
        ("AMD Instinct MI300X", None),
    ],
)
def test_the_peak_is_that_of_the_card_and_of_no_other(monkeypatch, name, teraflops):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    peak = peak_flops(torch.device("cuda:0"))
    assert peak == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_utilisation_is_not_told_for_hardware_of_unknown_peak():
    assert peak_flops(torch.device("cpu")) is None
