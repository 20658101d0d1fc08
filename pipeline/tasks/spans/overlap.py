"""How well stretches of time answer questions: the audio overlapping score, and frame F1.

With X the predicted stretch and Y the true one, in seconds and half open:

    AOS = |X ∩ Y| / |X ∪ Y|        frame F1 = 2 P R / (P + R), P = |X ∩ Y| / |X|, R = |X ∩ Y| / |Y|

Both are 0 where X and Y share nothing or one of them is empty. Of several true answers the one that
gives most counts; figures are means over questions (Li et al. 2018, Spoken SQuAD; the formula and
F1 as in the released code of Lin et al. 2022, DUAL).

Shapes: n questions, A answers of the question that has most; a question with fewer has (0, 0) in
place of the others. Q outputs of a reader (`OUTPUTS`).
"""

from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.foundation.arrays import Array

OUTPUTS = ("start_s", "end_s", "log_probability", "ceiling")
"""What a reader gives of each question: the answer's ends, the logarithm of its probability, and
the greatest AOS that the grid of its frames allows."""
SCORES = {"aos": "AOS", "frame_f1": "frame F1"}
"""The measures, and what each is called."""
MOST_ENDS = 64
"""Of starts, and of ends, between which the best constant answer is looked for."""
_PAIRS_AT_ONCE = 2**22


def overlap_scores(answers_nA2: Array, spans_n2: Array) -> tuple[Array, Array]:
    """AOS and frame F1 `[n]` of a stretch per question, float64.

    Args:
        answers_nA2: the true answers, in seconds.
        spans_n2: the predicted ones.
    """
    answers_nA2 = np.asarray(answers_nA2, np.float64)
    start_n1, end_n1 = np.asarray(spans_n2, np.float64)[..., None].swapaxes(0, 1)
    aos_nA, f1_nA = _scores(answers_nA2[..., 0], answers_nA2[..., 1], start_n1, end_n1)
    return aos_nA.max(1, initial=0), f1_nA.max(1, initial=0)


def _scores(true_start: Array, true_end: Array, start: Array, end: Array) -> tuple[Array, Array]:
    """Both scores of stretches whose ends broadcast against each other."""
    true, own = np.maximum(true_end - true_start, 0), np.maximum(end - start, 0)
    shared = np.minimum(true_end, end) - np.maximum(true_start, start)
    shared = np.where((true > 0) & (own > 0), np.maximum(shared, 0), 0)
    together = np.where(shared > 0, true + own, 1)
    return shared / (together - shared), 2 * shared / together


def score_spans(answers_nA2: Array, outputs_nQ: Array, seconds_n: Array) -> dict[str, Any]:
    """All metrics of answers to questions, as plain JSON values.

    Args:
        answers_nA2: the true answers.
        outputs_nQ: what a reader gave.
        seconds_n: length of each question's passage.

    Returns:
        `aos` and `frame_f1`; `ceiling`, the mean of the greatest AOS that the grid and the longest
        answer allow; and the same scores of two answers without a reader: `whole`, all of the
        passage, and `constant`, one stretch for all questions (`best_constant`), with its `start_s`
        and `end_s`.

    Raises:
        ValueError: there is no question.
    """
    if not len(answers_nA2):
        raise ValueError("no answers to score against")
    constant = best_constant(answers_nA2)
    zeros_n = np.zeros(len(answers_nA2))
    return {
        **_means(answers_nA2, outputs_nQ[:, :2]),
        "ceiling": float(np.asarray(outputs_nQ[:, 3], np.float64).mean()),
        "whole": _means(answers_nA2, np.stack([zeros_n, seconds_n], 1)),
        "constant": {
            **_means(answers_nA2, np.tile(np.array(constant), (len(answers_nA2), 1))),
            "start_s": constant[0],
            "end_s": constant[1],
        },
    }


def _means(answers_nA2: Array, spans_n2: Array) -> dict[str, float]:
    scores = overlap_scores(answers_nA2, spans_n2)
    return {name: float(of.mean()) for name, of in zip(SCORES, scores, strict=True)}


def best_constant(answers_nA2: Array) -> tuple[float, float]:
    """The one stretch with the greatest mean AOS if it answers every question.

    It begins where some answer begins and ends where some answer ends: between two such places the
    score of each question is convex in either end, so nothing inside can be greater than both. With
    more than `MOST_ENDS` starts or ends, so many of them are tried, evenly by rank.
    """
    answers_nA2 = np.ascontiguousarray(answers_nA2, np.float64)
    return _best_constant(answers_nA2.tobytes(), answers_nA2.shape)


@lru_cache(maxsize=8)
def _best_constant(content: bytes, shape: tuple[int, ...]) -> tuple[float, float]:
    answers_nA2 = np.frombuffer(content, np.float64).reshape(shape)
    real_K2 = answers_nA2[answers_nA2[..., 1] > answers_nA2[..., 0]]
    starts, ends = (_spread(np.unique(column)) for column in real_K2.T)
    pairs_P2 = np.array([(a, b) for a in starts for b in ends if a < b])
    several = max(1, _PAIRS_AT_ONCE // answers_nA2[..., 0].size)
    sums_P = np.concatenate(
        [_sums(answers_nA2, pairs_P2[i : i + several]) for i in range(0, len(pairs_P2), several)]
    )
    start_s, end_s = pairs_P2[int(sums_P.argmax())]
    return float(start_s), float(end_s)


def _spread(values: Array) -> Array:
    """At most `MOST_ENDS` of some sorted values, evenly by rank, with the first and the last."""
    if len(values) <= MOST_ENDS:
        return values
    return np.asarray(values[np.linspace(0, len(values) - 1, MOST_ENDS).round().astype(int)])


def _sums(answers_nA2: Array, pairs_P2: Array) -> Array:
    """The sum of AOS over the questions `[P]`, by each stretch."""
    start_P11, end_P11 = pairs_P2.T[..., None, None]
    aos_PnA, _ = _scores(answers_nA2[..., 0], answers_nA2[..., 1], start_P11, end_P11)
    return np.asarray(aos_PnA.max(2).sum(1))
