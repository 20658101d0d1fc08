"""An encoder with a fresh head on top, its loss, and its scores for examples.

Shapes: B examples of a batch, D width, O outputs of the head, n examples scored.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.finetuning.inputs import Inputs, device_of, width_of
from pipeline.finetuning.settings import Recipe
from pipeline.foundation.arrays import Array
from pipeline.tasks.task import Kind
from pipeline.tasks.words import spread

ROUNDING = 1e-6
"""Share of their mean by which float32 labels that are equal may differ."""


class Classifier(nn.Module):
    """An encoder, pooled to one vector per example or per word of it, and a head.

    Args:
        encoder: as `Loaded` has it. If it has parts that were not pre-trained, its `begin` draws
            them.
        outputs: width of the head's output.
        recipe: decides pooling, head and dropout.
        generator: source of the head's initial weights, N(0, 0.02) as BERT's.
    """

    def __init__(
        self, encoder: nn.Module, outputs: int, recipe: Recipe, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = recipe.pooling
        self.outputs = outputs
        self.centre, self.spread = 0.0, 1.0
        begin = getattr(encoder, "begin", None)
        if callable(begin):
            begin(generator)
        width = last = width_of(encoder)
        dense: list[nn.Module] = []
        if recipe.head == "tanh":
            dense = [nn.Linear(width, width), nn.Tanh()]
        elif recipe.head == "mlp512":
            last = 512
            dense = [nn.Linear(width, last), nn.ReLU()]
        self.head = nn.Sequential(*dense, nn.Dropout(recipe.dropout), nn.Linear(last, outputs))
        for name, parameter in self.head.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02, generator=generator)

    def scale_by(self, labels: Array) -> None:
        """Let an output of 0 stand for the mean of these labels, and 1 for one σ above it.

        Args:
            labels: values; if all are equal but for rounding, σ is taken as 1.
        """
        self.centre = float(np.mean(labels, dtype=np.float64))
        spread = float(np.std(labels, dtype=np.float64))
        self.spread = spread if spread > ROUNDING * abs(self.centre) else 1.0

    def scaled(self, values: Tensor) -> Tensor:
        """Values in units of labels → in units of the head's output."""
        return (values - self.centre) / self.spread

    def forward(self, inputs: Inputs, places: Sequence[int]) -> Tensor:
        """Outputs `[B, O]` of the head for some examples, example after example, float32."""
        scores_BO: Tensor = self.head(self.vectors(inputs, places))
        return scores_BO.float()

    def answers(self, inputs: Inputs, places: Sequence[int]) -> Tensor:
        """What is scored of some examples, `[B, O]`: the outputs, in units of labels."""
        scores_BO: Tensor = self(inputs, places)
        return scores_BO * self.spread + self.centre

    def vectors(self, inputs: Inputs, places: Sequence[int]) -> Tensor:
        """What the head reads of some examples, `[B, D]`."""
        return inputs.vectors(self.encoder, places, self.pooling)

    @property
    def penalty(self) -> Tensor | None:
        """What the encoder adds to the loss of the latest batch; None for nothing."""
        return getattr(self.encoder, "penalty", None)


def loss_of(
    kind: Kind,
    regression_loss: str,
    scores_BO: Tensor,
    labels_B: Tensor,
    weights_O: Tensor | None = None,
) -> Tensor:
    """Mean loss: cross-entropy over classes (of a text or of each word) or speakers, binary
    cross-entropy per flag, or MSE or L1.

    Args:
        kind: of the task.
        regression_loss: `mse` or `l1`.
        scores_BO: the head's outputs.
        labels_B: classes, values, or flags `[B, O]`.
        weights_O: as `class_weights` gives them; the mean over classes is then a weighted one.
    """
    if kind in ("classes", "words", "speaker"):
        return functional.cross_entropy(scores_BO, labels_B, weight=weights_O)
    if kind == "flags":
        return functional.binary_cross_entropy_with_logits(
            scores_BO, labels_B.float(), pos_weight=weights_O
        )
    measure = functional.mse_loss if regression_loss == "mse" else functional.l1_loss
    return measure(scores_BO[:, 0], labels_B)


def class_weights(kind: Kind, labels: Array, outputs: int, recipe: Recipe) -> Tensor | None:
    """The weight of each output in the loss; None if all weigh the same.

    `balanced` gives a class n / (C · its labels), as scikit-learn does, where C counts the classes
    that training has; and a flag the number of no over that of yes.

    Args:
        kind: of the task.
        labels: of the training examples.
        outputs: how many outputs the head has.
        recipe: says which weights.
    """
    if recipe.class_weights == "none" or kind == "value":
        return None
    if kind == "flags":
        yes_O = labels.sum(0)
        return torch.tensor((len(labels) - yes_O) / np.maximum(yes_O, 1), dtype=torch.float32)
    count_O = np.bincount(labels, minlength=outputs)
    present = np.count_nonzero(count_O)
    weights_O = np.where(count_O, len(labels) / (present * np.maximum(count_O, 1)), 0)
    return torch.tensor(weights_O, dtype=torch.float32)


@torch.inference_mode()
def score(
    classifier: Classifier,
    inputs: Inputs,
    places: Sequence[int],
    recipe: Recipe,
    advance: Callable[[int, str], None] = lambda _clips, _note: None,
    answers: Sequence[int] | None = None,
    *,
    vectors: bool = False,
) -> Array:
    """The head's outputs `[n, O]` (float32) for examples, in their order, without dropout.

    Args:
        classifier: the encoder with its head.
        inputs: the examples.
        places: which of them.
        recipe: decides the precision.
        advance: called after each batch, for progress.
        answers: how many outputs each example has; one each by default.
        vectors: give what the head reads instead, `[n, D]`.
    """
    classifier.eval()
    parts: list[Tensor] = []
    order: list[int] = []
    for batch in inputs.batches(places):
        with autocast(device_of(classifier), recipe):
            mine = [places[i] for i in batch]
            part = (classifier.vectors if vectors else classifier.answers)(inputs, mine)
        parts.append(part.float())
        order += batch
        advance(len(batch), "scoring")
    if not parts:
        width = width_of(classifier.encoder) if vectors else classifier.outputs
        return np.empty((0, width), np.float32)
    scores = torch.cat(parts).cpu().numpy()
    ordered = np.empty_like(scores)
    ordered[order if answers is None else spread(np.array(answers), np.array(order))] = scores
    return ordered


def autocast(device: torch.device, recipe: Recipe) -> torch.autocast:
    """The context of the recipe's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
