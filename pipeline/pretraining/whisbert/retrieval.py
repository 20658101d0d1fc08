"""Finding a clip's text by its audio and its audio by its text, among clips held out.

Shapes: B clips, D width.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from pipeline.foundation.errors import SpeechkdError

FIRST = (1, 10)


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


def retrieval(score_BB: Tensor, candidates_BB: Tensor) -> Retrieval | None:
    """Rank each query's own counterpart among its candidates.

    Args:
        score_BB: higher is nearer; a row is a query, a column what it is compared with.
        candidates_BB: which columns each query is compared with beside its own. Queries without
            any are left out.

    Returns:
        None if no query has candidates.

    Raises:
        SpeechkdError: a score is not a number.
    """
    if not torch.isfinite(score_BB).all():
        raise SpeechkdError("retrieval: a similarity of two clips is not a finite number.")
    own_B1 = score_BB.diagonal()[:, None]
    others_BB = candidates_BB.clone().fill_diagonal_(False)
    asked_B = others_BB.any(1)
    if not bool(asked_B.any()):
        return None
    above_B = ((score_BB > own_B1) & others_BB).sum(1)[asked_B].double()
    level_B = ((score_BB == own_B1) & others_BB).sum(1)[asked_B].double()
    count_B = others_BB.sum(1)[asked_B].double() + 1
    shares = {}
    for first in FIRST:  # the place among those of equal score is drawn
        within_B = ((first - above_B) / (level_B + 1)).clamp(0, 1)
        shares[first] = float(within_B.mean())
    return Retrieval(
        queries=int(asked_B.sum()),
        candidates=float(count_B.mean()),
        r1=shares[1],
        r10=shares[10],
        median_rank=float((above_B + level_B / 2 + 1).quantile(0.5)),
        chance_r1=float((1 / count_B).mean()),
        chance_r10=float((10 / count_B).clamp(max=1).mean()),
        chance_median_rank=float(((count_B + 1) / 2).quantile(0.5)),
    )


def both_ways(
    score_BB: Tensor, text_B: Tensor, recording_B: Tensor
) -> dict[str, dict[str, float] | None]:
    """Retrieval in both directions, among other recordings and within the own one.

    Clips with the same text are right answers of each other, and so no candidates.

    Args:
        score_BB: a row is a clip's audio, a column a clip's text.
        text_B: numbers of the texts.
        recording_B: numbers of the recordings, negative where unknown; such a clip is alone.

    Returns:
        By direction and by what is compared with; None where no clip has a candidate.
    """
    other_text_BB = text_B[:, None] != text_B
    same_BB = (recording_B[:, None] == recording_B) & (recording_B >= 0)
    figures: dict[str, dict[str, float] | None] = {}
    for way, scores in (("audio to text", score_BB), ("text to audio", score_BB.T)):
        for among, candidates in (("across", ~same_BB), ("within", same_BB)):
            result = retrieval(scores, candidates & other_text_BB)
            figures[f"{way}, {among} recordings"] = None if result is None else asdict(result)
    return figures
