"""AOS and frame F1 of stretches of time: against cells of 1 ms, and the best constant answer."""

import itertools

import numpy as np
import pytest

from pipeline.tasks.spans import overlap
from pipeline.tasks.spans.overlap import best_constant, overlap_scores, score_spans

MS = 1000


def counted(answers, span):
    """AOS and F1 by counting cells of 1 ms, and the greatest over the answers."""
    own = {ms for ms in range(200) if span[0] <= ms < span[1]}
    aos, f1 = [0.0], [0.0]
    for start, end in answers:
        true = {ms for ms in range(200) if start <= ms < end}
        shared = len(own & true)
        if shared:
            aos.append(shared / len(own | true))
            precision, recall = shared / len(own), shared / len(true)
            f1.append(2 * precision * recall / (precision + recall))
    return max(aos), max(f1)


def test_scores_are_those_of_counting_milliseconds():
    rng = np.random.default_rng(0)
    made = [
        (np.sort(rng.integers(0, 60, (rng.integers(1, 4), 2)), 1), np.sort(rng.integers(0, 60, 2)))
        for _ in range(200)
    ]
    answers = np.zeros((len(made), 3, 2))
    for i, (several, _) in enumerate(made):
        answers[i, : len(several)] = several
    spans = np.array([span for _, span in made], float)
    got = overlap_scores(answers / MS, spans / MS)
    wanted = np.array([counted(several, span) for several, span in made]).T
    assert np.abs(np.stack(got) - wanted).max() < 1e-9


def dual(pred, gold):
    """AOS and F1 by the algebra of the released code of DUAL."""
    if pred[1] <= gold[0] or pred[0] >= gold[1]:
        return 0.0, 0.0
    shared = min(pred[1], gold[1]) - max(pred[0], gold[0])
    aos = shared / (max(pred[1], gold[1]) - min(pred[0], gold[0]))
    precision, recall = shared / (pred[1] - pred[0]), shared / (gold[1] - gold[0])
    return aos, 2 * precision * recall / (precision + recall)


def test_scores_are_those_of_the_formula_with_greatest_and_least_ends():
    rng = np.random.default_rng(0)
    gold, pred = (np.sort(rng.uniform(0, 10, (200, 2)), 1) for _ in range(2))
    got = overlap_scores(gold[:, None], pred)
    assert (
        np.abs(np.stack(got, 1) - [dual(*pair) for pair in zip(pred, gold, strict=True)]).max()
        < 1e-12
    )


@pytest.mark.parametrize(
    ("answer", "span", "aos"),
    [
        ((2.0, 3.0), (2.0, 3.0), 1.0),
        ((2.0, 3.0), (4.0, 5.0), 0.0),
        ((2.0, 3.0), (3.0, 4.0), 0.0),  # they touch
        ((2.0, 3.0), (2.5, 2.5), 0.0),  # an empty answer is given
        ((0.0, 0.0), (0.0, 0.0), 0.0),  # there is none
        ((2.0, 3.0), (3.0, 2.0), 0.0),  # backwards
    ],
)
def test_edges(answer, span, aos):
    got, f1 = overlap_scores(np.array([[answer]]), np.array([span]))
    assert got[0] == f1[0] == aos


def test_the_best_constant_answer_is_the_best_of_all_stretches():
    rng = np.random.default_rng(1)
    answers = np.sort(rng.integers(0, 30, (12, 2, 2)), 2).astype(float)
    start, end = best_constant(answers)
    got = overlap_scores(answers, np.tile([start, end], (12, 1)))[0].mean()
    steps = np.arange(0, 30.25, 0.25)
    every = max(
        overlap_scores(answers, np.tile(pair, (12, 1)))[0].mean()
        for pair in itertools.combinations(steps, 2)
    )
    assert got >= every - 1e-12


def test_many_answers_are_tried_by_rank(monkeypatch):
    monkeypatch.setattr(overlap, "MOST_ENDS", 3)
    starts = np.arange(10.0)
    answers = np.stack([starts, starts + 5], 1)[:, None]
    assert best_constant(answers)[0] in (0.0, 4.0, 9.0)


def test_metrics_stand_beside_those_of_answers_without_a_reader():
    answers = np.array([[[1.0, 2.0], [0, 0]], [[1.0, 3.0], [5.0, 6.0]]])
    outputs = np.array([[1.0, 2.0, -1.0, 0.9], [5.0, 7.0, -1.0, 0.7]])
    metrics = score_spans(answers, outputs, np.array([4.0, 8.0]))
    assert metrics["aos"] == (1 + 0.5) / 2
    assert metrics["frame_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics["ceiling"] == pytest.approx(0.8)
    assert metrics["whole"]["aos"] == (1 / 4 + 2 / 8) / 2
    assert metrics["constant"]["aos"] == (0.5 + 1) / 2
    assert metrics["constant"]["start_s"] == 1.0
    assert metrics["constant"]["end_s"] in (2.0, 3.0)  # as good as each other


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="no answers"):
        score_spans(np.zeros((0, 1, 2)), np.zeros((0, 4)), np.zeros(0))
