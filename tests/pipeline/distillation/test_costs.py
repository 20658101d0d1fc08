"""The operations that are reckoned are those that torch counts."""

from copy import deepcopy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, BertConfig, ModernBertConfig

from pipeline.distillation.costs import flops_per_token
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
