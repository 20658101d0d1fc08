"""Which tokens are hidden from the student, and what it sees in their place.

Shapes: N tokens, K chosen tokens, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


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
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, share: float, device: torch.device
    ) -> "Masking":
        """The masking that belongs to a tokenizer."""
        special_V = torch.zeros(len(tokenizer), dtype=torch.bool, device=device)
        special_V[torch.tensor(tokenizer.all_special_ids, device=device)] = True
        return cls(share, int(tokenizer.mask_token_id or 0), special_V)

    def choose(self, ids_N: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Choose tokens to predict.

        Returns:
            Places `[K]` of the chosen tokens, ascending, and the masked ids `[N]` of all tokens.
        """
        device, vocabulary = ids_N.device, len(self.special_V)
        special_N = self.special_V[ids_N]
        draw_N = torch.rand(len(ids_N), generator=source, device=device)
        ordinary = int((~special_N).sum())
        count = max(1, round(self.share * ordinary))
        chosen_K = draw_N.masked_fill(special_N, 2.0).topk(count, largest=False).indices.sort()[0]
        fate_K = torch.rand(count, generator=source, device=device)
        other_K = torch.randint(vocabulary, (count,), generator=source, device=device)
        other_K = torch.where(fate_K < 0.9, other_K, ids_N[chosen_K])
        masked_N = ids_N.clone()
        masked_N[chosen_K] = torch.where(fate_K < 0.8, self.mask_id, other_K)
        return chosen_K, masked_N
