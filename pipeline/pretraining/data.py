"""Caches joined into the clips that a method trains on, as its settings ask."""

from collections.abc import Mapping

from transformers import PreTrainedTokenizerBase

from pipeline.cache.staging import staged
from pipeline.cache.store import TeacherCache
from pipeline.corpus.row_corpus import NO_CONTROLS, RowCorpus, read_rows
from pipeline.corpus.rows import RowControl
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.pretraining.settings import PretrainSettings
from pipeline.training import processes

FEWEST_CLIPS = 2


def joined(
    settings: PretrainSettings,
    caches: Mapping[str, TeacherCache],
    *,
    controls: Mapping[str, RowControl] = NO_CONTROLS,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_tokens: int = 128,
) -> RowCorpus:
    """The clips that all caches have, some of them held out.

    Args:
        settings: say what is held out, and where copies and prepared files go.
        caches: by the names that a batch gives their rows; the first decides the order of clips.
        controls: by name of a cache, what its rows are replaced by.
        tokenizer: turns the texts into the part `tokens`; None for none.
        max_tokens: tokens of the longest text.

    Raises:
        SpeechkdError: a cache is unfinished, two caches hardly meet or differ in a text, or there
            are too few clips.
    """
    folder = settings.stage_to
    with processes.first_on_this_machine():
        nearest = {n: staged(c, folder) if folder else c for n, c in caches.items()}
        corpus = read_rows(
            nearest,
            held_out_share=settings.held_out,
            seed=settings.seed,
            split_by=settings.hold_out_by,
            controls=controls,
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            prepared=settings.prepared,
        )
    if len(corpus.train) < FEWEST_CLIPS:
        where = " and ".join(cache.location for cache in caches.values())
        raise SpeechkdError(
            f"{where}: {counted(len(corpus.train), 'clip')} to train on "
            f"({len(corpus.held_out)} held out); at least {FEWEST_CLIPS} are needed."
        )
    return corpus
