"""Scores of the alignment heads → the positions at which each token is said.

Shapes: B clips, A alignment heads, L tokens that the decoder reads, N tokens to be aligned, T
encoder positions. A clip's own tokens and positions come first, and padding stands after them.

Source: openai-whisper, `timing.py` (`find_alignment`): the softmax over the positions that hold
audio, each position normalised over the tokens, a median filter over time, the mean over heads,
and dynamic time warping (Sakoe & Chiba 1978). It says the same of a whole batch at once.
"""

from dataclasses import dataclass

import torch

MEDIAN_WIDTH = 7
HALF_WIDTH = MEDIAN_WIDTH // 2
MEDIAN_OF_SEVEN = (
    *((0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6)),
    *((2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4)),
)
"""Places to compare and swap; afterwards the median is in the middle (Devillard 1998)."""


@dataclass(frozen=True)
class TokenPath:
    """The cheapest way through each clip's costs. Rows after a clip's last token mean nothing."""

    first_BN: torch.Tensor
    """First position of each token."""
    last_BN: torch.Tensor
    """Last position of each token. Two tokens may share one."""
    cost_BN: torch.Tensor
    """Mean cost over a token's positions, float64."""


def attention_to_costs(
    scores_BALT: torch.Tensor, tokens_B: torch.Tensor, positions_B: torch.Tensor
) -> torch.Tensor:
    """How badly each token fits each position.

    Args:
        scores_BALT: cross-attention before the softmax.
        tokens_B: tokens that the decoder read per clip, at most L.
        positions_B: positions that hold audio per clip, 1 to T.

    Returns:
        float32 `[B, L, T]`: minus the mean over heads of the normalised, filtered attention. What
        stands beyond a clip's tokens and positions means nothing.
    """
    positions_T = torch.arange(scores_BALT.shape[-1], device=scores_BALT.device)
    silent_B11T = positions_T >= positions_B[:, None, None, None]
    weights_BALT = scores_BALT.float().masked_fill(silent_B11T, -torch.inf).softmax(-1)
    tokens_L = torch.arange(scores_BALT.shape[-2], device=scores_BALT.device)
    count_B111 = tokens_B[:, None, None, None]
    mask_B1L1 = (tokens_L[:, None] < count_B111).float()
    mean_BA1T = (weights_BALT * mask_B1L1).sum(-2, keepdim=True) / count_B111
    weights_BALT = weights_BALT - mean_BA1T
    variance_BA1T = (weights_BALT.square() * mask_B1L1).sum(-2, keepdim=True) / count_B111
    scale_BA1T = variance_BA1T.rsqrt().masked_fill(variance_BA1T == 0, 0.0)
    return -median_filtered(weights_BALT * scale_BA1T, positions_B).mean(1)


def median_filtered(x_BALT: torch.Tensor, positions_B: torch.Tensor) -> torch.Tensor:
    """Median over seven positions, each clip mirrored at its own two ends.

    A clip of three positions or fewer cannot be mirrored that far, so it stays as it is.
    """
    length = x_BALT.shape[-1]
    padded_BALT = torch.nn.functional.pad(x_BALT, (HALF_WIDTH, HALF_WIDTH))
    beyond_K = torch.arange(1, HALF_WIDTH + 1, device=x_BALT.device)
    last_B1 = positions_B[:, None] - 1
    sources_BK = torch.cat([beyond_K.flip(0).expand(len(x_BALT), -1), last_B1 - beyond_K], 1)
    places_BK = torch.cat(
        [HALF_WIDTH - beyond_K.flip(0).expand(len(x_BALT), -1), HALF_WIDTH + last_B1 + beyond_K], 1
    )
    shape = (-1, *x_BALT.shape[1:3], -1)
    mirrored_BALK = x_BALT.gather(-1, sources_BK.clamp(0, length - 1)[:, None, None].expand(shape))
    padded_BALT.scatter_(-1, places_BK[:, None, None].expand(shape), mirrored_BALK)
    lanes = [padded_BALT[..., k : k + length] for k in range(MEDIAN_WIDTH)]
    for low, high in MEDIAN_OF_SEVEN:
        one, other = lanes[low], lanes[high]
        lanes[low], lanes[high] = torch.minimum(one, other), torch.maximum(one, other)
    short_B111 = (positions_B <= HALF_WIDTH)[:, None, None, None]
    return torch.where(short_B111, x_BALT, lanes[HALF_WIDTH])


def cheapest_path(
    cost_BNT: torch.Tensor, tokens_B: torch.Tensor, positions_B: torch.Tensor
) -> TokenPath:
    """Dynamic time warping of each clip's tokens to its positions.

    A path leads from the first token and position to the last ones, one token, one position or
    both at a time, and costs the sum of what it passes. Row by row there is a closed form. Let S be
    the running sum of a row's costs, and m the cost of the cheapest way to arrive from the row
    above. Whoever enters at k and stays until j pays m[k] + S[j] − S[k − 1], so the best entry up
    to j is a running minimum of m[k] − S[k − 1]. A batch therefore takes N steps, not N × T.

    Args:
        cost_BNT: finite where the clip has tokens and positions.
        tokens_B: tokens to be aligned per clip, 1 to N.
        positions_B: positions per clip, 1 to T.
    """
    device, (batch, tokens, positions) = cost_BNT.device, cost_BNT.shape
    sums_BNT = torch.zeros(batch, tokens, positions + 1, dtype=torch.float64, device=device)
    torch.cumsum(cost_BNT.nan_to_num(0.0), 2, dtype=torch.float64, out=sums_BNT[..., 1:])
    entries = torch.empty(tokens, batch, positions, dtype=torch.int32, device=device)
    from_above = torch.empty(tokens, batch, positions, dtype=torch.bool, device=device)
    infinite_B1 = torch.full((batch, 1), torch.inf, dtype=torch.float64, device=device)
    above_BT = torch.full((batch, positions), torch.inf, dtype=torch.float64, device=device)
    before_B1 = torch.zeros_like(infinite_B1)
    for row in range(tokens):
        diagonal_BT = torch.cat([before_B1, above_BT[:, :-1]], dim=1)
        from_above[row] = above_BT < diagonal_BT
        arriving_BT = torch.minimum(diagonal_BT, above_BT) - sums_BNT[:, row, :-1]
        best_BT, entry_BT = arriving_BT.cummin(1)
        entries[row] = entry_BT
        above_BT = best_BT + sums_BNT[:, row, 1:]
        before_B1 = infinite_B1
    last_B = positions_B.long() - 1
    first_BN = torch.zeros(batch, tokens, dtype=torch.int64, device=device)
    last_BN = torch.zeros_like(first_BN)
    for row in reversed(range(tokens)):
        is_last_B = tokens_B == row + 1
        last_B = torch.where(is_last_B, positions_B - 1, last_B)
        entry_B1 = entries[row].gather(1, last_B[:, None]).long()
        first_BN[:, row], last_BN[:, row] = entry_B1[:, 0], last_B
        shares_B = from_above[row].gather(1, entry_B1)[:, 0]
        last_B = torch.where(tokens_B > row, entry_B1[:, 0] - (~shares_B).long(), last_B).clamp(0)
    until_BN = sums_BNT.gather(2, (last_BN + 1)[..., None])[..., 0]
    before_BN = sums_BNT.gather(2, first_BN[..., None])[..., 0]
    return TokenPath(first_BN, last_BN, (until_BN - before_BN) / (last_BN - first_BN + 1))
