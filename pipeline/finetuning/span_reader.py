"""A reader of spoken passages: a speech module, and a fresh encoder over its cells and a question.

Chung et al. 2021 (SPLAT), section 4.2: the module's states of the passage and the tokens of the
question pass a Transformer of 3 layers with random weights, and two classifiers tell for each step
of the audio whether the answer begins or ends there.

Shapes: B questions of a batch, N positions, K cells of all passages, T tokens, J places of the
joint sequences, A cells of all questions, C cells of the longest passage, D width of both encoders,
E width of the table of tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from pipeline.finetuning.audio_text import draw_anew
from pipeline.finetuning.classifier import Classifier
from pipeline.finetuning.settings import Recipe
from pipeline.finetuning.span_cells import best_answer
from pipeline.finetuning.span_inputs import SpanBatch
from pipeline.models.lengths import Lengths
from pipeline.models.packing import encode_values, use_packed_attention
from pipeline.models.speech import SpeechModule, sinusoids

SpanLoss: TypeAlias = Literal["softmax", "bce"]


@dataclass(frozen=True, kw_only=True)
class SpanRecipe(Recipe):
    """A recipe, and how a question is joined with its passage.

    Attributes:
        layers: of the encoder over both.
        tokenizer: of the questions, as the user named it.
        question_table: whether the table of tokens is fresh or that of the tokenizer's encoder.
        grid_ms: the most that a cell lasts.
        most_seconds: of an answer.
        span_loss: cross-entropy over the cells of a passage, or a yes or no for each.
    """

    layers: int
    tokenizer: str
    question_table: Literal["fresh", "own"]
    grid_ms: int
    most_seconds: float
    span_loss: SpanLoss


class SpanEncoder(nn.Module):
    """A state of each cell of a passage, given a question.

    Args:
        speech: hears each clip by itself; its states become those of cells by their means.
        table_VE: what tokens begin as; its values alone count where it is `pretrained`, else its
            shape.
        pretrained: whether the table is one that was trained, which `begin` then leaves.
        places: cells and marks of the longest passage, or tokens of the longest question.
        layers: of the encoder over both.
        dropout: of its hidden states; attention drops nothing.
    """

    def __init__(
        self,
        speech: SpeechModule,
        table_VE: Tensor,
        *,
        pretrained: bool,
        places: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        config = speech.encoder.config
        self.width = width = speech.width
        self.speech, self.pretrained = speech, pretrained
        self.words = nn.Embedding(table_VE.shape[0], table_VE.shape[1], _weight=table_VE.clone())
        own = table_VE.shape[1]
        self.question = nn.Sequential(
            nn.LayerNorm(own), nn.Identity() if own == width else nn.Linear(own, width)
        )
        self.mark = nn.Parameter(torch.zeros(width))
        self.joint = BertModel(
            BertConfig(
                vocab_size=1,
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=int(config.num_attention_heads),
                intermediate_size=4 * width,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=0.0,
                max_position_embeddings=places,
                type_vocab_size=2,
            ),
            add_pooling_layer=False,
        )
        # nothing is a token here: the table of tokens has one row, which nothing reads
        self.joint.get_input_embeddings().requires_grad_(False)
        use_packed_attention(self.joint)

    def begin(self, generator: torch.Generator) -> None:
        """Draw all that is not pre-trained; positions begin as sinusoids."""
        words_VE = self.words.weight.detach().clone()
        for fresh in (self.words, self.question, self.joint):
            draw_anew(fresh, generator)
        with torch.no_grad():
            if self.pretrained:
                self.words.weight.copy_(words_VE)
            positions_PD = self.joint.embeddings.position_embeddings.weight
            positions_PD.copy_(sinusoids(*positions_PD.shape))
            nn.init.normal_(self.mark, std=0.02, generator=generator)

    def forward(self, batch: SpanBatch) -> Tensor:
        """The states of cells `[A, D]`, question after question."""
        states_ND = self.speech(batch.clips).frames_ND
        sums_KD = states_ND.new_zeros(len(batch.positions_K), self.width)
        cells_KD = sums_KD.index_add(0, batch.cell_N, states_ND) / batch.positions_K[:, None]
        words_TD: Tensor = self.question(self.words(batch.ids_T))
        kind = cells_KD.dtype
        both_SD = torch.cat([cells_KD, self.mark[None].to(kind), words_TD.to(kind)])
        hidden_JD = encode_values(
            self.joint,
            batch.joint,
            both_SD.index_select(0, batch.source_J),
            place_N=batch.place_J,
            type_N=batch.type_J,
        )
        return hidden_JD.index_select(0, batch.cell_A)


class SpanReader(Classifier):
    """A `SpanEncoder` with a classifier of beginnings and one of ends; it reads `SpanInputs`.

    Args:
        encoder: as for `Classifier`.
        outputs: what an answer to a question has (`overlap.OUTPUTS`).
        recipe: how answers are trained and chosen.
        generator: as for `Classifier`.
    """

    recipe: SpanRecipe

    def __init__(
        self, encoder: nn.Module, outputs: int, recipe: SpanRecipe, generator: torch.Generator
    ) -> None:
        super().__init__(encoder, 2, recipe, generator)
        self.outputs, self.recipe = outputs, recipe

    def answers(self, inputs: Any, places: Sequence[int]) -> Tensor:
        """For each question the start and end of its answer in seconds, the logarithm of the
        probability of both, and the greatest AOS that its cells and the longest answer allow,
        `[B, 4]`, on the host.
        """
        start_BC, end_BC = (
            side.cpu() for side in self._logarithms(self(inputs, places), inputs, places)
        )
        most, answers = self.most_cells(inputs), []
        for place, start_C, end_C in zip(places, start_BC, end_BC, strict=True):
            cells = inputs.passage(place).cells
            a, b, score = best_answer(start_C[: cells.count], end_C[: cells.count], most)
            ceiling = max(cells.greatest_aos(answer, most) for answer in inputs.answers_n[place])
            answers.append((cells.starts_C[a], cells.ends_C[b], score, ceiling))
        return torch.tensor(np.array(answers), dtype=torch.float32)

    def most_cells(self, inputs: Any) -> int:
        """Cells of the longest answer that may be given."""
        return max(1, int(self.recipe.most_seconds / inputs.cell_seconds + 1e-9))

    def loss(self, inputs: Any, places: Sequence[int], scores_A2: Tensor) -> Tensor:
        """The mean over questions, and over beginning and end.

        With `softmax` it is the cross-entropy of the true cell among those of the passage, as in
        `transformers`' question answering; several true answers weigh alike. With `bce` it is the
        binary cross-entropy of each cell of the batch.
        """
        true = _true_cells(inputs, places)
        if self.recipe.span_loss == "bce":
            truth_A2 = torch.zeros_like(scores_A2)
            first = _first_cells(inputs, places)
            for side in (0, 1):
                truth_A2[[first[row] + cell[side] for row, cell, _ in true], side] = 1
            return functional.binary_cross_entropy_with_logits(scores_A2, truth_A2)
        weight = scores_A2.new_tensor([weight for _, _, weight in true])
        rows = [row for row, _, _ in true]
        sides = zip(self._logarithms(scores_A2, inputs, places), (0, 1), strict=True)
        each = [
            -(weight * of_BC[rows, [cell[side] for _, cell, _ in true]]).sum()
            for of_BC, side in sides
        ]
        return (each[0] + each[1]) / (2 * len(places))

    def _logarithms(
        self, scores_A2: Tensor, inputs: Any, places: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[B, C]` that an answer begins, and that it ends, in each cell."""
        counts = [inputs.passage(place).cells.count for place in places]
        cells = Lengths.of(torch.tensor(counts)).to(scores_A2.device)
        scores_BC2 = scores_A2[cells.grid_BL].masked_fill(~cells.valid_BL[..., None], -torch.inf)
        if self.recipe.span_loss == "bce":
            scores_BC2 = functional.logsigmoid(scores_BC2)
        else:
            scores_BC2 = scores_BC2.log_softmax(1)
        return scores_BC2[..., 0], scores_BC2[..., 1]


def _true_cells(inputs: Any, places: Sequence[int]) -> list[tuple[int, tuple[int, int], float]]:
    """Of each answer: the row of its question, its first and last cell, its weight in that row."""
    return [
        (row, inputs.passage(place).cells.nearest(answer)[:2], 1 / len(inputs.answers_n[place]))
        for row, place in enumerate(places)
        for answer in inputs.answers_n[place]
    ]


def _first_cells(inputs: Any, places: Sequence[int]) -> list[int]:
    """Where the cells of each question begin."""
    counts = [inputs.passage(place).cells.count for place in places]
    return [0, *np.cumsum(counts).tolist()]
