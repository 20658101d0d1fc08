"""Arithmetic and memory that training a masked-LM encoder takes: for utilisation and warnings."""

import re

import torch

from pipeline.models.student import Student

PEAK_BF16_FLOPS = {
    # NVIDIA's data sheets, halved where they count sparsity
    "A10": 125e12,  # A10 (2021)
    "A30": 165e12,  # A30 (2022)
    "A40": 149.7e12,  # A40 (2021)
    "A100 PCIE": 312e12,  # A100 (2022), all forms
    "A100 SXM4": 312e12,
    "H100 HBM3": 1979e12 / 2,  # H100 (2024), SXM
    "H100 NVL": 1671e12 / 2,  # H100 (2024)
    "H100 PCIE": 1513e12 / 2,  # H100 (2023)
    "H200": 1979e12 / 2,  # H200 (2024), SXM
    "H200 NVL": 1671e12 / 2,  # H200 (2024)
    "L4": 242e12 / 2,  # L4 (2023)
    "L40": 181.05e12,  # L40 (2023)
    "L40S": 362.05e12,  # L40S (2023)
    # NVIDIA's white papers, with sums in float32
    "RTX 3090": 71e12,  # Ampere GA102 (2021), appendix A
    "RTX 4090": 165.2e12,  # Ada GPU architecture (2023), appendix A
    "RTX A6000": 154.8e12,  # Ampere GA102 (2021), appendix B
}
"""Dense bf16 peak, by the driver's name for the card without the maker and the memory's size."""
NOT_IN_NAMES = re.compile(r"NVIDIA|GEFORCE|\d+GB")


def flops_per_token(
    student: Student, tokens_per_text: float, masked_share: float, passes: int = 1
) -> float:
    """Floating-point operations per real token, forward and backward.

    Six per weight of a matrix (embeddings are looked up, not multiplied), the attention of a text
    of that many tokens, and the head on the masked share only.

    Args:
        student: what is trained.
        tokens_per_text: mean number of tokens of a text.
        masked_share: share of them that the head predicts.
        passes: passes through the encoder; the head has one.
    """
    body: int = sum(
        p.numel()
        for name, p in student.encoder.named_parameters()
        if p.ndim == 2 and "embed" not in name
    )
    config = student.model.config
    width, layers = student.width, int(config.num_hidden_layers)
    head = width * (width + int(config.vocab_size)) * masked_share
    attention = 2 * layers * width * tokens_per_text
    return 6.0 * (passes * (body + attention) + head)


def step_bytes(student: Student, tokens: int, masked_share: float, passes: int) -> int:
    """Upper bound in bytes for what a step holds beside weights, gradients and moments.

    It comes from measuring float32 steps of 600 to 6,000 tokens through students from bert-tiny to
    bert-small: 32 numbers per token, layer and unit of width, four per logit of the head, and
    three per weight of the embedding while its gradients are added up.

    Args:
        student: what is trained.
        tokens: tokens of a batch in this process.
        masked_share: share of them that the head predicts.
        passes: passes through the encoder.
    """
    config = student.model.config
    width, vocabulary = student.width, int(config.vocab_size)
    layers = passes * int(config.num_hidden_layers)
    body = 32 * tokens * layers * width
    return 4 * round(body + 4 * tokens * masked_share * vocabulary + 3 * vocabulary * width)


def peak_flops(device: torch.device) -> float | None:
    """Operations per second of the device in bf16; None if it is not in the table.

    Only a whole name counts: a laptop's card, a slice of a card (MIG) or a card of another region
    has another peak than the one whose name it begins with.
    """
    if device.type != "cuda":
        return None
    words = re.split(r"[\s-]+", torch.cuda.get_device_name(device).upper())
    name = " ".join(word for word in words if not NOT_IN_NAMES.fullmatch(word))
    return PEAK_BF16_FLOPS.get(name)
