"""WhisBERT's text encoder: fresh or begun with another, and what a run says of its beginning."""

from collections.abc import Iterator

from transformers import PreTrainedTokenizerBase

from pipeline.corpus.identity import tokenizer_sha256
from pipeline.models.student import Student, build_student
from pipeline.pretraining.text_start import TextStart
from pipeline.pretraining.whisbert.settings import WhisbertSettings

INIT_TEXT, INIT_TOKENIZER = "init_text_sha256", "init_text_tokenizer_sha256"
"""What a run's identity calls the digests of what its text encoder began with: of all weights, and
of the tokenizer if that is the run's, too."""


def text_encoder(
    settings: WhisbertSettings, tokenizer: PreTrainedTokenizerBase, start: TextStart | None
) -> Student:
    """The text encoder; fresh weights are drawn from torch's generator.

    Args:
        settings: of the run.
        tokenizer: of its texts.
        start: what it begins with; None for fresh weights.

    Raises:
        SpeechkdError: it lacks an embedding for some token or position.
    """
    if start is not None:
        student = start.student
    else:
        student = build_student(
            settings.student, tokenizer, settings.max_tokens, dropout=settings.dropout
        )
    student.check_fits(tokenizer, settings.max_tokens)
    return student


def text_identity(settings: WhisbertSettings, start: TextStart | None) -> dict[str, str]:
    """What of the beginning a run's result depends on, wherever it lies; empty for fresh weights.

    Args:
        settings: of the run; a tokenizer that they name takes the place of the beginning's own.
        start: what the text encoder begins with.
    """
    if start is None:
        return {}
    own = {} if settings.tokenizer else {INIT_TOKENIZER: tokenizer_sha256(start.tokenizer)}
    return {INIT_TEXT: start.sha256, **own}


def text_notes(start: TextStart | None, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """What the text encoder begins with, and whether the run's tokenizer is another than its own.

    Args:
        start: what it begins with; None for fresh weights, of which nothing is said.
        tokenizer: of the run's texts.
    """
    if start is None:
        return
    yield (
        f"the text encoder begins with {start.name}, a {start.student.model.config.model_type}. "
        "BabyLM's rules count what that has read, too"
    )
    if tokenizer_sha256(tokenizer) != tokenizer_sha256(start.tokenizer):
        yield (
            f"WARNING: --tokenizer is another than that of {start.name}, so that its embeddings "
            "stand for other pieces. Leave it out to read as that encoder does"
        )


def text_record(start: TextStart | None) -> dict[str, dict[str, str]]:
    """What `run.json` says of the beginning; empty for fresh weights."""
    if start is None:
        return {}
    digests = {"sha256": start.sha256, "encoder_sha256": start.encoder_sha256}
    return {"text_began_with": {"name": start.name, **digests}}
