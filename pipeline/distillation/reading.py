"""What a distillation run reads: its tokenizer, its clips and their words."""

from dataclasses import replace

import torch
from transformers import PreTrainedTokenizerBase

from pipeline.cache.identity import Kind
from pipeline.cache.store import TeacherCache
from pipeline.corpus.corpus import Corpus, read_corpus
from pipeline.corpus.prepared import Prepared, prepared_texts
from pipeline.corpus.prepared_texts import new_wordpiece
from pipeline.corpus.sources import TextTables
from pipeline.corpus.taking import take_from_clips, take_words_from_clips
from pipeline.corpus.word_corpus import WordCorpus, read_words
from pipeline.distillation.settings import DistillSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.encoders import text_folder
from pipeline.models.loading import load_tokenizer
from pipeline.models.student import check_kind
from pipeline.training import processes

WORDS_ALONE: tuple[Kind, ...] = ("words",)
TOKENS_ALONE: tuple[Kind, ...] = ("text",)


def kinds_of_words(settings: DistillSettings) -> tuple[Kind, ...]:
    """Of which kind a cache must be whose rows teach words, or tokens."""
    return TOKENS_ALONE if settings.level == "token" else WORDS_ALONE


def make_tokenizer(
    settings: DistillSettings, cache: TeacherCache | None, tables: TextTables | None
) -> PreTrainedTokenizerBase:
    """The tokenizer that is named, or a WordPiece trained on all texts."""
    if not settings.init:
        check_kind(settings.student)
    named = settings.tokenizer or (settings.init and text_folder(settings.init))
    if named:
        return load_tokenizer(named)
    with processes.first_on_this_machine():
        return new_wordpiece(
            prepared_texts(cache, tables, settings.prepared),
            settings.vocab_size,
            lowercase=settings.lowercase,
            max_tokens=settings.max_tokens,
        )


def make_corpus(
    settings: DistillSettings,
    cache: TeacherCache | None,
    tables: TextTables | None,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
) -> Corpus:
    """All texts as tokens, and the cache's vectors if an objective needs them."""
    with processes.first_on_this_machine():
        return read_corpus(
            cache,
            tokenizer,
            tables=tables,
            max_tokens=settings.max_tokens,
            held_out_share=settings.held_out,
            seed=settings.seed,
            # the words of a clip can exchange their vectors, and clips then keep theirs
            control="real" if settings.control == "shuffled-words" else settings.control,
            with_vectors="clip" in settings.levels(),
            prepared=settings.prepared,
            device=device,
        )


def make_words(
    settings: DistillSettings,
    cache: TeacherCache,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
) -> WordCorpus:
    """The words of the corpus, from --words or from the cache itself.

    Raises:
        SpeechkdError: there is no cache of words, or none of its words can be taught.
    """
    words = cache
    if settings.words:
        words = TeacherCache.open(settings.words, kinds=kinds_of_words(settings))
    elif settings.level == "token":
        words = TeacherCache.open(cache.location, kinds=TOKENS_ALONE)
    elif cache.identity.kind != "words":
        raise SpeechkdError(
            f"--level {settings.level} needs word vectors, and {cache.location} is a cache of "
            f"kind {cache.identity.kind}. Name a cache of words with --words; `speechkd "
            "extract-teacher --keep words` makes one from the same manifest."
        )
    side = settings.teacher_side
    with processes.first_on_this_machine():
        return read_words(
            words,
            corpus,
            cache,
            tokenizer,
            max_tokens=settings.max_tokens,
            seed=settings.seed,
            control=settings.control,
            take=side if side in ("within-speaker", "within-word") else None,
            prepared=settings.prepared,
            stage_to=settings.stage_to,
        )


def take_away(
    settings: DistillSettings, cache: TeacherCache, corpus: Corpus, words: WordCorpus | None
) -> tuple[Corpus, list[str]]:
    """The corpus whose clips have lost what --teacher-side takes away, and all that was, in words.

    Raises:
        SpeechkdError: there is nothing to take away.
    """
    notes = list(words.notes) if words else []
    if "clip" not in settings.levels():
        return corpus, notes
    with processes.first_on_this_machine():
        prepared = Prepared(cache, settings.prepared)
        if settings.teacher_side == "within-speaker":
            vectors, taken = take_from_clips(corpus.vectors, prepared)
        elif settings.teacher_side == "within-word" and words:
            vectors, taken = take_words_from_clips(
                corpus.vectors, prepared, words.words, words.place_P
            )
        else:
            return corpus, notes
    return replace(corpus, vectors=vectors), [*notes, taken]
