"""Which patches of audio are hidden, and which others of the clip they are told from.

Draws are functions of a batch's name (seed, stream, epoch, step), the clip and the place, so they
are the same on every device, in every order and for any number of processes.

Shapes: B clips, P patches, K patches to predict, J negatives, C candidates, S slots of spans.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.corpus.draws import PLACES, random_bits
from pipeline.foundation.splitmix import shifted
from pipeline.models.lengths import Lengths, Movable

Name = tuple[int | str, ...]
Candidates = Literal["masked", "all"]
FEWEST = 2
"""A clip with fewer hidden patches gives no term: there is nothing to tell its patch from."""
FARTHEST = 3
"""Distances from the nearest visible patch are told apart up to this one."""


def hidden_patches(patches: Lengths, clip_B: Tensor, share: float, span: int, name: Name) -> Tensor:
    """Which patches `[P]` are hidden: spans of equal length, placed uniformly.

    A clip of p patches has n = `share · p / span` spans, rounded. Each stands in another one of the
    p - n · span + 1 gaps before, between and behind its visible patches, so that two spans never
    touch. Single patches (`span` 1) may: they are a uniform choice of n of p.

    Args:
        patches: patches of each clip.
        clip_B: numbers of the clips.
        share: share of patches to hide.
        span: patches of a span; 1 for single ones (the paper's letter).
        name: seed, stream, epoch, step.
    """
    lengths_B = patches.lengths_B
    wanted_B = (share * lengths_B.double() / span).round().long()
    apart = int(span > 1)
    spans_B = torch.minimum(wanted_B, (lengths_B + apart) // (span + apart))
    slots_B = lengths_B - spans_B * (span + apart - 1) + apart
    slots = Lengths.of(slots_B)
    number_S = clip_B[slots.sequence_N] * PLACES + slots.offset_N
    bits_S = random_bits(number_S, *name, "spans")
    order_S = bits_S.argsort()
    order_S = order_S[slots.sequence_N[order_S].argsort(stable=True)]  # by clip, then by bits
    rank_S = torch.empty_like(order_S)
    rank_S[order_S] = slots.offset_N
    chosen_S = rank_S < spans_B[slots.sequence_N]
    # a span after i others of its clip begins so much later than its slot as they are long
    before_S = chosen_S.long().cumsum(0) - chosen_S.long()
    before_S -= before_S[slots.starts_B][slots.sequence_N]
    first_S = slots.offset_N + before_S * (span + apart - 1) + patches.starts_B[slots.sequence_N]
    place = first_S[chosen_S][:, None] + torch.arange(span)
    masked_P = torch.zeros(len(patches.sequence_N), dtype=torch.bool)
    masked_P[place.flatten()] = True
    return masked_P


@dataclass(frozen=True)
class Hidden(Movable):
    """Hidden patches and what each is told from.

    Attributes:
        masked_P: which patches are hidden.
        place_K: those that are predicted, by their place among all patches.
        distance_K: patches from each to the nearest visible one, at most `FARTHEST`.
        rows: the clips that have any, with their predicted patches; None if there are none.
        candidates: the same clips, with the patches that negatives come from.
        candidate_C: those by their place among all patches.
        own_K: which of its clip's candidates each predicted patch is.
        other_KJ: which of them are its negatives; some may be there twice.
    """

    masked_P: Tensor
    place_K: Tensor
    distance_K: Tensor
    rows: Lengths | None
    candidates: Lengths | None
    candidate_C: Tensor
    own_K: Tensor
    other_KJ: Tensor


def hide(
    patches: Lengths,
    clip_B: Tensor,
    name: Name,
    *,
    share: float,
    span: int,
    negatives: int,
    among: Candidates,
) -> Hidden:
    """Hide patches of each clip and draw negatives for them: uniform, with replacement.

    Args:
        patches: patches of each clip.
        clip_B: numbers of the clips.
        name: seed, stream, epoch, step.
        share: share of patches to hide.
        span: patches of a span.
        negatives: J.
        among: the other `masked` patches of the clip, or `all` others.
    """
    masked_P = hidden_patches(patches, clip_B, share, span, name)
    count_B = torch.zeros(len(clip_B), dtype=torch.int64).index_add(
        0, patches.sequence_N, masked_P.long()
    )
    has_B = count_B >= FEWEST
    distance_P = _distances(patches, masked_P)
    predicted_P = masked_P & has_B[patches.sequence_N]
    place_K = predicted_P.nonzero()[:, 0]
    if not len(place_K):
        none = torch.zeros(0, dtype=torch.int64)
        return Hidden(masked_P, none, none, None, None, none, none, none.view(0, negatives))
    rows = Lengths.of(count_B[has_B])
    candidate_P = predicted_P if among == "masked" else has_B[patches.sequence_N]
    candidate_C = candidate_P.nonzero()[:, 0]
    candidates = Lengths.of(count_B[has_B] if among == "masked" else patches.lengths_B[has_B])
    offset_P = torch.empty(len(masked_P), dtype=torch.int64)
    offset_P[candidate_C] = candidates.offset_N
    own_K = offset_P[place_K]
    number_K = clip_B[patches.sequence_N[place_K]] * PLACES + patches.offset_N[place_K]
    draw_KJ = number_K[:, None] * negatives + torch.arange(negatives)
    others_K1 = (candidates.lengths_B[rows.sequence_N] - 1)[:, None]
    other_KJ = shifted(random_bits(draw_KJ, *name, "audio negatives"), 1) % others_K1
    other_KJ += other_KJ >= own_K[:, None]  # itself is left out
    return Hidden(
        masked_P, place_K, distance_P[place_K], rows, candidates, candidate_C, own_K, other_KJ
    )


def _distances(patches: Lengths, masked_P: Tensor) -> Tensor:
    """Patches from each place to the nearest visible one of its clip, at most `FARTHEST`."""
    far_P = torch.full((len(masked_P),), FARTHEST, dtype=torch.int64)
    far_P[~masked_P] = 0
    place_P = torch.arange(len(masked_P))
    for apart in range(FARTHEST - 1, 0, -1):
        for shift in (-apart, apart):
            there_P = (place_P + shift).clamp(0, len(masked_P) - 1)
            same_P = patches.sequence_N[there_P] == patches.sequence_N
            near_P = same_P & ~masked_P[there_P] & masked_P & (there_P == place_P + shift)
            far_P[near_P] = apart
    return far_P
