"""The words of a corpus, from its own cache or from one that is joined to it by key."""

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.staging import staged
from pipeline.cache.store import TeacherCache
from pipeline.corpus.arrays import ArrayStore
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.joining import Listing, join
from pipeline.corpus.prepared import Prepared
from pipeline.corpus.taking import What, take_from_words
from pipeline.corpus.word_table import WordCounts
from pipeline.corpus.word_vectors import WordControl, WordTable, WordVectors
from pipeline.foundation.errors import SpeechkdError


@dataclass(frozen=True)
class WordCorpus:
    """The words of a corpus, and what is known of them as a whole.

    Attributes:
        words: the words.
        cache: that they are from.
        counts: how many can be taught, and why the others cannot.
        notes: what else was left out or taken away, in words.
        place_P: which clip of the cache of words each clip of the corpus's cache is; -1 for none.
        prepared: of the cache of words.
    """

    words: WordVectors
    cache: TeacherCache
    counts: WordCounts
    notes: list[str]
    place_P: Tensor
    prepared: Prepared


def read_words(
    cache: TeacherCache,
    corpus: Corpus,
    texts: TeacherCache,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    seed: int,
    control: WordControl = "real",
    take: What | None = None,
    prepared: Path | None = None,
    stage_to: Path | None = None,
) -> WordCorpus:
    """Find the words of a corpus's clips; their vectors are read later, batch by batch.

    Of a cache of kind `text` each token is a word of its own.

    Args:
        cache: a finished cache of words, or of tokens.
        corpus: the clips.
        texts: the cache that the corpus was read from; may be the same.
        tokenizer: the corpus's.
        max_tokens: tokens of its longest sequence.
        seed: of the control.
        control: whose vectors each word takes.
        take: what vectors lose that they have in common with others.
        prepared: folder for tables and means; None for the usual one.
        stage_to: folder for a copy of the cache that its rows are read from; None to read them
            where they are.

    Raises:
        SpeechkdError: the caches hardly meet or differ in a text, or no word can be taught.
    """
    ready = Prepared(cache, prepared)
    by_token = cache.identity.kind == "text"
    store = (ready.taught_tokens if by_token else ready.words)(tokenizer, max_tokens)
    counts = WordCounts(**{f.name: store.facts[f.name] for f in fields(WordCounts)})
    if not counts.taught:
        raise SpeechkdError(
            f"{cache.location}: no word can be taught ({counts.in_words()}). Make a cache whose "
            "words have times that can be trusted: `speechkd cache info` counts them."
        )
    nearest = staged(cache, stage_to) if stage_to else cache
    reader = SequenceReader(nearest, with_words=False)
    told = []
    if cache.location == texts.location:
        place_P = torch.arange(len(reader.clips))
    else:
        place_P, missing = _joined(texts, reader, cache.location)
        told += [f"words and clips: {missing}"] if missing else []
    words = WordVectors(
        table=_table(store),
        reader=reader,
        place_C=_places(place_P, corpus),
        statistics=cache.statistics(),
        made_of=store.folder.name,
        control=control,
        seed=seed,
    )
    if take is not None:
        words, taken = take_from_words(words, take, ready)
        told.append(taken)
    if not int(words.counts(corpus.train).sum()):
        raise SpeechkdError(
            f"{cache.location}: no clip to train on has a word that can be taught "
            f"({counts.in_words()})."
        )
    return WordCorpus(words, cache, counts, told, place_P, ready)


def _table(store: ArrayStore) -> WordTable:
    names = ("counts", "firsts", "tokens", "rows", "types", "seconds")
    count_P, first_V, tokens_V, row_V, type_V, seconds_V = (store.map(name) for name in names)
    start_P = count_P.cumsum(0) - count_P
    return WordTable(start_P, count_P, first_V, tokens_V, row_V, type_V, seconds_V)


def _places(place_P: Tensor, corpus: Corpus) -> Tensor:
    """For each clip of the corpus its place in the cache of words; -1 for texts without speech."""
    place_C = torch.full((len(corpus),), -1, dtype=torch.int64)
    place_C[: corpus.spoken] = place_P[corpus.place_C[: corpus.spoken]]
    return place_C


def _joined(texts: TeacherCache, reader: SequenceReader, location: str) -> tuple[Tensor, str]:
    """For each clip of a cache its place in the cache of words, and what they do not share."""
    samples = [
        sample
        for shard in texts.receipts()
        for sample in sorted(texts.shard_samples(shard), key=lambda sample: sample["row"])
    ]
    joined = join(
        {
            "CACHE": Listing(
                texts.location, [s["key"] for s in samples], [s["text"] for s in samples]
            ),
            "--words": Listing(location, reader.clips.key, reader.clips.text),
        }
    )
    place_P = torch.full((len(samples),), -1, dtype=torch.int64)
    place_P[torch.from_numpy(joined.places["CACHE"])] = torch.from_numpy(joined.places["--words"])
    return place_P, joined.in_words()
