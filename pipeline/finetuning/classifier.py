"""An encoder with a fresh head on top, the loss it is taught by, and its scores for texts.

Clips are packed end to end as in stage two and pooled one by one.

Shapes: N tokens, B clips of a batch, D width, O outputs of the head, n texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from pipeline.foundation.arrays import Array
from pipeline.models.packing import (
    Packed,
    batches_by_length,
    encode_first_tokens,
    encode_packed,
    pack,
)
from pipeline.tasks.task import Kind

JUDGED_TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Recipe:
    """How a cell is trained; `pipeline.finetuning.settings` documents each field."""

    epochs: int
    learning_rate: float
    batch_size: int
    warmup_fraction: float
    weight_decay: float
    dropout: float
    clip_norm: float
    pooling: Literal["cls", "mean"]
    head: Literal["tanh", "linear"]
    selection: Literal["last", "best-valid"]
    regression_loss: Literal["mse", "l1"]
    max_tokens: int
    precision: Literal["fp32", "bf16"]

    def record(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return asdict(self)


class Judge(nn.Module):
    """An encoder, pooled to one vector a text, and a head.

    Args:
        encoder: from `pipeline.models.student.load_encoder`.
        outputs: width of the head's output.
        recipe: decides pooling, head and dropout.
        generator: source of the head's initial weights, N(0, 0.02) as BERT's.
    """

    def __init__(
        self, encoder: PreTrainedModel, outputs: int, recipe: Recipe, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = recipe.pooling
        self.outputs = outputs
        width = int(encoder.config.hidden_size)
        dense = [nn.Linear(width, width), nn.Tanh()] if recipe.head == "tanh" else []
        self.head = nn.Sequential(*dense, nn.Dropout(recipe.dropout), nn.Linear(width, outputs))
        for name, parameter in self.head.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02, generator=generator)

    def forward(self, packed: Packed) -> Tensor:
        """Outputs `[B, O]` of the head, float32."""
        if self.pooling == "cls":
            pooled_BD = encode_first_tokens(self.encoder, packed)
        else:
            pooled_BD = mean_states(encode_packed(self.encoder, packed), packed)
        scores_BO: Tensor = self.head(pooled_BD)
        return scores_BO.float()


def loss_of(kind: Kind, regression_loss: str, scores_BO: Tensor, labels_B: Tensor) -> Tensor:
    """Mean loss: cross-entropy over classes, binary cross-entropy a flag, or MSE or L1."""
    if kind == "classes":
        return functional.cross_entropy(scores_BO, labels_B)
    if kind == "flags":
        return functional.binary_cross_entropy_with_logits(scores_BO, labels_B.float())
    measure = functional.mse_loss if regression_loss == "mse" else functional.l1_loss
    return measure(scores_BO[:, 0], labels_B)


@torch.inference_mode()
def score(
    judge: Judge,
    ids: Sequence[Array],
    device: torch.device,
    recipe: Recipe,
    advance: Callable[[int, str], None] = lambda _clips, _note: None,
) -> Array:
    """The head's outputs `[n, O]` (float32) for texts, in their order, without dropout."""
    judge.eval()
    parts: list[Tensor] = []
    order: list[int] = []
    for chosen in batches_by_length([len(row) for row in ids], JUDGED_TOKENS_PER_BATCH):
        with autocast(device, recipe):
            parts.append(judge(pack_rows([ids[i] for i in chosen], device)))
        order += chosen
        advance(len(chosen), "judging")
    if not parts:
        return np.empty((0, judge.outputs), np.float32)
    scores = torch.cat(parts).cpu().numpy()
    placed = np.empty_like(scores)
    placed[order] = scores
    return placed


def mean_states(hidden_ND: Tensor, packed: Packed) -> Tensor:
    """Mean `[B, D]` of the hidden states of each clip."""
    sums_BD = hidden_ND.new_zeros(len(packed.lengths_B), hidden_ND.shape[1])
    return sums_BD.index_add(0, packed.sequence_N, hidden_ND) / packed.lengths_B[:, None]


def pack_rows(rows: Sequence[Array], device: torch.device) -> Packed:
    """Token ids of several texts end to end, on a device."""
    packed = pack(torch.from_numpy(np.concatenate(rows)), torch.tensor([len(row) for row in rows]))
    if device.type == "cpu":
        return packed
    return Packed(**{f.name: getattr(packed, f.name).to(device) for f in fields(packed)})


def autocast(device: torch.device, recipe: Recipe) -> torch.autocast:
    """The context of the recipe's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
