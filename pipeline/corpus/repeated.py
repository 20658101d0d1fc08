"""Texts of a corpus that stand in it more than once, by their tokens.

Shapes: C clips, N tokens.
"""

import torch
from torch import Tensor

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.draws import PLACES
from pipeline.foundation.splitmix import mixed

CLIPS_AT_ONCE = 2**16


def fingerprints(corpus: Corpus) -> Tensor:
    """64 bits `[C]` that stand for each clip's tokens: equal for equal texts.

    The sum of SplitMix64 of each token with its place, modulo 2^64. Of a million different texts
    two have the same bits with a chance of 3e-8.
    """
    parts = [torch.empty(0, dtype=torch.int64)]
    for clip_B in torch.split(torch.arange(len(corpus)), CLIPS_AT_ONCE):
        packed = corpus.tokens_of(clip_B)
        bits_N = mixed(packed.ids_N.long() * PLACES + packed.offset_N)
        parts.append(
            torch.zeros(len(clip_B), dtype=torch.int64).index_add_(0, packed.sequence_N, bits_N)
        )
    return torch.cat(parts)


def repeated(corpus: Corpus) -> dict[str, int]:
    """How many texts without speech stand elsewhere in the corpus, too.

    Returns:
        `spoken`: texts to train on that are those of clips with speech; `spoken_held_out`: those
        among them whose clips are held out; `held_out`: texts held out, with speech or without,
        that are also trained on; `again`: texts without speech that stand before among them.
    """
    bits_C = fingerprints(corpus)
    spoken_C = torch.arange(len(corpus)) < corpus.spoken
    train = corpus.train[~spoken_C[corpus.train]]
    texts_T = bits_C[~spoken_C]
    return {
        "spoken": _also(bits_C[train], bits_C[spoken_C]),
        "spoken_held_out": _also(bits_C[train], bits_C[corpus.spoken_held_out]),
        "held_out": _also(bits_C[corpus.held_out], bits_C[corpus.train]),
        "again": len(texts_T) - len(torch.unique(texts_T)),
    }


def _also(some: Tensor, others: Tensor) -> int:
    return int(torch.isin(some, others).sum())
