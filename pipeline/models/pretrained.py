"""What a table says about an encoder: its label, where it came from, how it was taught."""

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Pretrained:
    """What is known about an encoder.

    Attributes:
        label: its name in tables, unique in a results folder.
        source: the folder or hub id that the user wrote.
        objective: the distillation objective of a run, `none` for masked-LM training alone; None if
            the encoder is not from a run.
        control: `real`, `shuffled` or `random` teacher vectors; None if it had no teacher.
        pretraining_seed: the run's seed; None if unknown.
        parameters: how many numbers the encoder's weights have.
        weights_sha256: digest of the encoder's weights.
        setup: what its run shares with the same student without a teacher and with its control:
            size, corpus, tokenizer and recipe, by name; None if it is not from a run, or from one
            that did not record it.
        teaching: what its run shares with its control alone: weights and settings of the
            objectives, the teacher's cache; None as for `setup`, or without a teacher.
        method: of `speechkd pretrain`; None if the encoder is from no such run.
    """

    label: str
    source: str
    objective: str | None
    control: str | None
    pretraining_seed: int | None
    parameters: int
    weights_sha256: str
    setup: Mapping[str, Any] | None = None
    teaching: Mapping[str, Any] | None = None
    method: str | None = None

    @property
    def is_control(self) -> bool:
        """Whether the encoder was taught with vectors that are not its clips' own."""
        return self.control not in (None, "real")

    def under(self, condition: str) -> "Pretrained":
        """What is known of it where it is used under a condition: its digest is another.

        Args:
            condition: what stands before its name, such as `scratch:`.
        """
        digest = hashlib.sha256((condition + self.weights_sha256).encode()).hexdigest()
        return replace(self, weights_sha256=digest)

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Any) -> "Pretrained":
        """Read what `record` gave, also a version of before that lacked a field that has a default.

        Raises:
            ValueError: it is no such record; the message says why.
        """
        known = fields(cls)
        needed = {f.name for f in known if f.default is MISSING}
        if not isinstance(record, dict) or not needed <= set(record) <= {f.name for f in known}:
            raise ValueError("encoder has other fields")
        if not isinstance(record["label"], str) or not isinstance(record["weights_sha256"], str):
            raise ValueError("the encoder has no label or no digest")
        return cls(**record)
