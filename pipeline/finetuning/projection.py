"""Where an encoder puts examples: their vectors, and the plane in which these differ most.

Shapes: n examples, D width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from pipeline.finetuning.inputs import Inputs, width_of
from pipeline.foundation.arrays import Array
from pipeline.tasks.words import spread


@torch.inference_mode()
def vectors(
    encoder: nn.Module,
    inputs: Inputs,
    places: Sequence[int],
    answers: Sequence[int] | None = None,
) -> Array:
    """Mean of the last hidden states of each example, or of each word that is asked of.

    Args:
        encoder: the encoder as it is.
        inputs: the examples.
        places: which of them.
        answers: how many vectors each of them has; one each by default.

    Returns:
        float32 `[n, D]`, in the order of the examples.
    """
    encoder.eval()
    counts = np.ones(len(places), np.int64) if answers is None else np.array(answers, np.int64)
    vectors_nD = np.empty((int(counts.sum()), width_of(encoder)), np.float32)
    for batch in inputs.batches(places):
        means_BD = inputs.vectors(encoder, [places[i] for i in batch], "mean")
        vectors_nD[spread(counts, np.array(batch))] = means_BD.float().cpu().numpy()
    return vectors_nD


def plane(vectors_nD: Array) -> tuple[Array, float]:
    """The two directions in which vectors differ most.

    Returns:
        Coordinates `[n, 2]` on the first two principal components (of a sign that makes the
        largest entry of each positive), and their share of the variance.
    """
    centred_nD = np.asarray(vectors_nD, np.float64) - np.mean(vectors_nD, 0)
    values, directions_DD = np.linalg.eigh(centred_nD.T @ centred_nD)
    top_D2 = directions_DD[:, [-1, -2]]
    top_D2 = top_D2 * np.sign(top_D2[np.abs(top_D2).argmax(0), [0, 1]])
    total = float(values.sum())
    return centred_nD @ top_D2, float(values[-2:].sum()) / total if total > 0 else 0.0
