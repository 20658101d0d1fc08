"""A text teacher's states as rows of a cache: one per token, with the token's id."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from pipeline.cache.identity import Dtype, Identity, sequence_identity
from pipeline.extraction.rows import Rows
from pipeline.extraction.text_batches import TextBatch
from pipeline.extraction.text_teacher import TextTeacher


@dataclass(frozen=True)
class TextStates:
    """The teacher's states at every token of a text, special ones included.

    Attributes:
        teacher: the text encoder.
        texts_sha256: digest of the keys and texts of all clips (`pipeline.cache.texts`).
    """

    teacher: TextTeacher
    texts_sha256: str
    beside_reading: bool = False

    @property
    def device(self) -> torch.device:
        """The teacher's device."""
        return self.teacher.device

    def identity(self, dtype: Dtype, clip_seconds: int) -> Identity:
        """Of a cache of these states. It depends on keys and texts, and on no audio."""
        teacher = self.teacher
        return sequence_identity(
            "text",
            width=teacher.d_model,
            most_rows=teacher.max_tokens,
            dtype=dtype,
            clip_seconds=clip_seconds,
            settings={
                "teacher": teacher.id,
                "teacher_sha256": teacher.sha256,
                "tokenizer_sha256": teacher.tokenizer_sha256,
                "layer": teacher.layer,
                "lowercase": int(teacher.lowercase),
                "max_tokens": teacher.max_tokens,
                "texts_sha256": self.texts_sha256,
            },
        )

    def rows_of(self, batch: TextBatch) -> Rows:
        """The states of each text; a text that was cut says so in its record."""
        tokens = self.teacher.tokens_of(batch.texts)
        return Rows(
            self.teacher.states_of(tokens.ids),
            [len(row) for row in tokens.ids],
            [{"cut": True} if place in tokens.cut else {} for place in range(len(tokens.ids))],
            ids_N=np.fromiter(chain.from_iterable(tokens.ids), np.int32),
        )
