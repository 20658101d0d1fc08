"""How alike vectors of clips are, all of them and those whose texts are nearest (SPLAT, Table 4).

The neighbour of a clip is the one whose text vector is nearest to its own (Eq. 5), whichever side's
vectors are compared. Both figures rise where all vectors are alike, so they count only beside those
of the text encoder and of a control: a module that gives every clip the same vector has 1 for both.

Shapes: K clips, D width of speech, E width of text.
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
        average: S_avg, the mean over all pairs (Eq. 4).
        nearest_text: S_closest, the mean over clips of the cosine with the clip whose text is
            nearest (Eq. 5). Records of before have `closest`, which was another measure: the cosine
            with the clip whose vector is nearest, whatever its text.
        average_other_text: S_avg over pairs of different texts alone.
        nearest_other_text: S_closest among clips of another text alone.
    """

    average: float
    nearest_text: float
    average_other_text: float
    nearest_other_text: float


def likeness(
    vectors_KD: Tensor, text_KE: Tensor, texts: Sequence[str], *, centred: bool
) -> Likeness | None:
    """How alike the vectors of clips are; None if there are not two clips of different texts.

    Clips of one text are each other's neighbours because of their words alone, so the figures are
    given without such pairs, too. Of texts that are equally near the first one is taken.

    Args:
        vectors_KD: of clips.
        text_KE: the text encoder's own vectors of their texts, which decide what is near.
        texts: of clips.
        centred: whether the mean of all vectors is taken away first, on both sides.
    """
    text_K = numbered(list(texts))
    if len(text_K) < 2 or bool((text_K == text_K[0]).all()):
        return None
    unit_KD, unit_KE = (_unit(vectors, centred=centred) for vectors in (vectors_KD, text_KE))
    count = len(unit_KD)
    place_K = torch.arange(count)
    sums, counts = [0.0, 0.0], [0, 0]
    nearest: list[list[Tensor]] = [[], []]
    for start in range(0, count, ROWS_AT_ONCE):
        rows = place_K[start : start + ROWS_AT_ONCE]
        cosine_kK, near_kK = unit_KD[rows] @ unit_KD.T, unit_KE[rows] @ unit_KE.T
        itself_kK = rows[:, None] == place_K
        same_kK = text_K[rows][:, None] == text_K
        for way, left_out_kK in enumerate((itself_kK, same_kK)):
            sums[way] += float(cosine_kK.masked_fill(left_out_kK, 0).sum())
            counts[way] += int((~left_out_kK).sum())
            open_kK = near_kK.masked_fill(left_out_kK, -torch.inf)
            best_k1 = open_kK.max(1, keepdim=True).values
            first_k = torch.where(open_kK == best_k1, place_K, count).min(1).values
            is_there_k = best_k1[:, 0].isfinite()
            like_k = cosine_kK.gather(1, first_k[:, None].clamp(max=count - 1))[:, 0]
            nearest[way].append(like_k[is_there_k])
    averages = [total / pairs for total, pairs in zip(sums, counts, strict=True)]
    closest = [float(torch.cat(cosines).mean()) for cosines in nearest]
    return Likeness(averages[0], closest[0], averages[1], closest[1])


def _unit(vectors_KD: Tensor, *, centred: bool) -> Tensor:
    wide_KD = vectors_KD.double()
    if centred:
        wide_KD = wide_KD - wide_KD.mean(0)
    return functional.normalize(wide_KD, dim=1, eps=1e-30)


def geometry(
    speech_KD: Tensor, text_KE: Tensor, texts: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The likeness of speech and of text vectors, raw and centred; empty for too few clips.

    Args:
        speech_KD: vectors of clips.
        text_KE: the text encoder's own vectors of their texts.
        texts: their texts.
    """
    figures = {}
    for side, vectors in (("speech", speech_KD), ("text", text_KE)):
        for centred in (False, True):
            if measured := likeness(vectors, text_KE, texts, centred=centred):
                figures[f"{side}, {'centred' if centred else 'raw'}"] = asdict(measured)
    return figures
