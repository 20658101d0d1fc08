"""Arithmetic of a student's training, for model-FLOPs utilisation and projected times."""

import torch

from pipeline.distillation.objectives.crd import CHUNK as NEGATIVES_AT_ONCE
from pipeline.models.student import Student

PEAK_BF16_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}
"""Dense bf16 peak by the maker's data sheet, found by name; the larger names first."""


def flops_per_token(student: Student, tokens_per_clip: float, masked_share: float) -> float:
    """Floating-point operations of one forward and backward pass, a real token.

    Six operations for each weight of a matrix (embeddings are looked up, not multiplied), the
    attention of a clip of that many tokens, and the head on the masked share only.
    """
    body: int = sum(
        p.numel()
        for name, p in student.encoder.named_parameters()
        if p.ndim == 2 and "embed" not in name
    )
    config = student.model.config
    width, layers = student.width, int(config.num_hidden_layers)
    head = width * (width + int(config.vocab_size)) * masked_share
    attention = 2 * layers * width * tokens_per_clip
    return 6.0 * (body + attention + head)


def step_bytes(student: Student, tokens: int, masked_share: float, passes: int) -> int:
    """An upper bound for what a training step holds beside weights, gradients and moments.

    Found by measuring float32 steps of 600 to 6,000 tokens through students from bert-tiny to
    bert-small, objectives included: 32 numbers a token, layer and unit of width, four of each of
    the head's logits, and three of the embedding while its gradients are added up.

    Args:
        student: what is trained.
        tokens: of a batch in this process.
        masked_share: of them that the head predicts.
        passes: through the encoder, 2 where distillation sees clean tokens.
    """
    config = student.model.config
    width, vocabulary = student.width, int(config.vocab_size)
    layers = passes * int(config.num_hidden_layers)
    body = 32 * tokens * layers * width
    return 4 * round(body + 4 * tokens * masked_share * vocabulary + 3 * vocabulary * width)


def objective_bytes(
    tokens: int, clips: int, negatives: int, student_width: int, teacher_width: int
) -> int:
    """The same for one objective: its projection, its pairs, and a chunk of extra negatives."""
    projected = 16 * tokens * (student_width + teacher_width)
    pairs = 12 * tokens * clips + 8 * tokens * min(negatives, NEGATIVES_AT_ONCE)
    return 4 * (projected + pairs + negatives * (4 * teacher_width + clips))


def peak_flops(device: torch.device) -> float | None:
    """What the device can do a second in bf16; None where it is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_BF16_FLOPS.items() if part in name), None)
