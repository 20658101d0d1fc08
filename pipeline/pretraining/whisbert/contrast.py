"""Two contrastive losses: a hidden patch among others of its clip, a clip among others.

Both run in float32 outside of autocast. Means are over all processes: each returns its part, so
scaled that the processes' average is the mean.

Shapes: B clips of the whole batch, b those of this process, P patches, K predicted patches, J
negatives, C candidates of a clip, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.lengths import Lengths
from pipeline.pretraining.whisbert.hiding import Hidden
from pipeline.training import processes


@dataclass(frozen=True)
class Terms:
    """One loss per predicted patch.

    Attributes:
        loss_K: nats.
        counts_K: which count. A term whose negatives all equal its own patch does not.
    """

    loss_K: Tensor
    counts_K: Tensor

    def mean(self, of_K: Tensor | None = None) -> Tensor:
        """Mean of the terms that count, over all processes; 0 if none does.

        Args:
            of_K: the terms to take of them; None for all.
        """
        taken_K = self.counts_K if of_K is None else self.counts_K & of_K
        total = processes.differentiable_sum(taken_K.sum().float())
        part = torch.where(taken_K, self.loss_K, 0).sum()
        return part * processes.count() / total.clamp(min=1)


def within_clip(predicted_KD: Tensor, targets_PD: Tensor, hidden: Hidden, kappa: float) -> Terms:
    """Contrast each predicted patch with its own target and those of its negatives.

    `-log(exp(cos(c_t, b_t) / κ) / Σ exp(cos(c_t, b_i) / κ))` over the own target and the negatives
    (Wolf et al. 2023, Eq. 2). A negative that is there twice counts twice. A negative whose target
    equals the own one bit for bit does not count, as in wav2vec2; where all do so, neither does the
    term, which would be 0 whatever is predicted.

    Args:
        predicted_KD: what is predicted.
        targets_PD: of all patches: the stem's output of what is not hidden, without positions.
        hidden: which patches are predicted, and their negatives.
        kappa: temperature κ.
    """
    device_type = predicted_KD.device.type
    rows, candidates = hidden.rows, hidden.candidates
    if rows is None or candidates is None:
        nothing = 0 * (predicted_KD.float().sum() + targets_PD.float().sum())
        none_K = nothing.new_zeros(0)
        return Terms(none_K + nothing, none_K.bool())
    with torch.autocast(device_type, enabled=False):
        target_CD = targets_PD.float().index_select(0, hidden.candidate_C)
        grid_bCD = _spread(functional.normalize(target_CD, dim=1), candidates)
        grid_bKD = _spread(functional.normalize(predicted_KD.float(), dim=1), rows)
        cosine_bKC = grid_bKD @ grid_bCD.transpose(1, 2)
        row_K = rows.sequence_N
        cosine_KC = cosine_bKC.flatten(0, 1).index_select(0, _place_in_grid(rows)) / kappa
        with torch.no_grad():
            mark_bC = fingerprints(target_CD)[candidates.grid_BL]
            own_K1 = hidden.own_K[:, None]
            same_KC = mark_bC[row_K] == mark_bC[row_K].gather(1, own_K1)
            times_KC = torch.zeros_like(cosine_KC).scatter_add(
                1, hidden.other_KJ, torch.ones_like(hidden.other_KJ, dtype=torch.float32)
            )
            times_KC = times_KC.masked_fill(same_KC, 0)
            counts_K = (times_KC > 0).any(1)
            weight_KC = times_KC.scatter(1, own_K1, 1.0).log()  # -inf for what does not count
        loss_K = (cosine_KC + weight_KC).logsumexp(1) - cosine_KC.gather(1, own_K1)[:, 0]
    return Terms(loss_K, counts_K)


def _place_in_grid(lengths: Lengths) -> Tensor:
    """Where each place stands in the sequences' padded grid, its rows end to end."""
    return lengths.sequence_N * lengths.grid_BL.shape[1] + lengths.offset_N


def _spread(values_ND: Tensor, lengths: Lengths) -> Tensor:
    """Values `[N, D]` in the sequences' padded grid `[B, L, D]`, zero where there is no place."""
    sequences, longest = lengths.grid_BL.shape
    grid = values_ND.new_zeros(sequences * longest, values_ND.shape[1])
    return grid.index_copy(0, _place_in_grid(lengths), values_ND).view(sequences, longest, -1)


def fingerprints(values_CD: Tensor) -> Tensor:
    """A number `[C]` of each row, int64; rows that are equal bit for bit have the same.

    A sum of their bits with odd weights, modulo 2^64: other rows share one by a chance of 2^-64.
    """
    bits_CD = (values_CD.detach().float() + 0.0).view(torch.int32).long()  # -0 equals 0
    weight_D = torch.arange(1, 2 * values_CD.shape[1], 2, device=values_CD.device)
    return (bits_CD * (weight_D * 0x5851F42D4C957F2D)).sum(1)


@dataclass(frozen=True)
class ClipContrast:
    """The loss between clips and how often it is right.

    Attributes:
        loss: nats per clip.
        top1: share of clips whose own counterpart is nearest, both directions together.
        chance: the loss if all were alike.
    """

    loss: Tensor
    top1: Tensor
    chance: Tensor


def between_clips(
    audio_bD: Tensor, text_bD: Tensor, scale: Tensor, rivals_BB: Tensor, process: int
) -> ClipContrast:
    """CLIP's loss between the audio and the text of each clip of the whole batch.

    `½ (CE(audio → text) + CE(text → audio))` of `scale · cos`. A clip without rivals gives no term.

    Args:
        audio_bD: of this process's clips, in their order.
        text_bD: the same of their texts.
        scale: one over the temperature.
        rivals_BB: which clips of the whole batch may be told from each other, symmetric.
        process: number of this process, whose clips are every `processes.count()`th of the batch.
    """
    with torch.autocast(audio_bD.device.type, enabled=False):
        own_b = torch.arange(process, len(rivals_BB), processes.count(), device=audio_bD.device)
        units = (functional.normalize(x.float(), dim=1) for x in (audio_bD, text_bD))
        audio_bD, text_bD = units
        both_BD = audio_bD.new_zeros(len(rivals_BB), 2 * audio_bD.shape[1])
        both_BD = both_BD.index_copy(0, own_b, torch.cat([audio_bD, text_bD], 1))
        audio_BD, text_BD = processes.differentiable_sum(both_BD).chunk(2, 1)
        rival_bB = rivals_BB[own_b]
        shown_bB = rival_bB.scatter(1, own_b[:, None], True)
        counts_b = rival_bB.any(1)
        total = rivals_BB.any(1).sum().clamp(min=1)
        loss = audio_bD.new_zeros(())
        right = audio_bD.new_zeros(())
        for one_bD, other_BD in ((audio_bD, text_BD), (text_bD, audio_BD)):
            logits_bB = (scale * one_bD @ other_BD.T).masked_fill(~shown_bB, -torch.inf)
            each_b = functional.cross_entropy(logits_bB, own_b, reduction="none")
            loss = loss + torch.where(counts_b, each_b, 0).sum() / 2
            right = right + ((logits_bB.argmax(1) == own_b) & counts_b).sum() / 2
        chance = torch.where(counts_b, (rival_bB.sum(1) + 1).float().log(), 0).sum()
        part = processes.count() / total
    return ClipContrast(loss * part, right * part, chance * part)
