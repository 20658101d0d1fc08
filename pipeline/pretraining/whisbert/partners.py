"""Unmatched pairs of audio and text whose lengths are alike.

From the lengths of both alone a matched pair can be told from a random one (in LibriSpeech 82 % of
the time), which teaches nothing of speech. So a clip's audio gets the text of a clip of like
duration and like number of tokens.

Shapes: b clips of a process's share.
"""

import math

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.draws import random_bits
from pipeline.foundation.arrays import Array
from pipeline.pretraining.whisbert.hiding import Name

BLOCK = 4
"""Clips alike in both lengths that exchange their texts with each other."""
NEVER, RATHER_NOT = 1000, 1
"""How bad a pair is: of a clip with itself or another of the same text; of one recording."""


def partners(
    patches_b: Tensor,
    tokens_b: Tensor,
    clip_b: Tensor,
    text_b: Tensor,
    recording_b: Tensor,
    name: Name,
) -> tuple[Tensor, Tensor]:
    """Which text each clip's audio is joined with, so that they do not match.

    Clips are ordered by duration in strips and within a strip by tokens, and those that stand
    together exchange their texts in a circle. Then pairs of one text, and as far as possible those
    of one recording, are mended by exchanging texts once more. It is a function of its arguments.

    Args:
        patches_b: duration of each clip.
        tokens_b: tokens of each text.
        clip_b: numbers of the clips, for the draws.
        text_b: numbers of the texts; equal ones match each other's audio.
        recording_b: numbers of the recordings, negative where unknown.
        name: seed, stream, epoch, step.

    Returns:
        The clips whose audio is joined, and those whose text is, by their places: as many of each,
        no clip twice. A clip for which there is no text but its own is left out.
    """
    order_b = _alike(patches_b, tokens_b, clip_b, name)
    circle_b = torch.empty_like(order_b)
    for first in _blocks(len(order_b)):
        circle_b[order_b[first]] = order_b[first].roll(1)
    bad_bb = _badness(text_b, recording_b)
    partner_b = _mended(circle_b.numpy().copy(), order_b.numpy(), bad_bb)
    audio_k = np.flatnonzero(bad_bb[np.arange(len(partner_b)), partner_b] < NEVER)
    return torch.from_numpy(audio_k), torch.from_numpy(partner_b[audio_k])


def _alike(patches_b: Tensor, tokens_b: Tensor, clip_b: Tensor, name: Name) -> Tensor:
    """An order in which neighbours are alike in both lengths; ties are drawn."""
    count = len(clip_b)
    bits = random_bits(clip_b, *name, "partners").numpy()
    patches, tokens = patches_b.numpy(), tokens_b.numpy()
    by_patches = np.lexsort((bits, tokens, patches))
    strips = max(1, math.isqrt(count // BLOCK))
    parts = []
    for number, strip in enumerate(np.array_split(by_patches, strips)):
        by_tokens = strip[np.lexsort((bits[strip], tokens[strip]))]
        parts.append(by_tokens if number % 2 == 0 else by_tokens[::-1])
    return torch.from_numpy(np.concatenate(parts))


def _blocks(count: int) -> list[slice]:
    """Slices of `BLOCK` clips; a rest of one joins the block before it."""
    starts = list(range(0, count, BLOCK))
    if len(starts) > 1 and count - starts[-1] < 2:
        starts.pop()
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], count], strict=True)]


def _badness(text_b: Tensor, recording_b: Tensor) -> Array:
    """How bad it is to join the audio of one clip with the text of another."""
    same_text = text_b[:, None] == text_b
    same_recording = (recording_b[:, None] == recording_b) & (recording_b >= 0)
    bad_bb = NEVER * same_text.long() + RATHER_NOT * same_recording.long()
    bad_bb.fill_diagonal_(NEVER + RATHER_NOT)
    mended: Array = bad_bb.numpy()
    return mended


def _mended(partner_b: Array, order_b: Array, bad_bb: Array) -> Array:
    """Exchange texts of two clips while that makes pairs less bad, the nearest in order first."""
    rank_b = np.argsort(order_b)
    everyone = np.arange(len(partner_b))
    for clip in order_b.tolist():
        now_b = bad_bb[everyone, partner_b]
        if not now_b[clip]:
            continue
        exchanged_b = bad_bb[clip, partner_b] + bad_bb[everyone, partner_b[clip]]
        gain_b = now_b[clip] + now_b - exchanged_b
        gain_b[clip] = 0
        best = np.lexsort((np.abs(rank_b - rank_b[clip]), -gain_b))[0]
        if gain_b[best] > 0:
            partner_b[[clip, best]] = partner_b[[best, clip]]
    return partner_b
