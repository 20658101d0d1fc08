"""Finding a clip's text by its audio and its audio by its text, among clips held out.

Shapes: B clips, K of them that are looked for at a time.
"""

from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.foundation.errors import SpeechkdError

FIRST = (1, 10)
MOST_SCORES = 2**22
"""Similarities that are held at a time: 34 MB in float64, whatever is held out."""


@dataclass(frozen=True)
class Retrieval:
    """How well one side finds the other.

    Attributes:
        queries: how many clips were looked for.
        candidates: how many each was looked for among, on the mean, itself included.
        r1: share found first; a tie counts with the chance to be drawn first.
        r10: share found among the first ten.
        median_rank: from 1.
        chance_r1: what r1 would be by chance.
        chance_r10: what r10 would be.
        chance_median_rank: what the median rank would be.
    """

    queries: int
    candidates: float
    r1: float
    r10: float
    median_rank: float
    chance_r1: float
    chance_r10: float
    chance_median_rank: float


class Scores(Protocol):
    """How near queries are to all clips, some queries at a time: all may be many."""

    def __call__(self, query: slice, /) -> Tensor:
        """Rows `[K, B]` of these K queries; higher is nearer."""


def ranks(score_KB: Tensor, own_K: Tensor, candidates_KB: Tensor) -> Tensor:
    """Of each query `[K, 3]`: candidates above its own counterpart, level with it, and all of them.

    Args:
        score_KB: higher is nearer; a row is a query, a column what it is compared with.
        own_K: the column of each query's own counterpart, which is no candidate.
        candidates_KB: which columns each query is compared with beside its own.

    Raises:
        SpeechkdError: a score is not a number.
    """
    if not torch.isfinite(score_KB).all():
        raise SpeechkdError("retrieval: a similarity of two clips is not a finite number.")
    own_K1 = own_K[:, None]
    others_KB = candidates_KB.scatter(1, own_K1, False)
    own_score_K1 = score_KB.gather(1, own_K1)
    above_K = ((score_KB > own_score_K1) & others_KB).sum(1)
    level_K = ((score_KB == own_score_K1) & others_KB).sum(1)
    return torch.stack([above_K, level_K, others_KB.sum(1)], 1)


def retrieval(rank_B3: Tensor) -> Retrieval | None:
    """What ranks are in figures; queries without candidates are left out.

    Args:
        rank_B3: of each query, as `ranks` tells them.

    Returns:
        None if no query has candidates.
    """
    above_B, level_B, others_B = rank_B3[rank_B3[:, 2] > 0].double().unbind(1)
    if not len(others_B):
        return None
    count_B = others_B + 1
    shares = {}
    for first in FIRST:  # the place among those of equal score is drawn
        within_B = ((first - above_B) / (level_B + 1)).clamp(0, 1)
        shares[first] = float(within_B.mean())
    return Retrieval(
        queries=len(count_B),
        candidates=float(count_B.mean()),
        r1=shares[1],
        r10=shares[10],
        median_rank=float((above_B + level_B / 2 + 1).quantile(0.5)),
        chance_r1=float((1 / count_B).mean()),
        chance_r10=float((10 / count_B).clamp(max=1).mean()),
        chance_median_rank=float(((count_B + 1) / 2).quantile(0.5)),
    )


def both_ways(
    audio_to_text: Scores, text_to_audio: Scores, text_B: Tensor, recording_B: Tensor
) -> dict[str, dict[str, float] | None]:
    """Retrieval in both directions, among other recordings and within the own one.

    Clips with the same text are right answers of each other, and so no candidates. At most
    `MOST_SCORES` similarities are held at a time.

    Args:
        audio_to_text: a row is a clip's audio, a column a clip's text.
        text_to_audio: the same the other way round.
        text_B: numbers of the texts.
        recording_B: numbers of the recordings, negative where unknown; such a clip is alone.

    Returns:
        By direction and by what is compared with; None where no clip has a candidate.
    """
    clips = len(text_B)
    at_once = max(1, MOST_SCORES // max(1, clips))
    figures: dict[str, dict[str, float] | None] = {}
    for way, scores in (("audio to text", audio_to_text), ("text to audio", text_to_audio)):
        rows: dict[str, list[Tensor]] = {"across": [], "within": []}
        for start in range(0, clips, at_once):
            query = slice(start, start + at_once)
            score_KB, own_K = scores(query), torch.arange(clips)[query]
            recording_K1 = recording_B[query, None]
            same_KB = (recording_K1 == recording_B) & (recording_K1 >= 0)
            other_text_KB = text_B[query, None] != text_B
            rows["across"].append(ranks(score_KB, own_K, ~same_KB & other_text_KB))
            rows["within"].append(ranks(score_KB, own_K, same_KB & other_text_KB))
        for among, parts in rows.items():
            result = retrieval(torch.cat(parts))
            figures[f"{way}, {among} recordings"] = None if result is None else asdict(result)
    return figures
