"""How alike vectors of clips are on average, and to their nearest neighbour (SPLAT, Table 4).

Both figures rise where all vectors are alike, so they count only beside those of the text encoder
and of a control: a module that gives every clip the same vector has 1 for both.

Shapes: K clips, D width.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.corpus.row_corpus import numbered

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Likeness:
    """Cosines between vectors of different clips.

    Attributes:
        average: S_avg, the mean over all pairs.
        closest: S_closest, the mean over clips of the greatest one.
        average_other_text: S_avg over pairs of different texts alone.
        closest_other_text: S_closest among clips of another text alone.
    """

    average: float
    closest: float
    average_other_text: float
    closest_other_text: float


def likeness(vectors_KD: Tensor, texts: Sequence[str], *, centred: bool) -> Likeness | None:
    """How alike the vectors of clips are; None if there are not two clips of different texts.

    Two clips of one text are each other's nearest neighbours because of their words alone, so the
    figures are given without such pairs, too.

    Args:
        vectors_KD: of clips.
        texts: of clips.
        centred: whether the mean of all vectors is taken away first.
    """
    text_K = numbered(list(texts))
    if len(text_K) < 2 or bool((text_K == text_K[0]).all()):
        return None
    wide_KD = vectors_KD.double()
    if centred:
        wide_KD = wide_KD - wide_KD.mean(0)
    unit_KD = functional.normalize(wide_KD, dim=1, eps=1e-30)
    sums, counts = [0.0, 0.0], [0, 0]
    nearest: list[list[Tensor]] = [[], []]
    for start in range(0, len(unit_KD), ROWS_AT_ONCE):
        rows = torch.arange(start, min(start + ROWS_AT_ONCE, len(unit_KD)))
        cosine_kK = unit_KD[rows] @ unit_KD.T
        itself_kK = rows[:, None] == torch.arange(len(unit_KD))
        same_kK = text_K[rows][:, None] == text_K
        for place, left_out_kK in enumerate((itself_kK, same_kK)):
            sums[place] += float(cosine_kK.masked_fill(left_out_kK, 0).sum())
            counts[place] += int((~left_out_kK).sum())
            best_k = cosine_kK.masked_fill(left_out_kK, -torch.inf).max(1).values
            nearest[place].append(best_k[best_k.isfinite()])
    averages = [total / count for total, count in zip(sums, counts, strict=True)]
    closest = [float(torch.cat(best).mean()) for best in nearest]
    return Likeness(averages[0], closest[0], averages[1], closest[1])


def geometry(
    speech_KD: Tensor, text_KE: Tensor, texts: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The likeness of speech and of text vectors, raw and centred; empty for too few clips.

    Args:
        speech_KD: vectors of clips.
        text_KE: vectors of their texts.
        texts: their texts.
    """
    figures = {}
    for side, vectors in (("speech", speech_KD), ("text", text_KE)):
        for centred in (False, True):
            if measured := likeness(vectors, texts, centred=centred):
                figures[f"{side}, {'centred' if centred else 'raw'}"] = asdict(measured)
    return figures
