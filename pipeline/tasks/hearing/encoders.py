"""The encoders that are asked, one in memory at a time, with each kind of student untrained."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.corpus.identity import tokenizer_sha256
from pipeline.foundation.hashing import json_sha256
from pipeline.models.encoders import load_pretrained, untrained_like, weights_sha256
from pipeline.models.packing import most_tokens
from pipeline.models.pretrained import Pretrained
from pipeline.tasks.hearing.names import UNTRAINED, WORDS

VOLATILE = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")
"""Entries of a configuration that say nothing of the model."""


@dataclass(frozen=True)
class Known:
    """An encoder that was named.

    Attributes:
        checkpoint: as the user wrote it.
        pretrained: what is known of it.
        tokenizer: its own.
        most_tokens: of the longest text that it can read; None for no limit.
        start: digest of a student's configuration and tokenizer, which untrained students of its
            kind share; empty for an encoder that is no student.
    """

    checkpoint: str
    pretrained: Pretrained
    tokenizer: PreTrainedTokenizerBase
    most_tokens: int | None
    start: str


def look_at(checkpoint: str) -> Known:
    """What is known of an encoder, without its weights.

    Raises:
        SpeechkdError: nothing of that name can be loaded.
    """
    pretrained, encoder, tokenizer = load_pretrained(checkpoint)
    start = "" if pretrained.objective is None else start_of(encoder, tokenizer)
    return Known(checkpoint, pretrained, tokenizer, most_tokens(encoder), start)


def start_of(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of all that decides an untrained student, but for its seed."""
    config: dict[str, Any] = encoder.config.to_dict()
    known = {name: value for name, value in config.items() if name not in VOLATILE}
    return json_sha256([known, tokenizer_sha256(tokenizer)])


def untrained_names(several: Sequence[Known], known: Mapping[str, str]) -> dict[str, str]:
    """A label for the untrained student of each start: by its size, or whose student began so.

    Args:
        several: encoders.
        known: labels by start that are given already.
    """
    names = dict(known)
    for one in several:
        if one.start and one.start not in names:
            name = f"{UNTRAINED} ({one.pretrained.parameters / 1e6:.1f} M)"
            names[one.start] = (
                name if name not in names.values() else f"{UNTRAINED} {one.pretrained.label}"
            )
    return names


def untrained(
    encoder: PreTrainedModel, label: str, seed: int
) -> tuple[Pretrained, PreTrainedModel]:
    """A student as it begins, of the configuration of one that was trained."""
    fresh = untrained_like(encoder, seed)
    known = Pretrained(
        label=label,
        source="",
        objective=None,
        control=None,
        pretraining_seed=seed,
        parameters=sum(p.numel() for p in fresh.parameters()),
        weights_sha256=weights_sha256(fresh),
    )
    return known, fresh


def word_counts() -> Pretrained:
    """What stands for the word counts among encoders."""
    digest = hashlib.sha256(WORDS.encode()).hexdigest()
    return Pretrained(WORDS, "", None, None, None, 0, digest)
