"""Which tokens are hidden from the student, and what it sees in their place.

Shapes: N tokens, O ordinary tokens, K chosen tokens, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.corpus.draws import below, random_bits

OF_TEN_MASKED, OF_TEN_REPLACED = 8, 1
"""Of ten chosen tokens: how many become the mask token, and how many become another one."""
RARE = 1e-9
"""How often a share of a batch may have more chosen tokens than `most_chosen` says."""


@dataclass(frozen=True)
class Masking:
    """Masks a share of the tokens that are not special: 80/10/10, as in BERT.

    Attributes:
        share: share of the batch's ordinary tokens to predict: exactly this many, at least one.
        mask_id: id of the mask token.
        special_V: which ids are special and never chosen.
    """

    share: float
    mask_id: int
    special_V: Tensor

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, share: float) -> "Masking":
        """The masking that belongs to a tokenizer."""
        special_V = torch.zeros(len(tokenizer), dtype=torch.bool)
        special_V[torch.tensor(tokenizer.all_special_ids)] = True
        return cls(share, int(tokenizer.mask_token_id or 0), special_V)

    def choose(self, ids_N: Tensor, number_N: Tensor, *name: int | str) -> tuple[Tensor, Tensor]:
        """Choose tokens to predict.

        A token's fate follows from its number and the name of the draw. The chosen ones are those
        of the least bits; no two tokens have the same.

        Args:
            ids_N: the tokens, in this machine's memory.
            number_N: a number of each that no other one has.
            name: seed, stream, epoch, step: what the draw is for.

        Returns:
            Places `[K]` of the chosen tokens, ascending, and the masked ids `[N]` of all tokens.
        """
        ordinary_O = (~self.special_V[ids_N]).nonzero()[:, 0]
        count = max(1, round(self.share * len(ordinary_O)))
        if not len(ordinary_O):  # something is predicted even so
            ordinary_O = torch.arange(len(ids_N))
        bits_O = random_bits(number_N[ordinary_O], *name, "chosen")
        chosen_K = ordinary_O[bits_O.topk(count, largest=False).indices.sort()[0]]
        number_K = number_N[chosen_K]
        fate_K = below(random_bits(number_K, *name, "fate"), 10)
        other_K = below(random_bits(number_K, *name, "other"), len(self.special_V))
        keeps_K = fate_K >= OF_TEN_MASKED + OF_TEN_REPLACED
        other_K = torch.where(keeps_K, ids_N[chosen_K], other_K)
        masked_N = ids_N.clone()
        masked_N[chosen_K] = torch.where(fate_K < OF_TEN_MASKED, self.mask_id, other_K)
        return chosen_K, masked_N


def most_chosen(share: float, tokens: int, processes: int = 1) -> int:
    """Chosen tokens in a process's share of a batch at most, except one batch in a billion.

    The share of a whole batch is exact. What of it falls to a process that has a part of the batch
    is a draw without replacement, and Bernstein's bound for one with replacement holds for it.

    Args:
        share: of the batch's ordinary tokens that is chosen.
        tokens: of the process's share.
        processes: how many share the batch, each with no more tokens than these.
    """
    mean = share * tokens
    if processes == 1:
        return max(1, math.ceil(mean))
    rare = -math.log(RARE)
    beyond = rare / 3 + math.sqrt((rare / 3) ** 2 + 2 * rare * mean * (1 - share))
    return min(tokens, math.ceil(mean * processes) + 1, math.ceil(mean + beyond) + 1)
