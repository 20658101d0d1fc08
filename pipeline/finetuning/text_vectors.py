"""Where an encoder puts texts: their vectors, and the plane in which these differ most.

Shapes: n texts, D width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from pipeline.finetuning.classifier import JUDGED_TOKENS_PER_BATCH, mean_states, pack_rows
from pipeline.foundation.arrays import Array
from pipeline.models.packing import batches_by_length, encode_packed


@torch.inference_mode()
def vectors(encoder: PreTrainedModel, ids: Sequence[Array]) -> Array:
    """Mean of each text's last hidden states `[n, D]` (float32), by the encoder as it is."""
    encoder.eval()
    device = next(encoder.parameters()).device
    found = np.empty((len(ids), int(encoder.config.hidden_size)), np.float32)
    for chosen in batches_by_length([len(row) for row in ids], JUDGED_TOKENS_PER_BATCH):
        packed = pack_rows([ids[i] for i in chosen], device)
        found[chosen] = mean_states(encode_packed(encoder, packed), packed).float().cpu().numpy()
    return found


def plane(vectors_nD: Array) -> tuple[Array, float]:
    """The two directions in which vectors differ most.

    Returns:
        Coordinates `[n, 2]` on the first two principal components (of a sign that makes the
        largest entry of each positive), and the share of the variance that they hold.
    """
    centred_nD = np.asarray(vectors_nD, np.float64) - np.mean(vectors_nD, 0)
    values, directions_DD = np.linalg.eigh(centred_nD.T @ centred_nD)
    top_D2 = directions_DD[:, [-1, -2]]
    top_D2 = top_D2 * np.sign(top_D2[np.abs(top_D2).argmax(0), [0, 1]])
    total = float(values.sum())
    return centred_nD @ top_D2, float(values[-2:].sum()) / total if total > 0 else 0.0
