"""Arithmetic and memory that training a masked-LM encoder takes: for utilisation and warnings."""

import torch

from pipeline.models.student import Student

PEAK_BF16_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}
"""Dense bf16 peak from the maker's data sheet, by part of the name; longer names first."""


def flops_per_token(student: Student, tokens_per_text: float, masked_share: float) -> float:
    """Floating-point operations per real token, forward and backward.

    Six per weight of a matrix (embeddings are looked up, not multiplied), the attention of a text
    of that many tokens, and the head on the masked share only.
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
    return 6.0 * (body + attention + head)


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
    """Operations per second of the device in bf16; None if it is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_BF16_FLOPS.items() if part in name), None)
