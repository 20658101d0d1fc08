"""What distillation brings to a run (`pipeline.training.running`)."""

from collections.abc import Mapping
from functools import cached_property
from shlex import quote
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from pipeline.cache.identity import KINDS, MAKERS, VECTOR, Kind
from pipeline.cache.store import TeacherCache
from pipeline.corpus.draws import DRAWS
from pipeline.corpus.sources import TextTables
from pipeline.distillation.assembly import Parts, assemble
from pipeline.distillation.costs import flops_per_token
from pipeline.distillation.preflight import announce
from pipeline.distillation.reading import kinds_of_words
from pipeline.distillation.record import hand_over, method_record
from pipeline.distillation.settings import DistillSettings
from pipeline.distillation.words import WORDS
from pipeline.foundation.errors import SpeechkdError
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.loop import Ending
from pipeline.training.run_folder import RunFolder
from pipeline.training.running import Run

VECTORS_ALONE: tuple[Kind, ...] = (VECTOR,)
LEVEL_OF: dict[Kind, str] = {"words": "word", "text": "token"}
"""The level that a cache of another kind teaches by itself."""


class DistillationRun(Run[Parts]):
    """A run of `speechkd distill`.

    Args:
        settings: as the user gave them.
    """

    folders = ("student",)
    words = WORDS

    def __init__(self, settings: DistillSettings) -> None:
        self.settings: DistillSettings = settings

    @cached_property
    def _cache(self) -> TeacherCache | None:
        return open_cache(self.settings)

    @cached_property
    def _tables(self) -> TextTables | None:
        settings = self.settings
        if not settings.texts:
            return None
        return TextTables(tuple(settings.texts), settings.text_column, settings.recording_column)

    @cached_property
    def _digests(self) -> dict[str, str]:  # takes a while to compute
        """Of the cache and of the tables, whichever there are."""
        digests = {}
        if self._cache:
            digests["cache_sha256"] = self._cache.digest()
        if self._tables:
            digests["tables_sha256"] = self._tables.digest()
        return digests

    @property
    def next_command(self) -> str:
        """The command that takes the student."""
        out = quote(str(self.settings.out))
        return f"speechkd finetune mosei --data LABELS --checkpoint {out} --out RESULTS"

    def identity(self) -> dict[str, Any]:
        """The caches and the texts by their content, and how draws are made."""
        return {**self._digests, **words_digest(self.settings), "draws": DRAWS}

    def assemble(
        self, device: torch.device, kept_tokenizer: PreTrainedTokenizerBase | None
    ) -> Parts:
        """Make the student, its objectives and its batches."""
        return assemble(self.settings, self._cache, device, kept_tokenizer, self._tables)

    def announce(self, parts: Parts) -> None:
        """Say what is about to happen, and check that there is room for it."""
        announce(parts)

    def record(self, parts: Parts) -> dict[str, Any]:
        """The objectives, the student and the data."""
        return method_record(parts, self._digests)

    def tokenizer(self, parts: Parts) -> PreTrainedTokenizerBase:
        """The student's."""
        return parts.tokenizer

    def flops(self, parts: Parts) -> float:
        """Floating-point operations per token, forward and backward."""
        return flops_per_token(
            parts.distillation.student,
            float(parts.corpus.lengths_C.double().mean()),
            parts.settings.mask_share,
            parts.distillation.passes,
        )

    def hand_over(
        self,
        parts: Parts,
        folder: RunFolder,
        record: Mapping[str, Any],
        checkpoints: Checkpoints,
        progress: Progress,
        outcome: Ending,
    ) -> None:
        """Write the student as it is after the last step, its card and its curve."""
        del checkpoints
        hand_over(parts, folder, record, progress, outcome)


def open_cache(settings: DistillSettings) -> TeacherCache | None:
    """The cache that is named, if it is of a kind that the levels asked for can be taught from.

    Without an objective any kind will do, because only texts are read. None if none is named.

    Raises:
        SpeechkdError: it is not; the message names the command that makes one.
    """
    levels = settings.levels()
    if not settings.cache:
        return None
    if "clip" in levels:
        kind = TeacherCache.open(settings.cache, kinds=KINDS).identity.kind
        if level := LEVEL_OF.get(kind):
            raise SpeechkdError(
                f"{settings.cache} is a cache of kind {kind}: --level {level} teaches from it. "
                f"--level {settings.level} needs one of kind vector, which "
                f"`{MAKERS['vector']}` makes."
            )
        return TeacherCache.open(settings.cache, kinds=VECTORS_ALONE)
    if levels == ["word"] and not settings.words:
        return TeacherCache.open(settings.cache, kinds=kinds_of_words(settings))
    return TeacherCache.open(settings.cache, kinds=KINDS)


def words_digest(settings: DistillSettings) -> dict[str, str]:
    """The digest of the cache of words, as a run's identity names it; nothing without --words."""
    if not settings.words or not settings.needs_words():
        return {}
    return {
        "words_sha256": TeacherCache.open(settings.words, kinds=kinds_of_words(settings)).digest()
    }
