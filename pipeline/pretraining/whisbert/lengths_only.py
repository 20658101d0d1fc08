"""What durations and numbers of tokens alone give: the baselines of matching and retrieval.

A longer clip has more words. So a model may tell matched pairs, or find a clip's text, without
hearing a word. What it has learned of speech is what it does better than this.

Shapes: n pairs, C clips, B clips of a batch, K of them, T features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.corpus.order import Order
from pipeline.corpus.row_corpus import TOKENS, RowCorpus
from pipeline.foundation.arrays import Array
from pipeline.models.whisbert.patches import patches_of
from pipeline.pretraining.whisbert.batches import FRAMES, text_numbers
from pipeline.pretraining.whisbert.partners import partners
from pipeline.pretraining.whisbert.retrieval import both_ways

MOST_BATCHES = 64
RIDGE = 1e-3
NEWTON_STEPS = 25


@dataclass(frozen=True)
class Line:
    """Tokens as a linear function of patches, with the spread around it.

    Attributes:
        slope: tokens per patch.
        start: tokens at no patch.
        deviation: of the tokens around the line, at least a small number.
    """

    slope: float
    start: float
    deviation: float

    @classmethod
    def fit(cls, patches_C: Tensor, tokens_C: Tensor) -> "Line":
        """The line of least squares."""
        x, y = patches_C.double(), tokens_C.double()
        variance = float(x.var(correction=0))
        slope = float(((x - x.mean()) * (y - y.mean())).mean()) / variance if variance else 0.0
        start = float(y.mean() - slope * x.mean())
        deviation = float((y - start - slope * x).square().mean().sqrt())
        return cls(slope, start, max(deviation, 1e-3))

    def score(self, patches_K: Tensor, tokens_B: Tensor) -> Tensor:
        """Log-likelihood, a row per duration and a column per text, of the text's length given it.

        It is up to a constant.
        """
        expected_K = self.start + self.slope * patches_K.double()
        return -0.5 * ((tokens_B.double()[None] - expected_K[:, None]) / self.deviation).square()


def length_only(
    corpus: RowCorpus, order: Order, per_patch: int, *, seed: int, matching: bool, contrast: bool
) -> dict[str, Any]:
    """The baselines of a run, fitted on clips to train on, measured on those held out.

    Args:
        corpus: the clips.
        order: their batches.
        per_patch: frames per patch.
        seed: of the run's unmatched pairs.
        matching: whether audio-text matching is on.
        contrast: whether the contrast of clips is on.

    Returns:
        Of `atm` the share told right and the loss, of matched pairs and the run's own unmatched
        ones, by logistic regression on both lengths, their squares and product. Of `mmc` loss,
        share of the nearest and retrieval, by how likely a text's length is given the duration.
        None where nothing is held out.
    """
    lengths = _Lengths(corpus, per_patch)
    held_out = order.held_out_batches()
    figures: dict[str, Any] = {}
    if matching:
        batch_at = order.epoch(0)
        batches = [batch_at(i) for i in range(min(order.per_epoch, MOST_BATCHES))]
        fitted = [lengths.pairs(c, (seed, "train", 0, i)) for i, c in enumerate(batches)]
        questions = [lengths.pairs(c, (seed, "held out", 0, i)) for i, c in enumerate(held_out)]
        figures["atm"] = _matching(fitted, questions) if questions else None
    if contrast:
        line = Line.fit(*lengths.of(corpus.train))
        figures["mmc"] = _contrast(line, lengths, held_out, corpus.held_out) if held_out else None
    return figures


class _Lengths:
    """Durations and texts of clips; no row is read."""

    def __init__(self, corpus: RowCorpus, per_patch: int) -> None:
        self.corpus, self.per_patch = corpus, per_patch
        self.text_C = text_numbers(corpus.texts)

    def of(self, clip_B: Tensor) -> tuple[Tensor, Tensor]:
        """Patches and tokens of each clip."""
        parts = self.corpus.parts
        patches_B = patches_of(parts[FRAMES].lengths_of(clip_B), self.per_patch)
        return patches_B, parts[TOKENS].lengths_of(clip_B)

    def pairs(self, clip_B: Tensor, name: tuple[int | str, ...]) -> tuple[Array, Array]:
        """Both lengths of matched and of unmatched pairs, and which are matched."""
        patches_B, tokens_B = self.of(clip_B)
        audio_k, text_k = partners(
            patches_B,
            tokens_B,
            clip_B,
            self.text_C[clip_B],
            self.corpus.recording_C[clip_B],
            name,
        )
        both = [
            torch.stack([patches_B, tokens_B], 1),
            torch.stack([patches_B[audio_k], tokens_B[text_k]], 1),
        ]
        label_n = np.repeat([1.0, 0.0], [len(clip_B), len(audio_k)])
        return torch.cat(both).double().numpy(), label_n

    def rivals(self, clip_B: Tensor) -> Tensor:
        """Which clips may be told from each other."""
        text_B, recording_B = self.text_C[clip_B], self.corpus.recording_C[clip_B]
        same_BB = (recording_B[:, None] == recording_B) & (recording_B >= 0)
        return ~(same_BB | (text_B[:, None] == text_B))


def _matching(
    fitted: list[tuple[Array, Array]], questions: list[tuple[Array, Array]]
) -> dict[str, float]:
    lengths_n2, label_n = (np.concatenate(part) for part in zip(*fitted, strict=True))
    centre_2, spread_2 = lengths_n2.mean(0), lengths_n2.std(0) + 1e-9
    weight_T = logistic_regression(_features((lengths_n2 - centre_2) / spread_2), label_n)
    lengths_n2, label_n = (np.concatenate(part) for part in zip(*questions, strict=True))
    logit_n = _features((lengths_n2 - centre_2) / spread_2) @ weight_T
    sign_n = 2 * label_n - 1
    return {
        "accuracy": float((sign_n * logit_n > 0).mean() + 0.5 * (logit_n == 0).mean()),
        "loss": float(np.logaddexp(0, -sign_n * logit_n).mean()),
        "pairs": float(len(label_n)),
    }


def _features(lengths_n2: Array) -> Array:
    x, y = lengths_n2.T
    features_nT: Array = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1)
    return features_nT


def logistic_regression(features_nT: Array, label_n: Array) -> Array:
    """Weights `[T]` of a logistic regression with a small ridge, by Newton's method.

    Args:
        features_nT: what is known of each case, a constant among it.
        label_n: 1 or 0.
    """
    weight_T = np.zeros(features_nT.shape[1])
    ridge = RIDGE * np.eye(len(weight_T))
    for _ in range(NEWTON_STEPS):
        chance_n = 1 / (1 + np.exp(-np.clip(features_nT @ weight_T, -30, 30)))
        slope_T = features_nT.T @ (chance_n - label_n) + RIDGE * weight_T
        curve_TT = (features_nT.T * (chance_n * (1 - chance_n))) @ features_nT + ridge
        weight_T = weight_T - np.linalg.solve(curve_TT, slope_T)
    return weight_T


def _contrast(
    line: Line, lengths: _Lengths, held_out: list[Tensor], whole_B: Tensor
) -> dict[str, Any]:
    losses, right, count = 0.0, 0.0, 0
    for clip_B in held_out:
        score_BB, rival_BB = line.score(*lengths.of(clip_B)), lengths.rivals(clip_B)
        own_B, asked_B = torch.arange(len(clip_B)), rival_BB.any(1)
        shown_BB = rival_BB.clone().fill_diagonal_(True)
        for one_BB in (score_BB, score_BB.T):
            logit_BB = one_BB.masked_fill(~shown_BB, -torch.inf)
            each_B = functional.cross_entropy(logit_BB, own_B, reduction="none")
            losses += float(each_B[asked_B].sum()) / 2
            right += float((logit_BB.argmax(1) == own_B)[asked_B].sum()) / 2
        count += int(asked_B.sum())
    patches_B, tokens_B = lengths.of(whole_B)
    text_B, recording_B = lengths.text_C[whole_B], lengths.corpus.recording_C[whole_B]
    return {
        "loss": losses / count if count else None,
        "top1": right / count if count else None,
        "retrieval": both_ways(
            lambda query: line.score(patches_B[query], tokens_B),
            lambda query: line.score(patches_B, tokens_B[query]).T,
            text_B,
            recording_B,
        ),
    }
