"""Arithmetic and memory that training a masked-LM encoder takes: for utilisation and warnings."""

from pipeline.models.student import Student


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


def step_bytes(student: Student, tokens: int, masked: int, passes: int) -> int:
    """Upper bound in bytes for what a step holds beside weights, gradients and moments.

    It comes from measuring float32 steps of 600 to 6,000 tokens through students from bert-tiny to
    bert-small: 32 numbers per token, layer and unit of width, four per logit of the head, and
    three per weight of the embedding while its gradients are added up.

    Args:
        student: what is trained.
        tokens: tokens of a batch in this process.
        masked: how many of them the head predicts.
        passes: passes through the encoder.
    """
    config = student.model.config
    width, vocabulary = student.width, int(config.vocab_size)
    layers = passes * int(config.num_hidden_layers)
    body = 32 * tokens * layers * width
    return 4 * (body + 4 * masked * vocabulary + 3 * vocabulary * width)
