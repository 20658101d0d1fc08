"""The words of the judged clips: which are asked of, when each was said, and their vectors.

Shapes: C judged clips, W words that are asked of, E width.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.corpus.word_spans import owners, spelled
from pipeline.corpus.word_vectors import read_rows
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.tasks.hearing import prosody
from pipeline.tasks.hearing.clips import Clip


@dataclass(frozen=True)
class Spoken:
    """The words of one clip, those without a trusted time among them.

    Attributes:
        texts: as they are written.
        start_V: when each begins, in seconds.
        end_V: when it ends.
        trusted_V: whether these times can be trusted.
        row: row of the first of them in the cache of words; the others follow.
        owner_X: from `owners`: the word of each character of the clip's text; None if the words
            spell another text.
    """

    texts: list[str]
    start_V: Array
    end_V: Array
    trusted_V: Array
    row: int
    owner_X: Array | None


def read_spoken(cache: TeacherCache, clips: Sequence[Clip]) -> list[Spoken]:
    """The words of some clips, whose keys the cache of words has.

    Args:
        cache: of words.
        clips: some of its own clips, as `read_clips` gives them.

    Raises:
        Damaged: the samples of a shard are.
    """
    spoken_by_key: dict[str, Spoken] = {}
    wanted = {clip.key for clip in clips}
    for shard in sorted({clip.shard for clip in clips}):
        for sample in cache.shard_samples(shard):
            if sample["key"] in wanted:
                spoken_by_key[sample["key"]] = _spoken(sample)
    return [spoken_by_key[clip.key] for clip in clips]


def _spoken(sample: Mapping[str, Any]) -> Spoken:
    words: Sequence[Mapping[str, Any]] = sample["words"]
    texts = [word["text"] for word in words]
    return Spoken(
        texts=texts,
        start_V=np.array([word["start_s"] for word in words], np.float64),
        end_V=np.array([word["end_s"] for word in words], np.float64),
        trusted_V=np.array([word["trusted"] for word in words], bool),
        row=sample["row"],
        owner_X=owners(sample["text"], texts),
    )


@dataclass(frozen=True)
class Words:
    """The words that are asked of, clip after clip.

    Attributes:
        clip_W: place of the clip.
        number_W: place of the word in its clip.
        texts: as they are written.
        type_W: number of what each is spelled with.
        row_W: row in the cache of words.
        start_W: when each begins, in seconds.
        end_W: when it ends.
        pause_W: silence before it in seconds; NaN where that cannot be told.
        omissions: what was left out, in words.
    """

    clip_W: Array
    number_W: Array
    texts: list[str]
    type_W: Array
    row_W: Array
    start_W: Array
    end_W: Array
    pause_W: Array
    omissions: str

    def __len__(self) -> int:
        return len(self.texts)


def asked_words(
    spoken: Sequence[Spoken], read_by: Sequence[Sequence[set[int]]], location: str
) -> Words:
    """The words that have a trusted time and a token of each encoder.

    Args:
        spoken: of each judged clip.
        read_by: per encoder and clip, the words that its tokens hold whole.
        location: of the cache, for messages.

    Raises:
        SpeechkdError: there is none.
    """
    left_out: Counter[str] = Counter()
    columns: list[list[Any]] = [[] for _ in range(7)]
    texts: list[str] = []
    types: dict[str, int] = {}
    words = 0
    for clip, one in enumerate(spoken):
        words += len(one.texts)
        if one.owner_X is None:
            left_out["of clips whose words spell another text"] += len(one.texts)
            continue
        pause_V = prosody.pauses(one.start_V, one.end_V, one.trusted_V)
        for number, text in enumerate(one.texts):
            if not one.trusted_V[number]:
                left_out["without a trusted time"] += 1
            elif any(number not in encoder[clip] for encoder in read_by) or not spelled(text)[0]:
                left_out["that some encoder has no token of, or that are cut off"] += 1
            else:
                texts.append(text)
                values = (
                    *(clip, number, types.setdefault(spelled(text)[0], len(types))),
                    *(one.row + number, one.start_V[number], one.end_V[number], pause_V[number]),
                )
                for column, value in zip(columns, values, strict=True):
                    column.append(value)
    less = "".join(f"; left out are {count:,} {why}" for why, count in left_out.items())
    if not texts:
        raise SpeechkdError(
            f"{location}: none of the {counted(words, 'word')} of the judged clips can be asked "
            f"of{less}. Make a cache whose words have times that can be trusted: `speechkd cache "
            "info` counts them."
        )
    clip_W, number_W, type_W, row_W = (np.array(column, np.int64) for column in columns[:4])
    start_W, end_W, pause_W = (np.array(column, np.float64) for column in columns[4:])
    summary = f"{counted(len(texts), 'word')} of {words:,}, {len(types):,} different ones{less}"
    return Words(clip_W, number_W, texts, type_W, row_W, start_W, end_W, pause_W, summary)


def word_vectors(cache: TeacherCache, words: Words) -> Array:
    """The teacher's vectors of words `[W, E]`, float32."""
    reader = SequenceReader(cache, with_words=False)
    return np.asarray(read_rows(reader, torch.from_numpy(words.row_W)).numpy())
