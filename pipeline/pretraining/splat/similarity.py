"""How well a clip's frames cover a text's tokens: each token with the frame nearest to it.

`score(p, q) = Σ_j w_j max_i cos(s_i, t_j)` over the tokens j of text q and the frames i of clip p,
with weights that add up to 1 (SPLAT, Eq. 3, without its sign; the measure is BERTScore's recall).

Computed in float32, because in bfloat16 a sixth of the tokens tie at the top. A tie goes to one
frame (`torch.max`), which alone gets a gradient.

Shapes: N frames of all clips end to end, M tokens of all texts, b clips, B texts, E width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def own_scores(
    frames_NE: Tensor, frames_b: Sequence[int], tokens_ME: Tensor, tokens_b: Sequence[int],
    weight_M: Tensor,
) -> Tensor:  # fmt: skip
    """The score `[b]` of each clip against the text in the same place.

    Args:
        frames_NE: vectors of frames.
        frames_b: frames of each clip.
        tokens_ME: vectors of tokens.
        tokens_b: tokens of each text.
        weight_M: weights of the tokens, which add up to 1 in each text.
    """
    clips = torch.split(directions(frames_NE), list(frames_b))
    texts = torch.split(directions(tokens_ME), list(tokens_b))
    weights = torch.split(weight_M, list(tokens_b))
    return torch.stack(
        [
            ((clip_nE @ text_mE.T).max(0).values * weight_m).sum()
            for clip_nE, text_mE, weight_m in zip(clips, texts, weights, strict=True)
        ]
    )


def all_scores(
    frames_NE: Tensor, frames_b: Sequence[int], tokens_ME: Tensor, text_M: Tensor, texts: int,
    weight_M: Tensor,
) -> Tensor:  # fmt: skip
    """The score `[b, B]` of each clip against every text; one clip at a time.

    Args:
        frames_NE: vectors of frames.
        frames_b: frames of each clip.
        tokens_ME: vectors of the tokens of all texts.
        text_M: the text that each token is of.
        texts: B.
        weight_M: weights of the tokens, which add up to 1 in each text.
    """
    tokens_ME = directions(tokens_ME)
    rows = []
    for clip_nE in torch.split(directions(frames_NE), list(frames_b)):
        best_M = (clip_nE @ tokens_ME.T).max(0).values * weight_M
        rows.append(best_M.new_zeros(texts).index_add(0, text_M, best_M))
    return torch.stack(rows)


def directions(values_NE: Tensor) -> Tensor:
    """Vectors of length 1, in float32 or wider; a vector of zeros stays."""
    wide_NE = values_NE.to(torch.promote_types(values_NE.dtype, torch.float32))
    return functional.normalize(wide_NE, dim=-1, eps=1e-12)


def contrast(scores_bB: Tensor, same_bB: Tensor, temperature: float) -> Tensor:
    """Cross-entropy `[b]` of picking a clip's own text among all; equal texts are one choice.

    Args:
        scores_bB: of each clip against each text.
        same_bB: whether a text is the clip's own, or spelled alike.
        temperature: τ.
    """
    logits_bB = scores_bB / temperature
    own_b = logits_bB.masked_fill(~same_bB, -torch.inf).logsumexp(1)
    return logits_bB.logsumexp(1) - own_b
