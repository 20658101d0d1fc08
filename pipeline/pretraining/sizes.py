"""How large batches and steps can get, for what is announced before a run."""

import math

from pipeline.corpus.row_batches import RowBatches
from pipeline.corpus.row_corpus import RowCorpus

DEVIATIONS = 6
"""Beyond the mean by so many standard deviations comes one batch in a billion."""
FLOAT_BYTES = 4
COUNTED_CLIPS = 4_000_000
"""Clips of all epochs of a run whose batches are counted one by one before it; that takes about a
second."""


def most_places(corpus: RowCorpus, part: str, clips: int) -> int:
    """Places of a part in a batch of some clips, except one batch in a billion.

    Args:
        corpus: what batches are drawn from.
        part: name of the part.
        clips: of the batch, or of a process's share.
    """
    lengths_C = corpus.parts[part].lengths_of(corpus.train).double()
    deviation = float(lengths_C.std(correction=0)) if len(lengths_C) else 0.0
    most = clips * float(lengths_C.mean()) + DEVIATIONS * math.sqrt(clips) * deviation
    return min(round(most), clips * int(lengths_C.max()))


def largest_share(batches: RowBatches, part: str, steps: int) -> int:
    """Places of a part in the largest share that a process has of any batch of a run.

    Batches follow from the seed, so they are counted as they will be; only of very long runs
    `most_places` is taken.

    Args:
        batches: of the run.
        part: name of the part.
        steps: of the whole run.
    """
    corpus, order, size = batches.corpus, batches.clips, batches.clips_per_batch
    clips = own_clips(size, batches.processes)
    epochs = math.ceil(steps / order.per_epoch)
    if epochs * len(corpus.train) > COUNTED_CLIPS:
        return most_places(corpus, part, clips)
    lengths, most = corpus.parts[part], 0
    for epoch in range(epochs):
        count = min(order.per_epoch, steps - epoch * order.per_epoch)
        length_SB = lengths.lengths_of(order.of(epoch)[: count * size]).view(count, size)
        for process in range(batches.processes):
            own_S = length_SB[:, process :: batches.processes].sum(1)
            most = max(most, int(own_S.max()))
    return most


def mean_places(corpus: RowCorpus, part: str) -> float:
    """Mean number of places of a part in a clip to train on."""
    return float(corpus.parts[part].lengths_of(corpus.train).double().mean())


def encoder_flops(places: float, layers: int, width: int, inner: int) -> float:
    """Operations of a forward pass over one clip: dense parts, and attention of all with all.

    Args:
        places: of the clip.
        layers: of the encoder.
        width: D.
        inner: width of the feed-forward part.
    """
    return layers * (places * (8 * width**2 + 4 * width * inner) + 4 * places**2 * width)


def own_clips(clips: int, processes: int) -> int:
    """Clips of the largest share of a batch."""
    return math.ceil(clips / processes)
