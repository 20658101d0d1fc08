"""What the words alone tell: the baseline that an encoder has to beat.

Of a clip, how often it has each word, and how long it is. Of a word, which it is, which stand
before and after it, which are in its clip, and its place. All are counted, none is learnt, so what
an encoder tells beyond them comes from more than which words are there.

Shapes: C clips, W words, D features.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from pipeline.corpus.word_spans import spelled
from pipeline.foundation.arrays import Array
from pipeline.tasks.hearing.words import Words

MOST_OF_CLIP = 2000
"""Words of clips that have a feature each: the commonest."""
MOST_ITSELF, MOST_BESIDE, MOST_AROUND = 1000, 250, 500
"""The same of a word: which it is, which stand beside it, which are in its clip."""
FEWEST = 2
"""Times under which a word has no feature, because nothing learnt of it can be used."""


def of_clips(texts: Sequence[str]) -> tuple[Array, Array]:
    """Features of clips from their texts.

    Returns:
        `[C, D]` float32, and which columns are quantities, whose units are arbitrary, `[D]`.
    """
    split = [text.split() for text in texts]
    types = [[kind for word in words if (kind := spelled(word)[0])] for words in split]
    counts_CD = _counted(types, MOST_OF_CLIP)
    words_C = np.array([len(kinds) for kinds in types], np.float64)
    letters_C = np.array([sum(map(len, kinds)) for kinds in types], np.float64)
    sizes_C4 = np.stack([words_C, letters_C, np.log1p(words_C), np.log1p(letters_C)], axis=1)
    return _joined([counts_CD], sizes_C4)


def of_words(words: Words, clip_words: Sequence[Sequence[str]]) -> tuple[Array, Array]:
    """Features of words.

    Args:
        words: those that are asked of.
        clip_words: all words of each clip, as its cache has them.

    Returns:
        `[W, D]` float32, and which columns are quantities `[D]`.
    """
    types = [[spelled(word)[0] for word in several] for several in clip_words]
    places = list(zip(words.clip_W.tolist(), words.number_W.tolist(), strict=True))
    around_CD = _counted([_bare(several) for several in types], MOST_AROUND)
    blocks = [
        _one_of([types[clip][number] for clip, number in places], MOST_ITSELF),
        _one_of([types[clip][number - 1] if number else None for clip, number in places],
                MOST_BESIDE),
        _one_of([types[clip][number + 1] if number + 1 < len(types[clip]) else None
                 for clip, number in places], MOST_BESIDE),
        around_CD[words.clip_W],
    ]  # fmt: skip
    before_W = words.number_W.astype(np.float64)
    length_W = np.array([len(types[clip]) for clip, _ in places], np.float64)
    letters_W = np.array([len(types[clip][number]) for clip, number in places], np.float64)
    after_W = length_W - before_W - 1
    quantities_W6 = np.stack(
        [
            *(np.log1p(before_W), np.log1p(after_W), np.log1p(length_W)),
            *(before_W == 0, after_W == 0, letters_W),
        ],
        axis=1,
    )
    return _joined(blocks, quantities_W6)


def _bare(types: Sequence[str]) -> list[str]:
    return [kind for kind in types if kind]


def _common(groups: Sequence[Sequence[Hashable]], most: int) -> dict[Hashable, int]:
    """A column for each of the commonest kinds, counted by the groups that have it."""
    having = Counter(kind for group in groups for kind in dict.fromkeys(group))
    kinds = [kind for kind, count in having.most_common(most) if count >= FEWEST]
    return {kind: column for column, kind in enumerate(kinds)}


def _counted(groups: Sequence[Sequence[Hashable]], most: int) -> Array:
    column_of = _common(groups, most)
    counts = np.zeros((len(groups), len(column_of)), np.float32)
    for row, group in enumerate(groups):
        for kind in group:
            if kind in column_of:
                counts[row, column_of[kind]] += 1
    return counts


def _one_of(kinds: Sequence[Hashable | None], most: int) -> Array:
    return _counted([[] if kind is None else [kind] for kind in kinds], most)


def _joined(blocks: Sequence[Array], quantities: Array) -> tuple[Array, Array]:
    features = np.concatenate([*blocks, quantities.astype(np.float32)], axis=1)
    is_quantity_D = np.zeros(features.shape[1], bool)
    is_quantity_D[features.shape[1] - quantities.shape[1] :] = True
    return features, is_quantity_D
