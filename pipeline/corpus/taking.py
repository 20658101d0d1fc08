"""Taking away from vectors what those of their speaker, or of their word, have in common.

Shapes: B clips of a batch, P clips of a cache, V words that can be taught, G groups, E width.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cache.statistics import Statistics
from pipeline.corpus.arrays import ArrayStore, ArrayWriter
from pipeline.corpus.groups import speakers
from pipeline.corpus.prepared import Prepared
from pipeline.corpus.vectors import Vectors
from pipeline.corpus.within import UNKNOWN, Within, within
from pipeline.corpus.word_vectors import WordVectors, numbers_in, read_rows
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import Meter, counted

What = Literal["within-speaker", "within-word"]
AT_ONCE = 16_384
"""Vectors that are read together: 50 MB of the widest."""
GROUPS = {
    "within-speaker": ("speaker (or recording)", "speakers (or recordings)"),
    "within-word": ("spelling", "spellings"),
}


def take_from_words(words: WordVectors, what: What, prepared: Prepared) -> tuple[WordVectors, str]:
    """Word vectors without what their group has in common, and what that is, in words.

    Args:
        words: as the cache has them.
        what: the group.
        prepared: of the cache of words; keeps the means for later runs.

    Raises:
        SpeechkdError: there is no group with two vectors, or no speaker is known.
    """
    table = words.table
    if what == "within-word":
        group_V = table.type_V
        groups = int(group_V.max()) + 1 if len(group_V) else 0
    else:
        speaker_P, groups = speakers(prepared.cache)
        group_V = torch.from_numpy(speaker_P)[table.clip_V]

    def pieces() -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        with Meter("reading words for the means", len(group_V), "words") as meter:
            for first in range(0, len(group_V), AT_ONCE):
                part = slice(first, first + AT_ONCE)
                yield read_rows(words.reader, table.row_V[part]).numpy(), group_V[part].numpy()
                meter.advance(len(group_V[part]))

    store = prepared.made(
        what,
        [words.made_of],
        lambda writer: _write(writer, within(pieces(), groups, words.statistics.mean_E)),
    )
    taken_GE, statistics = _read(store)
    told = _told(what, store, "words")
    return replace(words, statistics=statistics, taken_GE=taken_GE, group_V=group_V), told


def take_from_clips(vectors: Vectors, prepared: Prepared) -> tuple[Vectors, str]:
    """Vectors of clips without what those of their speaker have in common, and that in words.

    Args:
        vectors: as the cache has them, with any control.
        prepared: of their cache; keeps the means for later runs.

    Raises:
        SpeechkdError: no speaker has two clips, or none is known.
    """
    speaker_P, groups = speakers(prepared.cache)
    store = prepared.made(
        "within-speaker",
        [],
        lambda writer: _write(
            writer, within(_stored(prepared, speaker_P), groups, vectors.statistics.mean_E)
        ),
    )
    taken_GE, statistics = _read(store)
    group_P = torch.from_numpy(speaker_P)
    told = _told("within-speaker", store, "clips")
    taken = replace(
        vectors, statistics=statistics, common=lambda place_B: taken_GE[group_P[place_B]]
    )
    return taken, told


def take_words_from_clips(
    vectors: Vectors, prepared: Prepared, words: WordVectors, place_P: Tensor
) -> tuple[Vectors, str]:
    """Vectors of clips without the means of their words, each as long as it was said.

    A clip without a word that can be taught loses the mean over all words.

    Args:
        vectors: of clips, with any control.
        prepared: of their cache.
        words: from `take_from_words` with `within-word`.
        place_P: which clip of the cache of words each clip is; -1 for none.

    Raises:
        SpeechkdError: words and clips come from teachers of different widths.
    """
    if words.width != vectors.width:
        raise SpeechkdError(
            f"--teacher-side within-word: the vectors of words are {words.width} wide, those of "
            f"clips {vectors.width}. Make both with one teacher."
        )
    table, taken_GE = words.table, words.taken_GE
    if taken_GE is None:
        raise ValueError("nothing is taken from the words")

    def common(place_B: Tensor) -> Tensor:
        there_B = place_P[place_B]
        start_B = table.start_P[there_B.clamp(min=0)]
        count_B = torch.where(there_B < 0, 0, table.count_P[there_B.clamp(min=0)])
        word_W, clip_W = numbers_in(start_B, count_B)
        seconds_W = table.seconds_V[word_W]
        sum_BE = torch.zeros(len(place_B), words.width).index_add(
            0, clip_W, taken_GE[table.type_V[word_W]] * seconds_W[:, None]
        )
        seconds_B = torch.zeros(len(place_B)).index_add(0, clip_W, seconds_W)
        mean_BE = sum_BE / seconds_B[:, None].clamp(min=1e-6)
        return torch.where(seconds_B[:, None] > 0, mean_BE, taken_GE[UNKNOWN])

    def left() -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        for vectors_nE, place_n in _stored(prepared, np.arange(len(place_P))):
            common_nE = common(torch.from_numpy(place_n)).numpy()
            yield vectors_nE.astype(np.float32) - common_nE, np.zeros(len(place_n), np.int64)

    store = prepared.made(
        "within-word",
        [words.made_of],
        lambda writer: _write(writer, within(left(), 1, np.zeros(words.width))),
    )
    # what is left of all clips is one group, whose mean and spread the objectives take
    mean_GE, statistics = _read(store)
    statistics = replace(statistics, mean_E=mean_GE[0].double().numpy())
    alone = int((place_P < 0).sum())
    told = "within-word: each clip loses the means of its words" + (
        f"; those without words, {counted(alone, 'clip')}, lose the mean over all words"
        if alone
        else ""
    )
    return replace(vectors, statistics=statistics, common=common), told


def _stored(
    prepared: Prepared, number_P: NDArray[np.int64]
) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    """The stored vectors of a cache piece by piece, each with its number."""
    stored_PE = prepared.vectors().map("vectors")
    with Meter("reading vectors for the means", len(stored_PE), "clips") as meter:
        for first in range(0, len(stored_PE), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            yield stored_PE[part].numpy(), number_P[part]
            meter.advance(len(stored_PE[part]))


def _write(writer: ArrayWriter, means: Within) -> None:
    writer.append("taken", means.taken_GE)
    writer.append("std", means.std_E)
    writer.close({"groups": means.groups, "single": means.single, "vectors": means.vectors})


def _read(store: ArrayStore) -> tuple[Tensor, Statistics]:
    taken_GE = store.load("taken", torch.device("cpu"))
    std_E = store.load("std", torch.device("cpu")).numpy()
    return taken_GE, Statistics(store.facts["vectors"], np.zeros(len(std_E)), std_E)


def _told(what: What, store: ArrayStore, of: str) -> str:
    """What was taken away, with groups of one counted.

    Raises:
        SpeechkdError: all groups are such.
    """
    groups, single = store.facts["groups"], store.facts["single"]
    if groups == single:
        raise SpeechkdError(
            f"--teacher-side {what}: each of the {counted(groups, *GROUPS[what])} has one of the "
            f"{of} alone, so there is nothing that several have in common. Use --teacher-side "
            "standardize."
        )
    told = f"{what}: the means of {counted(groups, *GROUPS[what])} are taken away from {of}"
    if single:
        verb = "has" if single == 1 else "have"
        told += f"; {single:,} of them {verb} one of the {of} alone, which loses the mean over all"
    if groups == 1:
        told += "; with one alone this is what standardize does"
    return told
